// SPDX-License-Identifier: GPL-3.0-or-later
// The running checkers, and what they have started.
#pragma once

#include <spawn.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace mandos::checker_runner {

/// Parses the process IDs of /proc/PID/task/TID/children (proc(5)).
std::vector<pid_t> parse_children(std::string_view list);

/// Runs commands with the shell, each as the leader of its own process group, and leaves no process
/// behind. Every process that a checker starts, directly or not, ends with it: the members of its
/// group at once, others soon after their parent's end has made them our children (this process is
/// a "child subreaper", prctl(2)).
///
/// Such an orphan is recognized by its RLIMIT_LOCKS (setrlimit(2)): it is inherited, has no effect
/// since Linux 2.4.25, cannot be raised again, and so can carry a number for each checker.
class Checkers {
 public:
  /// `wait_status` as from wait(2); none if the command could not be started.
  using Finished = std::function<void(std::uint64_t checker, std::optional<int> wait_status)>;

  /// Limit of concurrent checkers; more are not started.
  static constexpr std::size_t kMost = 4096;

  Checkers(EventLoop& loop, Log& log, Finished finished);
  ~Checkers();
  Checkers(const Checkers&) = delete;
  Checkers& operator=(const Checkers&) = delete;

  /// Opens what is needed and makes this process the subreaper. Call once, before run().
  Status prepare();
  /// Logs the output of future checkers at level DEBUG: the first lines of each, prefixed with its
  /// command. By default it is discarded.
  void show_output(bool show) { show_output_ = show; }

  bool runs(std::uint64_t checker) const { return pids_.contains(checker); }
  /// Starts `command`; `finished` is called exactly once for it, possibly before this returns.
  /// `checker` must not be running.
  void run(std::uint64_t checker, const std::string& command);
  /// Sends SIGKILL to the whole group: a checker that gets SIGTERM could answer it with success.
  /// Does nothing if it has finished.
  void kill(std::uint64_t checker);
  /// Call at SIGCHLD.
  void reap();
  /// A child that is neither a checker nor an orphan, until it ends; one at a time.
  void spare(pid_t helper) { helper_ = helper; }
  bool spares_one() const { return helper_ > 0; }
  /// Kills all checkers and all other descendants and waits for them, at most for seconds. Does not
  /// call `finished`. SIGCHLD must be blocked.
  void end_all();

 private:
  struct Running {
    std::uint64_t checker;
    rlim_t tag;
  };
  /// The output of a running checker, if it is logged.
  struct Output {
    UniqueFd pipe;  // none: the checker has closed it
    std::string label;
    std::string line{};  // the incomplete last line
    unsigned lines = 0;
  };
  /// Reads what is in the pipe, or a part of it. Returns false at its end.
  bool read_output(Output& output);
  void end_line(Output& output);
  void close_output(Output& output);
  void finish_output(std::uint64_t checker);
  std::vector<pid_t> children() const;
  void kill_orphans();

  EventLoop& loop_;
  Log& log_;
  Finished finished_;
  bool show_output_ = false;
  UniqueFd null_;
  UniqueFd children_file_;
  rlim_t tag_ = 0;
  std::optional<EventLoop::TimerId> search_;
  posix_spawnattr_t attributes_{};
  posix_spawn_file_actions_t silent_{};
  std::unordered_map<pid_t, Running> running_;
  std::unordered_map<std::uint64_t, pid_t> pids_;
  std::unordered_map<std::uint64_t, Output> outputs_;
  std::set<rlim_t> tags_;  // of running checkers
  pid_t helper_ = -1;
};

}  // namespace mandos::checker_runner
