// SPDX-License-Identifier: GPL-3.0-or-later
// The checker-runner's end of the door: carries out the monitor's messages, and reports how each
// checker ended.
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
  /// All references must outlive this object, and `loop` must not run after it is destroyed.
  Runner(EventLoop& loop, Log& log, UniqueFd door);

  /// Runs `loop` until the monitor closes the door or SIGTERM arrives, and returns 0. Returns 1 if
  /// the monitor violates the door's rules, or if nothing can be run. No started process is left
  /// then.
  int run();

 private:
  using ToCheckerRunner = door::checker_runner::ToCheckerRunner;

  void received(const Channel::Datagram& datagram);
  /// False if the message violates the rules of the door.
  bool obey(const ToCheckerRunner& message);
  /// Judges the commands that the monitor has sent, all that came together, with one log line per
  /// warning. Uses a separate process, because looking for a program may block on a file system
  /// that hangs, and checks must not wait for that.
  void begin_judging();

  EventLoop& loop_;
  Log& log_;
  Checkers checkers_;
  std::vector<ToCheckerRunner::Judge> to_judge_;
  Door door_;
};

}  // namespace mandos::checker_runner
