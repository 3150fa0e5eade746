// SPDX-License-Identifier: GPL-3.0-or-later
// Notifies the service manager: sd_notify(3) and sd_watchdog_enabled(3), without their library.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/clock.h"

namespace mandos::supervisor {

class Notify {
 public:
  /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes them from the environment, so
  /// that no child can send notifications for us.
  Notify();
  /// Sends one notification, such as "READY=1". Does nothing without a service manager.
  void send(std::string_view state) const;
  /// How often "WATCHDOG=1" is expected, if at all.
  std::optional<Milliseconds> watchdog() const { return watchdog_; }

 private:
  std::string path_;
  std::optional<Milliseconds> watchdog_;
};

}  // namespace mandos::supervisor
