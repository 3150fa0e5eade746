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

class CheckerRunnerDoor {
 public:
  /// `on_broken`: the checker-runner is gone or broke a rule. It must be started afresh and this
  /// object destroyed; every checker that ran is lost. `on_alive` is called once, when it answers
  /// its first Ping.
  CheckerRunnerDoor(EventLoop& loop, Registry& registry, UniqueFd door, LogLevel level,
                    bool show_output, std::function<void(const std::string& why)> on_broken,
                    std::function<void()> on_alive = {});
  ~CheckerRunnerDoor();

  void run(CheckerId checker, const std::string& command);
  void kill(CheckerId checker);
  /// Asks whether the checker-runner is alive, once a kTick. False: it hangs.
  bool ask_alive() {
    return monitor::ask_alive<door::checker_runner::ToCheckerRunner>(heartbeat_, door_);
  }

 private:
  using ToMonitor = door::checker_runner::ToMonitor;
  friend class DoorTable<CheckerRunnerDoor, ToMonitor>;
  enum State : unsigned { kAbsent = 1, kRunning = 2, kAsked = 4 };
  static std::span<const DoorRow<CheckerRunnerDoor, ToMonitor>> rows();

  unsigned state_of(const ToMonitor& message) const;
  void finished(const ToMonitor& message);
  void pong(const ToMonitor& message);

  Registry& registry_;
  std::function<void(const std::string& why)> on_broken_;
  std::function<void()> on_alive_;
  Heartbeat heartbeat_ = child_heartbeat();
  std::unordered_set<CheckerId> running_;
  DoorTable<CheckerRunnerDoor, ToMonitor> table_{rows()};
  Door door_;
};

}  // namespace mandos::monitor
