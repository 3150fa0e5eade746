// SPDX-License-Identifier: GPL-3.0-or-later
// The checker-runner's end of the door: does what the monitor says, and tells how each checker
// ended.
#pragma once

#include <vector>

#include "checker-runner/checker.h"
#include "common/channel.h"
#include "common/event_loop.h"
#include "common/log.h"

#include "checker_runner.pb.h"

namespace mandos::checker_runner {

class Runner {
 public:
  /// All references must outlive this, and `loop` must not run after it.
  Runner(EventLoop& loop, Log& log, UniqueFd door);

  /// Runs `loop` until the monitor closes the door or SIGTERM comes, and returns 0; 1 when the
  /// monitor breaks the door's rules, or when nothing can be run. No process that was started is
  /// left then.
  int run();

 private:
  using ToCheckerRunner = door::checker_runner::ToCheckerRunner;

  void received(const Channel::Datagram& datagram);
  /// False when the message breaks the rules of the door.
  bool obey(const ToCheckerRunner& message);
  /// Judges the commands that the monitor has handed over, all that came together, with one line
  /// for each warning. In a process of its own: whoever looks for a program may wait for a file
  /// system that hangs, and no check waits for that.
  void begin_judging();

  EventLoop& loop_;
  Log& log_;
  Checkers checkers_;
  std::vector<ToCheckerRunner::Judge> to_judge_;
  Door door_;
};

}  // namespace mandos::checker_runner
