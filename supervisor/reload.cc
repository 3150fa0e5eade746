// SPDX-License-Identifier: GPL-3.0-or-later
#include "supervisor/reload.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "common/inspection.h"
#include "config.h"

namespace mandos::supervisor {
namespace {

constexpr std::size_t kMostRequesters = 8;
constexpr std::size_t kMostReport = 16UL * 1024;
// The last line of an answer to --reload.
constexpr std::string_view kDone = "reloaded\n";
constexpr std::string_view kFailed = "the reload failed\n";

sockaddr_un control_address() {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  constexpr std::string_view kPath = MANDOS_CONTROL_SOCKET;
  static_assert(kPath.size() < sizeof address.sun_path);
  kPath.copy(address.sun_path, kPath.size());
  return address;
}

int connect_to_control(int fd) {
  const sockaddr_un address = control_address();
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

void answer(const UniqueFd& requester, std::string_view text) {
  // This fits into the socket's buffer; a caller that has left gets nothing.
  send(requester.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace

Reloads::Reloads(EventLoop& loop, Log& log, Hooks hooks)
    : loop_(loop), log_(log), hooks_(std::move(hooks)) {
  // Time in which we did not run does not count as time that the reload took.
  loop_.on_gap([this](Milliseconds late) {
    over_ += late;
    if (deadline_) set_deadline(deadline_->first + late);
  });
}

Reloads::~Reloads() {
  if (!socket_) return;
  loop_.unwatch(socket_.get());
  unlink(MANDOS_CONTROL_SOCKET);
}

std::pair<UniqueFd, std::optional<pid_t>> lock_control_directory() {
  std::string path = MANDOS_CONTROL_SOCKET;
  path.resize(path.rfind('/'));
  mkdir(path.c_str(), 0700);
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct flock lock {};
  // A directory can only be opened for reading, so each server holds a shared lock. A server takes
  // its own lock before it looks for others: two that start at the same time see each other.
  lock.l_type = F_RDLCK;
  fcntl(directory.get(), F_SETLK, &lock);
  lock.l_type = F_WRLCK;
  const bool shared = fcntl(directory.get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  return {std::move(directory), shared ? std::optional(lock.l_pid) : std::nullopt};
}

Status Reloads::listen() {
  // A socket of another type cannot connect, but the error tells a live socket (EPROTOTYPE) from a
  // stale one.
  const UniqueFd probe(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int found = connect_to_control(probe.get());
  if (found == EPROTOTYPE) return Error{MANDOS_CONTROL_SOCKET ": another server uses it"};
  if (found == ECONNREFUSED) unlink(MANDOS_CONTROL_SOCKET);
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = control_address();
  // The file inherits the socket's mode.
  if (fchmod(listener.get(), 0600) != 0 ||
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), kMostRequesters) != 0) {
    return errno_error(errno, MANDOS_CONTROL_SOCKET);
  }
  socket_ = std::move(listener);
  loop_.watch(socket_.get(), EPOLLIN, [this](std::uint32_t) { accept(); });
  return Ok{};
}

void Reloads::accept() {
  UniqueFd requester(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ucred peer{};
  socklen_t size = sizeof peer;
  if (!requester || getsockopt(requester.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      peer.uid != 0) {
    return;
  }
  if (newcomers_.size() + answering_.size() >= kMostRequesters) {
    return answer(requester, concat("too many reload requests at once\n", kFailed));
  }
  newcomers_.push_back(std::move(requester));
  request();
}

void Reloads::request() {
  wanted_ = true;
  next();
}

void Reloads::next() {
  if (!wanted_ || (state_ != State::kIdle && state_ != State::kWaiting)) return;
  if (state_ == State::kIdle) set_deadline(over_ = BootClock::now() + kLongestReload);
  state_ = State::kWaiting;
  for (auto& requester : newcomers_) answering_.push_back(std::move(requester));
  newcomers_.clear();
  if (!monitor_is_ready_) return;
  wanted_ = false;
  inspect();
}

void Reloads::tick() {
  if (!socket_ || access(MANDOS_CONTROL_SOCKET, F_OK) == 0) return;
  loop_.unwatch(socket_.get());
  socket_.reset();
  // The folder may be a new one, too. Closing any descriptor of the same one would unlock it.
  lock_.reset();
  lock_ = lock_control_directory().first;
  const auto again = listen();
  log_.warning(MANDOS_CONTROL_SOCKET " was removed: ", again ? "created again" : again.error());
}

void Reloads::set_deadline(Instant when) {
  if (deadline_) loop_.cancel(*deadline_);
  deadline_ = loop_.at(when, [this] { too_late(); });
}

void Reloads::too_late() {
  deadline_.reset();
  if (state_ == State::kInspecting) {
    return finish(false, concat("nothing was changed: reading the configuration took longer than ",
                                kLongestInspection.count() / 1000, " s; is its disk slow?\n"));
  }
  const bool renewing = state_ == State::kRenewing || state_ == State::kStarting;
  finish(false,
         concat(renewing ? "the fresh monitor does not serve yet after " : "no answer within ",
                kLongestReload.count() / 1000, renewing ? " s: see the log\n" : " s\n"));
}

void Reloads::monitor_ready(bool complete, std::string_view text) {
  monitor_is_ready_ = true;
  if (state_ == State::kStarting) {
    constexpr std::string_view kIncomplete =
        "the files changed meanwhile: a fresh monitor serves without the clients that have "
        "errors\n";
    return finish(complete, concat(text, complete ? "" : kIncomplete));
  }
  next();
}

void Reloads::monitor_ended() {
  monitor_is_ready_ = false;
  if (state_ == State::kRenewing) {
    state_ = State::kStarting;
  } else if (state_ == State::kStarting) {
    finish(false, "the fresh monitor could not start: see the log\n");
  } else if (state_ != State::kIdle && state_ != State::kWaiting) {
    finish(false, "the monitor ended meanwhile\n");
  }
}

void Reloads::answered(std::uint64_t serial, bool ok, bool yields, std::string_view text) {
  if (state_ != State::kReading || serial != serial_) return;
  // First the warnings of the inspection, then those that only a monitor can give.
  if (ok || !yields) return finish(ok, concat(ok ? reported_ : "", text));
  state_ = State::kRenewing;
  hooks_.renew();
}

/// Has a separate process check the files.
void Reloads::inspect() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return finish(false, concat(errno_error(errno, "socketpair").text, '\n'));
  report_.reset(ends[0]);
  const UniqueFd output(ends[1]);
  const auto pid = hooks_.inspect(output.get());
  if (!pid) return finish(false, concat(pid.error(), '\n'));
  inspector_ = *pid;
  set_deadline(std::min(over_, BootClock::now() + kLongestInspection));
  reported_.clear();
  line_.clear();
  left_out_ = 0;
  state_ = State::kInspecting;
  loop_.watch(report_.get(), EPOLLIN, [this](std::uint32_t) { read_report(); });
}

void Reloads::read_report() {
  std::array<char, 4096> buffer{};
  ssize_t size = 0;
  while ((size = recv(report_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0) {
    for (const char c : std::string_view(buffer.data(), static_cast<std::size_t>(size))) {
      if (c == '\n') {
        end_line();
      } else if (line_.size() < kMostReport) {
        line_ += c;
      }
    }
  }
  if (size == 0) loop_.unwatch(report_.get());
}

/// Keeps the line, unless it reports success or there are too many.
void Reloads::end_line() {
  const std::string whole = std::exchange(line_, {});
  std::string_view line = whole;
  if (line.starts_with(inspection::kGood)) return;
  if (line.starts_with(inspection::kBad)) line.remove_prefix(sizeof inspection::kBad - 1);
  if (left_out_ > 0 || reported_.size() + whole.size() >= kMostReport) {
    ++left_out_;
  } else {
    append(reported_, concat(line, '\n'));
  }
}

bool Reloads::ended(pid_t pid, int wait_status) {
  if (pid != inspector_) return false;
  inspector_ = -1;
  if (state_ != State::kInspecting) return true;
  read_report();
  if (!line_.empty()) end_line();
  if (left_out_ > 0) {
    append(reported_, concat("and ", left_out_, " more, which mandos --check prints\n"));
  }
  if (WIFSIGNALED(wait_status) || WEXITSTATUS(wait_status) > 2) {
    // Its own statuses are 0 to 2. The program may be missing, for example during an upgrade.
    finish(false,
           concat(reported_, "nothing was changed: the configuration could not be checked (",
                  WIFSIGNALED(wait_status) ? concat("killed by signal ", WTERMSIG(wait_status))
                                           : concat("exit status ", WEXITSTATUS(wait_status)),
                  ")\n"));
  } else if (WEXITSTATUS(wait_status) == EXIT_SUCCESS) {
    errors_.clear();
    hooks_.on_errors();
    state_ = State::kReading;
    set_deadline(over_);
    hooks_.ask(++serial_);
  } else {
    if (errors_.empty()) {
      const std::time_t now = std::time(nullptr);
      std::array<char, 32> when{};
      tm parts{};
      std::strftime(when.data(), when.size(), "%F %TZ", gmtime_r(&now, &parts));
      errors_ = concat("; configuration has errors since ", when.data());
    }
    hooks_.on_errors();
    finish(false, reported_ + "nothing was changed: the configuration has errors\n");
  }
  return true;
}

void Reloads::finish(bool ok, std::string text) {
  if (deadline_) loop_.cancel(*deadline_);
  deadline_.reset();
  if (report_) loop_.unwatch(report_.get());
  report_.reset();
  if (inspector_ > 0) kill(std::exchange(inspector_, -1), SIGKILL);
  state_ = State::kIdle;
  if (!ok) {
    for (std::string_view rest = text; !rest.empty();) {
      const auto line = rest.substr(0, rest.find('\n'));
      log_.error(line);
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    }
  }
  append(text, ok ? kDone : kFailed);
  for (const auto& requester : answering_) answer(requester, text);
  answering_.clear();
  next();
}

Result<int> ask_for_reload() {
  const UniqueFd server(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Connecting waits, too, if the server is stopped and its queue is full.
  const timeval longest{.tv_sec = 2 * kLongestReload.count() / 1000, .tv_usec = 0};
  for (const int wait : {SO_SNDTIMEO, SO_RCVTIMEO}) {
    setsockopt(server.get(), SOL_SOCKET, wait, &longest, sizeof longest);
  }
  const int failed = connect_to_control(server.get());
  if (failed == ENOENT || failed == ECONNREFUSED) {
    return Error{"no server runs that could reload: " MANDOS_CONTROL_SOCKET};
  }
  if (failed != 0 && failed != EAGAIN) return errno_error(failed, MANDOS_CONTROL_SOCKET);
  std::string text;
  std::array<char, 4096> buffer{};
  ssize_t size = 0;
  while ((size = read(server.get(), buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(size));
  }
  const bool done = text.ends_with(kDone);
  std::fputs(text.c_str(), done ? stdout : stderr);
  if (!done && !text.ends_with(kFailed)) return Error{"the server gave no answer"};
  return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace mandos::supervisor
