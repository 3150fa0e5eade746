// SPDX-License-Identifier: GPL-3.0-or-later
// Everything that the supervisor does to other processes. Tests replace it with a table, and so
// need no processes and no real time.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/result.h"
#include "supervisor/spawn.h"

namespace mandos::supervisor {

class Processes {
 public:
  virtual ~Processes() = default;
  virtual Result<pid_t> start(const Program& program, const std::vector<std::string>& arguments,
                              const Descriptors& descriptors) {
    return spawn(program, arguments, descriptors);
  }
  /// Sends SIGKILL; never to a process group or to everybody, as kill(2) does for 0 and -1.
  virtual void end(pid_t pid);
  /// Reaps a child and sets its wait status. Not positive: no child has ended. With `wait`, that
  /// takes a moment, for a caller that polls.
  virtual pid_t reap(int& wait_status, bool wait);
  /// As ps(1) shows it, for a log line; empty if it cannot be read.
  virtual std::string name(pid_t pid);
  /// Every child process, including adopted orphans.
  virtual std::vector<pid_t> children();
};

}  // namespace mandos::supervisor
