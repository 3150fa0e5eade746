// SPDX-License-Identifier: GPL-3.0-or-later
// Has the configuration read again and reports the outcome to those who asked. Every connection to
// the control socket is such a request; nothing is read from it.
//
// First, a separate process (--check) reads the files. If it finds an error, the reload fails with
// it. A disk that hangs blocks only that process, and a reload for which it takes too long fails.
// If there is no error, the monitor reads the files, in its jail and from the kernel's cache. (On a
// slow file system without a cache, nobody is served for about as long as the inspection took.) If
// the jail denies the monitor a file, a fresh monitor reads it; any other error means that a file
// changed meanwhile. So errors change nothing, and moved files are read where they are now.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace mandos::supervisor {

/// Every reload ends within this time. Twice as long, for one that has to wait for another, is less
/// than a service manager waits.
inline constexpr Milliseconds kLongestReload = std::chrono::seconds(40);
/// The part of that for checking the files. A monitor has 30 s to read them.
inline constexpr Milliseconds kLongestInspection = std::chrono::seconds(12);

class Reloads {
 public:
  struct Hooks {
    /// Asks the monitor; answered() follows, unless the monitor ends first.
    std::function<void(std::uint64_t serial)> ask;
    /// Starts --check with this standard output; ended() follows.
    std::function<Result<pid_t>(int output)> inspect;
    /// Replaces the monitor.
    std::function<void()> renew;
    /// errors() has changed.
    std::function<void()> on_errors;
  };
  Reloads(EventLoop& loop, Log& log, Hooks hooks);
  ~Reloads();

  /// Opens the control socket, unless another server uses it.
  Status listen();
  /// A request from somebody who expects no answer.
  void request();

  /// A monitor serves. Says whether all clients are served, and what to report about the files.
  void monitor_ready(bool complete, std::string_view text);
  void monitor_ended();
  void answered(std::uint64_t serial, bool ok, bool yields, std::string_view text);
  /// Call periodically: creates the control socket again if somebody removed it, possibly with its
  /// directory, and locks that.
  void tick();
  /// Whether the process that ended was our inspection.
  bool ended(pid_t pid, int wait_status);
  pid_t inspector() const { return inspector_; }
  /// For the server's status: since when the files have errors. Empty if they have none.
  const std::string& errors() const { return errors_; }

 private:
  enum class State { kIdle, kWaiting, kInspecting, kReading, kRenewing, kStarting };

  void accept();
  void next();
  void set_deadline(Instant when);
  void too_late();
  void inspect();
  void read_report();
  void end_line();
  void finish(bool ok, std::string text);

  EventLoop& loop_;
  Log& log_;
  Hooks hooks_;
  UniqueFd socket_;
  UniqueFd lock_;  // on a folder that was created again
  State state_ = State::kIdle;
  bool monitor_is_ready_ = false;
  bool wanted_ = false;  // by a request that came after the files were read
  std::vector<UniqueFd> newcomers_;
  std::vector<UniqueFd> answering_;
  std::uint64_t serial_ = 0;
  Instant over_{};  // the deadline
  std::optional<EventLoop::TimerId> deadline_;
  pid_t inspector_ = -1;
  UniqueFd report_;  // output of the inspection
  std::string reported_;
  std::string line_;  // its last line, still incomplete
  std::size_t left_out_ = 0;
  std::string errors_;
};

/// Creates the control socket's directory if necessary, and locks it, which marks this process as a
/// running server. The lock is held until a descriptor of it is closed. The second value names
/// another server that holds it: a process ID, or 0 if that is not visible from here.
std::pair<UniqueFd, std::optional<pid_t>> lock_control_directory();

/// Asks the running server and prints its answer. Returns the exit status of --reload.
Result<int> ask_for_reload();

}  // namespace mandos::supervisor
