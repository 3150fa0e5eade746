// SPDX-License-Identifier: GPL-3.0-or-later
// The life of the monitor, from its first message to its last: it has the other processes started,
// reads the configuration, enters its jail, serves, reloads and ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "monitor/doors/bus_agent.h"
#include "monitor/doors/checker_runner.h"
#include "monitor/doors/networker.h"
#include "monitor/doors/supervisor.h"
#include "monitor/file_disk.h"
#include "monitor/listeners.h"
#include "monitor/log_inlet.h"
#include "monitor/network_watch.h"
#include "monitor/object_path.h"
#include "monitor/registry.h"
#include "monitor/settings.h"
#include "monitor/state.h"

namespace mandos::monitor {

class Server {
 public:
  Server(EventLoop& loop, Log& log, CommandLine command_line, UniqueFd supervisor_door);
  /// Lives as long as the process. During destruction, members would call others that are gone.
  ~Server() = delete;

  /// Returns 0 when the supervisor says stop, and 1 if the server cannot serve; the log says why.
  int run() { return loop_.run(); }

 private:
  /// A running process whose door cannot be opened yet.
  struct Arrival {
    door::supervisor::ToMonitor::Started message;
    UniqueFd door;
  };
  using Key = std::pair<Role, std::uint32_t>;

  using Begin = door::supervisor::ToMonitor::Begin;

  void begin(const Begin& message, std::vector<UniqueFd> listeners);
  void started(const door::supervisor::ToMonitor::Started& message, UniqueFd door, UniqueFd log);
  void serve(const std::vector<std::string>& readable);
  void open_door(Arrival arrival);
  void tick();
  void broke(Key key, pid_t pid, const std::string& why, bool hangs = false);
  void greeted(Role role, const std::string& problem);
  bool announce();
  void load_and_serve();
  void warn_of_new_settings(std::vector<std::string>& warnings) const;
  Result<StateStore::Loaded> open_state(std::vector<std::string>& warnings, bool& in_use);
  void reload(std::uint64_t serial);
  void yield(std::uint64_t serial, std::vector<std::string> problems);
  bool find_network(bool inherited);
  void network_event();
  void look_at_network();
  std::string awaited() const;
  void tell_status();
  /// Gives up the state of clients that clients.conf does not have.
  void forget_absent();
  void stop(int status);
  void finish(int status);
  void fail(const std::string& why) {
    log_.critical(why);
    loop_.stop(1);
  }
  Registry::Outlets outlets();

  EventLoop& loop_;
  Log& log_;
  CommandLine command_line_;
  Settings settings_;
  std::string settings_text_;  // mandos.conf as it was when the server started
  std::vector<UniqueFd> listeners_;
  Families families_;  // theirs
  UniqueFd null_;      // /dev/null, from the jail until everybody is served
  ObjectPaths object_paths_;
  StateStore state_{"there is no state directory yet"};
  FileDisk disk_;
  Registry registry_;
  std::map<Key, std::unique_ptr<LogInlet>> log_inlets_;
  std::map<Key, pid_t> wanted_;  // what we asked for, and its process once it runs
  std::vector<Arrival> arrivals_;
  std::map<std::uint32_t, std::unique_ptr<NetworkerDoor>> networkers_;
  std::unique_ptr<CheckerRunnerDoor> checker_runner_;
  std::unique_ptr<BusAgentDoor> bus_agent_;
  std::size_t greetings_awaited_ = 0;
  std::string interface_;  // that we are bound to, or none
  std::optional<NetworkWatch> network_watch_;
  NetworkWatch::View network_;
  Instant looked_{};
  unsigned looks_due_ = 0;
  std::string status_;
  std::string errors_;             // in the files of the start, so that clients are missing
  std::vector<std::string> said_;  // of errors and warnings at the start
  bool restarted_ = false;
  bool renewed_ = false;  // for a reload
  unsigned ticks_ = 0;
  bool unsaved_ = false;          // started without restoring, and could not set the state aside
  std::set<std::string> absent_;  // clients without a section whose state is kept
  decltype(StateStore::Loaded::damaged) damaged_;  // the state files of others without a section
  bool serving_ = false;
  bool ready_ = false;
  bool stopping_ = false;
  SupervisorDoor supervisor_;
};

}  // namespace mandos::monitor
