// SPDX-License-Identifier: GPL-3.0-or-later
// Has the configuration read again and tells those who asked what became of it. Whoever connects to
// the control socket asks; no byte is read from there.
//
// A process of its own (--check) reads the files first. What it finds wrong is why the reload
// failed. A disk that hangs keeps nobody waiting but that process, and a reload that took it too
// long has failed. When nothing is wrong the monitor reads them, in its jail and from the kernel's
// cache. (On a slow file system without one, nobody is served for about as long as the inspection
// took.) What its jail denies it, a fresh monitor reads; any other error is a file that changed
// meanwhile. So errors change nothing, and files that moved are read where they are now.
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

/// A reload is over so soon, whatever happens. Twice as long, for one that has to wait for another,
/// is less than a service manager waits.
inline constexpr Milliseconds kLongestReload = std::chrono::seconds(40);
/// Of a reload, the part in which the files are judged. A monitor is given 30 s to read them.
inline constexpr Milliseconds kLongestInspection = std::chrono::seconds(12);

class Reloads {
 public:
  struct Hooks {
    /// Asks the monitor; answered() follows, unless it ends first.
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

  /// Opens the control socket, unless another server has it.
  Status listen();
  /// Somebody who waits for no answer asks.
  void request();

  /// A monitor serves: whether all clients, and what is to be said of the files.
  void monitor_ready(bool complete, std::string_view text);
  void monitor_ended();
  void answered(std::uint64_t serial, bool ok, bool yields, std::string_view text);
  /// Once in a while: makes the control socket anew if somebody removed it, perhaps with its
  /// directory, and locks that.
  void tick();
  /// Whether the process that ended was ours.
  bool ended(pid_t pid, int wait_status);
  pid_t inspector() const { return inspector_; }
  /// For the server's status: since when the files have errors. Empty: they have none.
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
  UniqueFd lock_;  // on a folder that was made anew
  State state_ = State::kIdle;
  bool monitor_is_ready_ = false;
  bool wanted_ = false;  // by somebody who came after the files were read
  std::vector<UniqueFd> newcomers_;
  std::vector<UniqueFd> answering_;
  std::uint64_t serial_ = 0;
  Instant over_{};  // when it is, at the latest
  std::optional<EventLoop::TimerId> deadline_;
  pid_t inspector_ = -1;
  UniqueFd report_;  // its output
  std::string reported_;
  std::string line_;  // the last one, which is not complete yet
  std::size_t left_out_ = 0;
  std::string errors_;
};

/// Makes the control socket's directory if need be, and locks it, which marks this process as a
/// server that runs. The lock is held until a descriptor of it is closed. The second value names
/// another server that holds it: a process ID, or 0 if that cannot be seen from here.
std::pair<UniqueFd, std::optional<pid_t>> lock_control_directory();

/// Asks the server that runs, and prints what it says. The exit status of --reload.
Result<int> ask_for_reload();

}  // namespace mandos::supervisor
