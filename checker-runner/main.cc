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
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "checker-runner/jail.h"
#include "checker-runner/judge.h"
#include "checker-runner/runner.h"
#include "common/descriptors.h"
#include "config.h"

namespace mandos::checker_runner {
namespace {

// Of checkers that lack the same program, so many are named by --check.
constexpr std::size_t kMostPlaces = 10;
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
  EventLoop loop;
  Runner runner(loop, log, UniqueFd(kDoor));
  return runner.run();
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
