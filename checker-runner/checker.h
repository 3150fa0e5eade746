// SPDX-License-Identifier: GPL-3.0-or-later
// The checkers that run, and what they have started.
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

/// The process numbers in a list as /proc/PID/task/TID/children has it (proc(5)).
std::vector<pid_t> parse_children(std::string_view list);

/// Runs commands by the shell, each as leader of a process group of its own, and leaves nothing of
/// them behind. Every process that a checker starts, directly or not, ends with it: the members of
/// its group at once, others soon after their parents' end has made them ours (the process is a
/// "child subreaper", prctl(2)).
///
/// Such an orphan is known by its limit RLIMIT_LOCKS (setrlimit(2)): inherited, without effect
/// since Linux 2.4.25, never raised again, and so free to carry a number for each checker.
class Checkers {
 public:
  /// `wait_status` as wait(2) gives it; none when the command could not be started.
  using Finished = std::function<void(std::uint64_t checker, std::optional<int> wait_status)>;

  /// Most checkers at a time; more are not started.
  static constexpr std::size_t kMost = 4096;

  Checkers(EventLoop& loop, Log& log, Finished finished);
  ~Checkers();
  Checkers(const Checkers&) = delete;
  Checkers& operator=(const Checkers&) = delete;

  /// Opens what is needed and makes this process the one that orphans come to. Once, before run().
  Status prepare();
  /// Log what the checkers of the future print, at level DEBUG: each of their first lines behind
  /// their command. Otherwise it is thrown away.
  void show_output(bool show) { show_output_ = show; }

  bool runs(std::uint64_t checker) const { return pids_.contains(checker); }
  /// Starts `command`; `finished` is called exactly once for it, perhaps at once. `checker` is not
  /// running.
  void run(std::uint64_t checker, const std::string& command);
  /// SIGKILL for the whole group: a checker that asked for SIGTERM could answer it by success.
  /// Nothing when it has finished.
  void kill(std::uint64_t checker);
  /// To be called at SIGCHLD.
  void reap();
  /// A child of ours that is no checker, and no orphan, until it ends; one at a time.
  void spare(pid_t helper) { helper_ = helper; }
  bool spares_one() const { return helper_ > 0; }
  /// Ends every checker and every descendant of ours and waits for them, for seconds at most. Does
  /// not call `finished`. SIGCHLD must be blocked.
  void end_all();

 private:
  struct Running {
    std::uint64_t checker;
    rlim_t tag;
  };
  /// Of a checker that runs and whose output is shown.
  struct Output {
    UniqueFd pipe;  // none: it has closed it
    std::string label;
    std::string line{};  // not ended yet
    unsigned lines = 0;
  };
  /// What is in the pipe, or a part of it. False: there will be nothing more.
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
  std::set<rlim_t> tags_;  // of the running ones
  pid_t helper_ = -1;
};

}  // namespace mandos::checker_runner
