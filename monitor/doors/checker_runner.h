// SPDX-License-Identifier: GPL-3.0-or-later
// The door to the checker-runner: commands out, wait statuses in.
#pragma once

#include <checker_runner.pb.h>

#include <functional>
#include <span>
#include <string>
#include <unordered_set>

#include "common/channel.h"
#include "common/event_loop.h"
#include "common/log.h"
#include "monitor/doors/door_table.h"
#include "monitor/registry.h"

namespace mandos::monitor {

class CheckerRunnerDoor : public ChildDoor<CheckerRunnerDoor, door::checker_runner::ToMonitor,
                                           door::checker_runner::ToCheckerRunner> {
 public:
  /// `on_broken`: the checker-runner is gone or broke a rule. It must be restarted, and this object
  /// destroyed; every running checker is then lost. `on_alive` is called once, when the
  /// checker-runner answers its first Ping.
  CheckerRunnerDoor(EventLoop& loop, Registry& registry, UniqueFd door, LogLevel level,
                    bool show_output, std::function<void(const std::string& why)> on_broken,
                    std::function<void()> on_alive = {});
  ~CheckerRunnerDoor();

  void run(CheckerId checker, const std::string& command);
  void kill(CheckerId checker);
  /// Has the checker-runner log a warning for each checker whose program cannot be run.
  void judge();

 private:
  using ToMonitor = door::checker_runner::ToMonitor;
  friend class DoorTable<CheckerRunnerDoor, ToMonitor>;
  friend ChildDoor;
  enum State : unsigned { kAbsent = 1, kRunning = 2, kAsked = 4 };
  static std::span<const DoorRow<CheckerRunnerDoor, ToMonitor>> rows();

  unsigned state_of(const ToMonitor& message) const;
  void finished(const ToMonitor& message);

  Registry& registry_;
  std::function<void(const std::string& why)> on_broken_;
  std::unordered_set<CheckerId> running_;
};

}  // namespace mandos::monitor
