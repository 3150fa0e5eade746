// SPDX-License-Identifier: GPL-3.0-or-later
#include "checker-runner/checker.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <utility>

#include "common/clock.h"
#include "config.h"

namespace mandos::checker_runner {
namespace {

// Children are listed this rarely because the list grows with the number of running checkers.
constexpr Milliseconds kSearchDelay(100);
// SIGKILL does not end a process in an uninterruptible wait until that is over.
constexpr auto kLongestEnd = std::chrono::seconds(5);
// How much of a checker's output is logged: lines, and bytes per line.
constexpr unsigned kMostLines = 20;
constexpr std::size_t kLongestLine = 400;
// How much of its command is shown before each line.
constexpr std::size_t kLongestLabel = 100;
// How often the pipe is read after a checker has ended. A pipe holds 64 KiB.
constexpr int kMostLastReads = 5;

/// Standard input is `null`, standard output and error are `output`, and nothing else is open.
Status prepare_descriptors(posix_spawn_file_actions_t& actions, int null, int output) {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (const int failed =
            posix_spawn_file_actions_adddup2(&actions, fd == STDIN_FILENO ? null : output, fd)) {
      return errno_error(failed, "posix_spawn_file_actions_adddup2");
    }
  }
  if (const int failed = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1)) {
    return errno_error(failed, "posix_spawn_file_actions_addclosefrom_np");
  }
  return Ok{};
}

}  // namespace

std::vector<pid_t> parse_children(std::string_view list) {
  std::vector<pid_t> pids;
  while (!list.empty()) {
    const std::size_t end = list.find(' ');
    pid_t pid = 0;
    if (parse_number(list.substr(0, end), pid) && pid > 0) pids.push_back(pid);
    list.remove_prefix(end == std::string_view::npos ? list.size() : end + 1);
  }
  return pids;
}

Checkers::Checkers(EventLoop& loop, Log& log, Finished finished)
    : loop_(loop), log_(log), finished_(std::move(finished)) {
  posix_spawnattr_init(&attributes_);
  posix_spawn_file_actions_init(&silent_);
}

Checkers::~Checkers() {
  if (search_) loop_.cancel(*search_);
  for (auto& [checker, output] : outputs_) close_output(output);
  posix_spawn_file_actions_destroy(&silent_);
  posix_spawnattr_destroy(&attributes_);
}

Status Checkers::prepare() {
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setflags(&attributes_,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes_, 0);
  posix_spawnattr_setsigmask(&attributes_, &none);
  posix_spawnattr_setsigdefault(&attributes_, &all);
  null_.reset(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_) return errno_error(errno, "/dev/null");
  if (auto prepared = prepare_descriptors(silent_, null_.get(), null_.get()); !prepared) {
    return prepared;
  }
  children_file_.reset(open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC));
  if (!children_file_) return errno_error(errno, "/proc/thread-self/children");
  rlimit locks{};
  if (getrlimit(RLIMIT_LOCKS, &locks) != 0) return errno_error(errno, "RLIMIT_LOCKS");
  tag_ = locks.rlim_max;
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
    return errno_error(errno, "PR_SET_CHILD_SUBREAPER");
  }
  return Ok{};
}

void Checkers::run(std::uint64_t checker, const std::string& command) {
  if (running_.size() >= kMost) {
    log_.warning("checker not started: ", kMost, " run already");
    return finished_(checker, std::nullopt);
  }
  if (command.find('\0') != std::string::npos) {
    log_.warning("checker not started: a zero byte in its command");
    return finished_(checker, std::nullopt);
  }
  if (tag_ > 0) --tag_;
  const rlimit tag{tag_, tag_};
  setrlimit(RLIMIT_LOCKS, &tag);
  static constexpr std::string_view kShell = MANDOS_SHELL;
  std::array<char*, 4> arguments{const_cast<char*>(kShell.data()), const_cast<char*>("-c"),
                                 const_cast<char*>(command.c_str()), nullptr};
  std::array<int, 2> ends{-1, -1};
  if (show_output_ && pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    log_.warning("the output of a checker is not logged: ", std::strerror(errno));
  }
  UniqueFd output(ends[0]);
  const UniqueFd writer(ends[1]);
  posix_spawn_file_actions_t shown;
  posix_spawn_file_actions_init(&shown);
  // A program does not expect its standard output to be non-blocking.
  if (writer) fcntl(writer.get(), F_SETFL, 0);
  if (writer && !prepare_descriptors(shown, null_.get(), writer.get())) output.reset();
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, kShell.data(), output ? &shown : &silent_, &attributes_,
                                 arguments.data(), environ);
  posix_spawn_file_actions_destroy(&shown);
  if (failed != 0) {
    log_.warning("checker not started: ", std::strerror(failed));
    return finished_(checker, std::nullopt);
  }
  running_.emplace(pid, Running{checker, tag_});
  pids_.emplace(checker, pid);
  tags_.insert(tag_);
  if (!output) return;
  loop_.watch(output.get(), EPOLLIN, [this, checker](std::uint32_t) {
    if (Output& shown_one = outputs_.at(checker); !read_output(shown_one)) close_output(shown_one);
  });
  outputs_.emplace(checker, Output{std::move(output),
                                   concat("checker [", command.substr(0, kLongestLabel), "]: ")});
}

bool Checkers::read_output(Output& output) {
  std::array<char, 16UL * 1024> buffer{};
  const ssize_t size = read(output.pipe.get(), buffer.data(), buffer.size());
  if (size <= 0) return size < 0 && errno == EAGAIN;
  for (const char c : std::string_view(buffer.data(), static_cast<std::size_t>(size))) {
    // The rest is read, so that the checker does not block, and discarded.
    if (output.lines > kMostLines) break;
    if (c != '\n') output.line += c;
    if (c == '\n' || output.line.size() >= kLongestLine) end_line(output);
  }
  return true;
}

void Checkers::end_line(Output& output) {
  // LogInlet escapes its bytes where the line is written.
  log_.debug(output.label, ++output.lines > kMostLines ? "(more is not shown)" : output.line);
  output.line.clear();
}

void Checkers::close_output(Output& output) {
  if (!output.pipe) return;
  loop_.unwatch(output.pipe.get());
  output.pipe.reset();
}

void Checkers::finish_output(std::uint64_t checker) {
  const auto found = outputs_.find(checker);
  if (found == outputs_.end()) return;
  Output& output = found->second;
  for (int left = kMostLastReads; left > 0 && output.pipe && read_output(output);) --left;
  if (!output.line.empty()) end_line(output);
  close_output(output);
  outputs_.erase(found);
}

void Checkers::kill(std::uint64_t checker) {
  // Its leader has not been reaped, so the group's number is still valid.
  if (const auto found = pids_.find(checker); found != pids_.end()) {
    ::kill(-found->second, SIGKILL);
  }
}

void Checkers::reap() {
  bool orphans = false;
  siginfo_t info{};
  // Kill first and reap afterwards: while the leader is a zombie, no other process group can get
  // its number.
  while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0) {
    const auto found = running_.find(info.si_pid);
    const bool leader = found != running_.end();
    if (leader) ::kill(-info.si_pid, SIGKILL);
    int status = 0;
    waitpid(info.si_pid, &status, 0);
    if (leader) {
      const Running ended = found->second;
      running_.erase(found);
      pids_.erase(ended.checker);
      tags_.erase(ended.tag);
      finish_output(ended.checker);
      finished_(ended.checker, status);
      if (!search_) search_ = loop_.after(kSearchDelay, [this] { kill_orphans(); });
    }
    if (info.si_pid == helper_) {
      helper_ = -1;
    } else {
      orphans |= !leader;
    }
    info.si_pid = 0;
  }
  // If there was one orphan, there may be more, and killing them may create others.
  if (orphans) kill_orphans();
}

std::vector<pid_t> Checkers::children() const {
  std::string list;
  std::array<char, 4096> part{};
  for (ssize_t size = 0; (size = pread(children_file_.get(), part.data(), part.size(),
                                       static_cast<off_t>(list.size()))) > 0;) {
    list.append(part.data(), static_cast<std::size_t>(size));
  }
  return parse_children(list);
}

void Checkers::kill_orphans() {
  if (search_) loop_.cancel(*search_);
  search_.reset();
  for (const pid_t pid : children()) {
    rlimit limit{};
    if (running_.contains(pid) || pid == helper_) continue;
    if (prlimit(pid, RLIMIT_LOCKS, nullptr, &limit) != 0 || !tags_.contains(limit.rlim_max)) {
      ::kill(pid, SIGKILL);
    }
  }
}

void Checkers::end_all() {
  const Instant deadline = BootClock::now() + kLongestEnd;
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  constexpr timespec kAWhile{0, 50'000'000};
  for (const auto& [pid, entry] : running_) ::kill(-pid, SIGKILL);
  running_.clear();
  pids_.clear();
  tags_.clear();
  helper_ = -1;
  pid_t pid = 0;
  while (BootClock::now() < deadline) {
    kill_orphans();
    while ((pid = waitpid(-1, nullptr, WNOHANG)) > 0) {
    }
    if (pid < 0) return;
    sigtimedwait(&child, nullptr, &kAWhile);
  }
  log_.error("some checkers could not be killed");
}

}  // namespace mandos::checker_runner
