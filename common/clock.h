// SPDX-License-Identifier: GPL-3.0-or-later
// The two clocks, as two types that cannot be mixed. Only clock.cc reads them, so a test that
// defines BootClock::now() and Moment::now() itself runs on virtual time.
#pragma once

#include <chrono>

namespace mandos {

using Milliseconds = std::chrono::milliseconds;

/// CLOCK_BOOTTIME: monotonic, and goes on while the machine is suspended (clock_gettime(2)).
/// Schedules and deadlines run on it.
struct BootClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept;
};
using Instant = BootClock::time_point;

/// Wall time in UTC: for people and for the state files, never for a schedule.
using WallTime = std::chrono::sys_time<std::chrono::microseconds>;

/// One reading of both clocks: the time of an event.
struct Moment {
  Instant boot;
  WallTime wall;
  static Moment now() noexcept;
};

}  // namespace mandos
