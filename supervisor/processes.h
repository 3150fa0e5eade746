// SPDX-License-Identifier: GPL-3.0-or-later
// Everything that the supervisor does to other processes. A test has a table in its place, and so
// needs no process and no real time.
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
  /// SIGKILL; never for a process group or everybody, kill(2) takes 0 and -1 for that.
  virtual void end(pid_t pid);
  /// A child that ended, and its wait status. Not positive: none. With `wait` a moment passes then,
  /// for a caller that asks until one has.
  virtual pid_t reap(int& wait_status, bool wait);
  /// As ps(1) shows it, for a log line; empty if that cannot be read.
  virtual std::string name(pid_t pid);
  /// Every process whose parent we are, adopted orphans too.
  virtual std::vector<pid_t> children();
};

}  // namespace mandos::supervisor
