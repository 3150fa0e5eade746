// SPDX-License-Identifier: GPL-3.0-or-later
// The checker-runner: runs the commands that the monitor hands it, as an account that owns nothing.
// Descriptors: 0 to 2 as usual, 3 the door to the monitor, 4 the log socket.
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checker-runner/checker.h"
#include "checker-runner/jail.h"
#include "checker-runner/judge.h"
#include "common/channel.h"
#include "common/descriptors.h"
#include "common/event_loop.h"
#include "config.h"
#include "proto/checker_runner.h"

#include "checker_runner.pb.h"

namespace mandos::checker_runner {
namespace {

using door::checker_runner::ToCheckerRunner;
using door::checker_runner::ToMonitor;

constexpr int kDoor = 3;
constexpr int kLogSocket = 4;
// Room for the end of every checker at a time.
constexpr Channel::Limits kLimits{
    .receive = door::checker_runner::kLongestToCheckerRunner,
    .queue = Checkers::kMost * door::checker_runner::kLongestToMonitor};
// Of checkers that lack the same program, so many are named by --check.
constexpr std::size_t kMostPlaces = 10;
// In which the monitor hands over all that are to be judged.
constexpr Milliseconds kAllJudged(500);
// A reload's inspection has 12 s in all.
constexpr timespec kLongestLook{.tv_sec = 5, .tv_nsec = 0};

Status prepare_process() {
  for (const int fd : {kDoor, kLogSocket}) {
    struct stat status {};
    if (fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode)) {
      return Error{concat("descriptor ", fd, " is no socket: this program is started by mandos")};
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  if (!close_descriptors(kLogSocket + 1)) return errno_error(errno, "close_range");
  if (chdir("/") != 0) return errno_error(errno, "chdir /");
  // So that a checker that works by hand works as a service, too, and the other way round.
  setenv("PATH", kCheckerPath, 1);
  // The supervisor's come last; the checkers get the rest of the caller's environment.
  unsetenv("LD_BIND_NOW");
  char** tunables = nullptr;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::string_view(*variable).starts_with("GLIBC_TUNABLES=")) tunables = variable;
  }
  for (; tunables != nullptr && *tunables != nullptr; ++tunables) *tunables = tunables[1];
  return Ok{};
}

/// Judges the commands that the monitor hands over, all that come together, with one line for each
/// warning. In a process of its own: whoever looks for a program may wait for a file system that
/// hangs, and no check waits for that.
class Judge {
 public:
  Judge(EventLoop& loop, Log& log, Checkers& checkers)
      : loop_(loop), log_(log), checkers_(checkers) {}
  void add(const ToCheckerRunner::Judge& judged) {
    waiting_.push_back(judged);
    if (waiting_.size() == 1) loop_.after(kAllJudged, [this] { begin(); });
  }

 private:
  void begin() {
    const auto all = std::exchange(waiting_, {});
    if (checkers_.spares_one()) {
      return log_.warning(
          "checkers are not judged: their programs are still looked for since the last time, "
          "perhaps in a file system that hangs");
    }
    const pid_t child = fork();
    if (child < 0) return log_.warning(errno_error(errno, "checkers are not judged").text);
    if (child > 0) return checkers_.spare(child);
    // The door is closed when the checker-runner ends, whatever becomes of this process.
    close(kDoor);
    close_descriptors(kLogSocket + 1);
    judge(all);
    _exit(EXIT_SUCCESS);
  }
  void judge(const std::vector<ToCheckerRunner::Judge>& all) {
    std::map<std::string, std::pair<std::string, unsigned>> clients;  // one, and how many others
    for (const auto& judged : all) {
      const auto warning = judge_command(judged.command());
      if (!warning) continue;
      const auto [known, is_new] = clients.try_emplace(*warning, judged.client(), judged.others());
      if (!is_new) known->second.second += 1 + judged.others();
    }
    for (const auto& [warning, known] : clients) {
      const auto& [client, others] = known;
      log_.warning("checker of client ", escaped(client),
                   others == 0 ? "" : concat(" and ", others, " more"), ": ", warning);
    }
  }

  EventLoop& loop_;
  Log& log_;
  Checkers& checkers_;
  std::vector<ToCheckerRunner::Judge> waiting_;
};

/// False when the message breaks the rules of the door.
bool obey(const ToCheckerRunner& message, Checkers& checkers, Judge& judge, Log& log,
          Door& monitor) {
  switch (message.message_case()) {
    case ToCheckerRunner::kSettings:
      log.set_level(static_cast<LogLevel>(message.settings().log_level()));
      checkers.show_output(message.settings().show_output());
      return true;
    case ToCheckerRunner::kRun:
      if (checkers.runs(message.run().checker())) return false;
      checkers.run(message.run().checker(), message.run().command());
      return true;
    case ToCheckerRunner::kKill:
      checkers.kill(message.kill().checker());
      return true;
    case ToCheckerRunner::kPing: {
      ToMonitor pong;
      pong.mutable_pong();
      monitor.send_first(pong);
      return true;
    }
    case ToCheckerRunner::kJudge:
      judge.add(message.judge());
      return true;
    case ToCheckerRunner::MESSAGE_NOT_SET:
      break;
  }
  return false;
}

int serve(Log& log) {
  EventLoop loop;
  std::unique_ptr<Door> monitor;
  Checkers checkers(loop, log, [&](std::uint64_t checker, std::optional<int> wait_status) {
    ToMonitor message;
    message.mutable_finished()->set_checker(checker);
    if (wait_status) message.mutable_finished()->set_wait_status(*wait_status);
    monitor->send(message);
  });
  if (auto prepared = checkers.prepare(); !prepared) {
    log.critical("the checker-runner cannot work: ", prepared.error());
    return EXIT_FAILURE;
  }
  // SIGINT and SIGHUP are the terminal's: whether they end the server is the supervisor's affair.
  loop.on_signals({SIGCHLD, SIGTERM, SIGINT, SIGHUP}, [&](int signal) {
    if (signal == SIGCHLD) checkers.reap();
    if (signal == SIGTERM) loop.stop(EXIT_SUCCESS);
  });
  Judge judge(loop, log, checkers);
  monitor = std::make_unique<Door>(
      loop, UniqueFd(kDoor), kLimits,
      [&](const Channel::Datagram& datagram) {
        ToCheckerRunner message;
        if (!message.ParseFromArray(datagram.bytes.data(),
                                    static_cast<int>(datagram.bytes.size())) ||
            !obey(message, checkers, judge, log, *monitor)) {
          log.critical("the monitor sends what it must not");
          loop.stop(EXIT_FAILURE);
        }
      },
      [&](const std::string& why) {
        log.debug("the monitor's door: ", why);
        loop.stop(EXIT_SUCCESS);
      });
  const int status = loop.run();
  checkers.end_all();
  return status;
}

int start() {
  Log log = Log::to_socket(kLogSocket, LogLevel::kInfo);
  auto prepared = prepare_process();
  auto jailed =
      prepared ? jail::enter(checker_jail()) : Result<std::string>(Error{prepared.error()});
  if (!jailed) {
    const std::string complaint = concat("the checker-runner does not start: ", jailed.error());
    log.critical(complaint);
    std::fprintf(stderr, "mandos-checker-runner: %s\n", complaint.c_str());
    return EXIT_FAILURE;
  }
  log.info("jail: ", *jailed);
  return serve(log);
}

/// Whether this is the process that looks: a child. Its parent, which ends when the child does,
/// waits no longer than a reload can, and says so: the child may wait for a file system that hangs.
bool looks_for_programs() {
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  sigprocmask(SIG_BLOCK, &ended, nullptr);
  const pid_t child = fork();
  if (child <= 0) return true;
  if (sigtimedwait(&ended, nullptr, &kLongestLook) < 0) {
    kill(child, SIGKILL);
    std::puts(
        "warning: not all checkers' programs were looked for: one may be in a file system that "
        "hangs");
  }
  return false;
}

/// Places, each before its command. As the checkers' user, if we may become it.
int judge(std::span<char* const> checkers) {
  const passwd* user = getpwnam(MANDOS_CHECKER_USER);  // NOLINT(concurrency-mt-unsafe): no threads
  // Without the account there are no checkers, which is said elsewhere.
  if (user == nullptr) return EXIT_SUCCESS;
  if (geteuid() == 0 &&
      (setgroups(0, nullptr) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)) {
    return EXIT_SUCCESS;
  }
  if (!looks_for_programs()) return EXIT_SUCCESS;
  const Judging judging{.as_checker_user = geteuid() == user->pw_uid};
  std::map<std::string, std::size_t> said;  // how often
  for (; checkers.size() >= 2; checkers = checkers.subspan(2)) {
    const auto warning = judge_command(checkers[1], judging);
    if (warning && ++said[*warning] <= kMostPlaces) {
      std::printf("warning: %s%s\n", checkers[0], warning->c_str());
    }
  }
  for (const auto& [warning, count] : said) {
    if (count > kMostPlaces) {
      std::printf("warning: %zu more checkers: %s\n", count - kMostPlaces, warning.c_str());
    }
  }
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace mandos::checker_runner

int main(int argc, char** argv) {
  using namespace mandos::checker_runner;
  // For `mandos --check`: warns of commands whose program is not there. Nothing is run.
  if (argc > 1 && std::string_view(argv[1]) == "--judge") {
    return judge({argv + 2, static_cast<std::size_t>(argc) - 2});
  }
  return start();
}
