// SPDX-License-Identifier: GPL-3.0-or-later
// Receives another process's log lines, and bounds, escapes and labels them, so that a compromised
// process can neither fill a disk nor forge a line.
#pragma once

#include <functional>
#include <string>

#include "common/event_loop.h"
#include "common/log.h"
#include "common/token_bucket.h"
#include "common/unique_fd.h"

namespace mandos::monitor {

class LogInlet {
 public:
  /// Writes the lines from `log_socket` to `log`, each behind `label`. Calls `on_broken` if a
  /// descriptor comes with a line; nothing more is then read from the socket.
  LogInlet(EventLoop& loop, UniqueFd log_socket, std::string label, Log& log,
           std::function<void(const std::string& why)> on_broken);
  ~LogInlet();
  LogInlet(const LogInlet&) = delete;
  LogInlet& operator=(const LogInlet&) = delete;

 private:
  void ready();

  EventLoop& loop_;
  UniqueFd socket_;
  std::string label_;
  Log& log_;
  std::function<void(const std::string& why)> on_broken_;
  TokenBucket rate_{50, 500};
  unsigned long suppressed_ = 0;
};

}  // namespace mandos::monitor
