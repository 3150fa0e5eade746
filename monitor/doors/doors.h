// SPDX-License-Identifier: GPL-3.0-or-later
// The other processes as the monitor sees them: which ones it has asked for, and for each one that
// runs its log socket and its door.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "monitor/doors/bus_agent.h"
#include "monitor/doors/checker_runner.h"
#include "monitor/doors/networker.h"
#include "monitor/doors/supervisor.h"
#include "monitor/log_inlet.h"
#include "monitor/object_path.h"
#include "monitor/registry.h"
#include "monitor/settings.h"

namespace mandos::monitor {

/// Asks the supervisor for processes, opens their doors, and has those replaced that break a rule
/// or hang.
class Doors {
 public:
  struct Handlers {
    /// Each process that can say so has said that it is ready.
    std::function<void()> all_greeted;
    /// A process cannot work: what the server was told to do is impossible.
    std::function<void(const std::string& why)> failed;
    /// The announcement has been withdrawn.
    std::function<void()> withdrawn;
  };
  /// References must outlive this.
  Doors(EventLoop& loop, Log& log, Registry& registry, SupervisorDoor& supervisor,
        const Settings& settings, Handlers handlers)
      : loop_(loop),
        log_(log),
        registry_(registry),
        supervisor_(supervisor),
        settings_(settings),
        handlers_(std::move(handlers)) {}

  /// How the registry reaches the doors.
  Registry::Outlets outlets();
  /// Asks for a process.
  void want(Role role, std::uint32_t index = 0);
  /// One of them runs. Its log lines are read from now on, its door from the next open() on.
  /// Returns whether all of them run now.
  bool started(const door::supervisor::ToMonitor::Started& message, UniqueFd door, UniqueFd log);
  /// Opens the doors of those that have started since the last call. Networkers get `listeners`.
  void open(const std::vector<UniqueFd>& listeners);
  /// Call once a kTick. Patience is counted in these calls, so that time in which the monitor did
  /// not run costs no process its life.
  void ask_alive();

  /// Null while there is none.
  CheckerRunnerDoor* checker_runner() { return checker_runner_.get(); }
  BusAgentDoor* bus_agent() { return bus_agent_.get(); }

 private:
  /// A running process whose door has not been opened.
  struct Arrival {
    door::supervisor::ToMonitor::Started message;
    UniqueFd door;
  };
  using Key = std::pair<Role, std::uint32_t>;

  void open(Arrival arrival, const std::vector<UniqueFd>& listeners);
  void greeted(Role role, const std::string& problem);
  void broke(Key key, pid_t pid, const std::string& why, bool hangs = false);

  EventLoop& loop_;
  Log& log_;
  Registry& registry_;
  SupervisorDoor& supervisor_;
  const Settings& settings_;
  Handlers handlers_;
  ObjectPaths object_paths_;
  std::map<Key, std::unique_ptr<LogInlet>> log_inlets_;
  std::map<Key, pid_t> wanted_;  // what we asked for, and its process once it runs
  std::vector<Arrival> arrivals_;
  std::map<std::uint32_t, std::unique_ptr<NetworkerDoor>> networkers_;  // null while there is none
  std::unique_ptr<CheckerRunnerDoor> checker_runner_;
  std::unique_ptr<BusAgentDoor> bus_agent_;
  std::size_t greetings_ = 0;
};

}  // namespace mandos::monitor
