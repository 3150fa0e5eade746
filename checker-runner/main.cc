// SPDX-License-Identifier: GPL-3.0-or-later
// The checker-runner: runs the monitor's commands, with an account that owns nothing.
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

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
#include "common/child.h"
#include "config.h"

namespace mandos::checker_runner {
namespace {

// How many checkers that lack the same program are named by --check.
constexpr std::size_t kMostPlaces = 10;
// A reload's inspection has 12 s in total.
constexpr timespec kLongestLook{.tv_sec = 5, .tv_nsec = 0};

/// The part of our environment that checkers inherit.
void prepare_environment() {
  // So that a checker behaves the same as a service and when run by hand.
  setenv("PATH", kCheckerPath, 1);
  // The supervisor's variables come last; checkers get the caller's part of the environment.
  unsetenv("LD_BIND_NOW");
  char** tunables = nullptr;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::string_view(*variable).starts_with("GLIBC_TUNABLES=")) tunables = variable;
  }
  for (; tunables != nullptr && *tunables != nullptr; ++tunables) *tunables = tunables[1];
}

int serve(Child& child) {
  prepare_environment();
  if (const auto entered = child.enter(checker_jail()); !entered) {
    std::fprintf(stderr, "mandos-checker-runner: jail: %s\n", entered.error().c_str());
    return EXIT_FAILURE;
  }
  EventLoop loop;
  Runner runner(loop, child.log, std::move(child.door));
  return runner.run();
}

/// True in the child, which looks for the programs. The parent ends when the child does, but waits
/// no longer than a reload can, and says so: the child may wait for a file system that hangs.
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

/// Arguments: the place of each command, then the command. Runs as the checkers' user if possible.
int judge(std::span<char* const> checkers) {
  const passwd* user = getpwnam(MANDOS_CHECKER_USER);  // NOLINT(concurrency-mt-unsafe): no threads
  // Without the account, no checker can run, which is reported elsewhere.
  if (user == nullptr) return EXIT_SUCCESS;
  if (geteuid() == 0 &&
      (setgroups(0, nullptr) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)) {
    return EXIT_SUCCESS;
  }
  if (!looks_for_programs()) return EXIT_SUCCESS;
  const Judging judging{.as_checker_user = geteuid() == user->pw_uid};
  std::map<std::string, std::size_t> said;  // how often each was printed
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
  // For `mandos --check`: warns of commands whose program is missing. Runs nothing.
  if (argc > 1 && std::string_view(argv[1]) == "--judge") {
    return judge({argv + 2, static_cast<std::size_t>(argc) - 2});
  }
  mandos::live(serve);
}
