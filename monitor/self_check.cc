// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/self_check.h"

#include <pwd.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "common/inspection.h"
#include "monitor/clients_conf.h"
#include "monitor/state.h"

namespace mandos::monitor {
namespace {

class Report {
 public:
  void say(bool good, const std::string& what) {
    std::printf("%s%s\n", good ? inspection::kGood : inspection::kBad, what.c_str());
    failures_ += good ? 0 : 1;
  }
  void problems(const std::string& what, const std::vector<std::string>& problems,
                const std::vector<std::string>& warnings) {
    for (const auto& warning : warnings) std::printf("warning: %s\n", warning.c_str());
    for (const auto& problem : problems) say(false, problem);
    if (problems.empty()) say(true, what);
  }
  /// One that a program of ours has said.
  void fail() { ++failures_; }
  int failures() const { return failures_; }

 private:
  int failures_ = 0;
};

bool program_is_ours(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
         (status.st_mode & 022) == 0 && (status.st_mode & 0111) != 0;
}

constexpr int kNoVerdict = 2;

/// Runs a program of ours that judges its arguments. EXIT_SUCCESS: they are good, or we may not run
/// it (SELinux). EXIT_FAILURE: they are not, and it has said why on standard output.
int judge(std::vector<const char*> arguments) {
  arguments.push_back(nullptr);
  pid_t pid = -1;
  int status = -1;
  std::fflush(stdout);
  const int failed = posix_spawn(&pid, arguments[0], nullptr, nullptr,
                                 const_cast<char* const*>(arguments.data()), environ);
  if (failed == EACCES || failed == EPERM) return EXIT_SUCCESS;
  return failed == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                             : kNoVerdict;
}

}  // namespace

int self_check(const LoadedSettings& loaded) {
  Report report;
  try {
    const Secret secret(as_bytes("a secret"));
    report.say(secret.bytes().size() == 8, concat("secret memory: ", secret_memory_kind()));
  } catch (const std::bad_alloc&) {
    report.say(false, "secret memory: no page can be locked (RLIMIT_MEMLOCK)");
  }
  for (const char* name : {"monitor", "networker", "checker-runner"}) {
    const std::string path = concat(MANDOS_LIBEXEC_DIR "/mandos-", name);
    report.say(program_is_ours(path), concat(path, ": a program that only root may write"));
  }
  for (const char* name : {MANDOS_NETWORKER_USER, MANDOS_CHECKER_USER, MANDOS_BUS_USER}) {
    report.say(getpwnam(name) != nullptr,
               concat("account ", name, getpwnam(name) != nullptr ? "" : ": run systemd-sysusers"));
  }
  report.problems(concat(loaded.settings.configdir, "/mandos.conf"), loaded.problems,
                  loaded.warnings);
  if (!loaded.usage_error.empty()) report.say(false, loaded.usage_error);
  const auto priority_place = loaded.settings.place("priority");
  const auto exempt_place = loaded.settings.place("source_penalty_exempt");
  const int verdict =
      judge({concat(MANDOS_LIBEXEC_DIR, "/mandos-networker").c_str(), "--judge-settings",
             loaded.settings.priority.c_str(), priority_place.c_str(),
             loaded.settings.penalty_exempt.c_str(), exempt_place.c_str()});
  if (verdict == EXIT_FAILURE) {
    report.fail();
  } else {
    report.say(verdict == EXIT_SUCCESS, "priority and source_penalty_exempt");
  }
  const auto clients = load_clients(loaded.settings.configdir);
  report.problems(concat(clients.clients.size(), " clients in ", loaded.settings.configdir),
                  clients.problems, clients.warnings);
  std::vector<const char*> checkers{MANDOS_LIBEXEC_DIR "/mandos-checker-runner", "--judge"};
  for (const auto& [name, client] : clients.clients) {
    checkers.insert(checkers.end(), {name.c_str(), client.checker.c_str()});
  }
  judge(std::move(checkers));
  return report.failures();
}

}  // namespace mandos::monitor
