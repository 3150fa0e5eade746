// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/clock.h"

#include <ctime>

namespace mandos {

BootClock::time_point BootClock::now() noexcept {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return time_point(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
}

Moment Moment::now() noexcept {
  return {BootClock::now(), std::chrono::time_point_cast<std::chrono::microseconds>(
                                std::chrono::system_clock::now())};
}

}  // namespace mandos
