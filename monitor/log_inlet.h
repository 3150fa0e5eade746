// SPDX-License-Identifier: GPL-3.0-or-later
// Where another process's log lines come in: bounded, escaped and labelled, so that a process gone
// bad can neither fill a disk nor forge a line.
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
  /// Lines from `log_socket` go to `log`, each behind `label`. `on_broken`: a descriptor came with
  /// one, and nothing is read from there any more.
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
