// SPDX-License-Identifier: GPL-3.0-or-later
// The life of the monitor, from its first message to its last: it has the other processes started,
// reads the configuration, enters its jail, serves, reloads and ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "monitor/client_loader.h"
#include "monitor/doors/doors.h"
#include "monitor/doors/supervisor.h"
#include "monitor/file_disk.h"
#include "monitor/listeners.h"
#include "monitor/network_watch.h"
#include "monitor/registry.h"
#include "monitor/settings.h"
#include "monitor/state.h"

namespace mandos::monitor {

class Monitor {
 public:
  Monitor(EventLoop& loop, Log& log, CommandLine command_line, UniqueFd supervisor_door);
  /// Lives as long as the process. During destruction, members would call others that are gone.
  ~Monitor() = delete;

  /// Returns 0 when the supervisor says stop, and 1 if the server cannot serve; the log says why.
  int run() { return loop_.run(); }

 private:
  /// Each follows the one before, and none comes twice.
  enum class Phase {
    kStarting,  // the processes that were asked for start, and mandos.conf is read: until all run
    kGreeting,  // the jail is closed and the doors are open: until each process says that it is
                // ready
    kServing,   // the supervisor knows that we serve: until it says stop
    kStopping,  // the announcement is withdrawn, then the last changes go to disk
  };
  void begin(const door::supervisor::ToMonitor::Begin& message, std::vector<UniqueFd> listeners);
  void started(const door::supervisor::ToMonitor::Started& message, UniqueFd door, UniqueFd log);
  void serve(const std::vector<std::string>& readable);
  void tick();
  void all_greeted();
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
  void stop();
  void finish();
  void fail(const std::string& why) {
    log_.critical(why);
    loop_.stop(1);
  }

  EventLoop& loop_;
  Log& log_;
  Phase phase_ = Phase::kStarting;
  CommandLine command_line_;
  Settings settings_;
  std::string settings_text_;  // mandos.conf as it was when the server started
  std::vector<UniqueFd> listeners_;
  Families families_;  // theirs
  UniqueFd null_;      // /dev/null, from the jail until everybody is served
  Doors doors_;
  StateStore state_{"there is no state directory yet"};
  FileDisk disk_;
  Registry registry_;
  ClientLoader clients_;
  std::string interface_;  // that we are bound to, or none
  std::optional<NetworkWatch> network_watch_;
  NetworkWatch::View network_;
  Instant looked_{};
  unsigned looks_due_ = 0;
  std::string status_;
  std::vector<std::string> said_;  // of errors and warnings at the start
  bool restarted_ = false;
  bool renewed_ = false;  // for a reload
  unsigned ticks_ = 0;
  bool unsaved_ = false;  // started without restoring, and could not set the state aside
  SupervisorDoor supervisor_;
};

}  // namespace mandos::monitor
