// SPDX-License-Identifier: GPL-3.0-or-later
// What a service manager is told: sd_notify(3) and sd_watchdog_enabled(3), without their library.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/clock.h"

namespace mandos::supervisor {

class Notify {
 public:
  /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes them from the environment, so
  /// that no child speaks for us.
  Notify();
  /// One notification, such as "READY=1". Without a service manager nothing happens.
  void send(std::string_view state) const;
  /// How often "WATCHDOG=1" is expected, if at all.
  std::optional<Milliseconds> watchdog() const { return watchdog_; }

 private:
  std::string path_;
  std::optional<Milliseconds> watchdog_;
};

}  // namespace mandos::supervisor
