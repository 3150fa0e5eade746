// SPDX-License-Identifier: GPL-3.0-or-later
// Starts the other processes, restarts them when they end, and ends them. It knows no option, no
// setting, no secret, and no byte from the network or the bus.
#pragma once

#include <supervisor.pb.h>
#include <sys/wait.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "common/heartbeat.h"
#include "common/log.h"
#include "supervisor/notify.h"
#include "supervisor/processes.h"
#include "supervisor/reload.h"

namespace mandos::supervisor {

using door::supervisor::Role;
using door::supervisor::ToMonitor;
using door::supervisor::ToSupervisor;

/// The accounts of the three unprivileged processes.
struct Accounts {
  struct Account {
    uid_t uid;
    gid_t gid;
  };
  Account networker, checker_runner, bus_agent;
};
/// Looks up the account names from the build. The Error names an account that is missing, is root,
/// or shares its user ID with another one.
Result<Accounts> find_accounts();

class Supervisor {
 public:
  struct Options {
    std::vector<std::string> arguments;  // from the command line, for the monitor
    bool foreground;
    Accounts accounts;
    std::string jail;  // its layers, for the log
    /// Called once, when everybody is served for the first time.
    std::function<void()> on_ready;
  };
  Supervisor(EventLoop& loop, Log& log, Processes& processes, Notify notify, Options options);

  /// The caller starts the first monitor, while the inherited descriptors are open and none of our
  /// own is.
  static Result<pid_t> start_monitor(Processes& processes,
                                     const std::vector<std::string>& arguments, int door,
                                     bool first);
  /// Takes over a running monitor.
  void adopt_monitor(pid_t pid, UniqueFd door);
  /// From now on, --reload finds this server.
  Status listen() { return reloads_.listen(); }

  /// Runs until a signal (0) or a failure before anybody was served (1) ends the server. No process
  /// that we started, nor a descendant of one, is left.
  int run();

 private:
  struct Child {
    Role role;
    std::uint32_t index;
    pid_t pid = -1;
    unsigned long started = 0;  // at which tick
    Milliseconds delay{0};      // before it is started again
    bool serves = false;        // it has answered the monitor; for the monitor: it was ready
    bool hangs = false;         // and is being ended for that
    bool broke = false;         // violated the rules of its door, or closed it
    std::optional<unsigned long>
        failing_since{};    // tick of the first of the starts that all failed
    std::string trouble{};  // why the last one failed
    // Outlives the process; never interpreted here. Its first bytes say whether there is a note.
    UniqueFd memory{};
  };
  using ChildKey = std::pair<Role, std::uint32_t>;

  /// The child whose process is `pid`; -1: it has none.
  Child* child(const ChildKey& key, pid_t pid);
  void restart_monitor();
  void restart_monitor_later(const std::string& why);
  void renew_monitor(const std::string& why);
  void tell_status();
  void tell_monitor_to_stop();
  void listen_on(unsigned interface);
  void start(Child& child);
  void start_later(Child& child, const std::string& why);
  std::optional<Milliseconds> back_off(Child& child, const char* name, const std::string& why);
  void from_monitor(Channel::Datagram datagram);
  /// Sends the monitor, if there is one, what `fill` makes of an empty message.
  template <class Fill>
  void tell(const Fill& fill, std::span<const int> descriptors = {}) {
    ToMonitor message;
    fill(message);
    if (monitor_) monitor_->send(message, descriptors);
  }
  void on_signal(int signal);
  void reap();
  /// For a failed start: each of our programs prints the reason before it exits with status 1.
  bool has_said_why(int wait_status) const {
    return !was_ready_ && wait_status == W_EXITCODE(EXIT_FAILURE, 0);
  }
  void ended(pid_t pid, int wait_status);
  void replace(Child& child, pid_t pid, int wait_status);
  void end_orphans();
  void monitor_ended(const std::string& how);
  void stop(int status);
  void kill_everything();
  void tick();
  unsigned ticks(Milliseconds duration) const;

  EventLoop& loop_;
  Log& log_;
  Processes& processes_;
  Notify notify_;
  Options options_;
  std::unique_ptr<Door> monitor_;
  Child monitor_process_{};
  std::map<ChildKey, Child> children_;
  std::array<std::uint32_t, door::supervisor::Role_ARRAYSIZE> restarts_{};  // first the monitor's
  std::vector<UniqueFd> listeners_;
  bool listeners_inherited_ = false;
  std::optional<std::string> settings_;  // the text of mandos.conf, which we do not parse
  Reloads reloads_;
  std::string status_text_ = "Starting";
  // Patience is measured in ticks, so that time in which we did not run counts against nobody.
  Milliseconds tick_;
  unsigned long tick_number_ = 0;
  Heartbeat heartbeat_;                          // of the monitor
  std::optional<unsigned long> end_monitor_at_;  // a tick: it was told to end, or must have ended
  bool was_ready_ = false;
  std::string state_;  // which directory it is in, as the monitor said
  bool stopping_ = false;
  std::set<pid_t> orphans_;  // of a checker-runner, killed but not ended yet
  bool orphan_ended_ = false;
  bool renewing_ = false;  // until the next monitor is started
  int status_ = 0;
};

}  // namespace mandos::supervisor
