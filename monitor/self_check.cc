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
  /// Warnings come last: a reload shows the first lines only.
  ~Report() {
    for (const auto& warning : warnings_) std::printf("warning: %s\n", warning.c_str());
  }
  void say(bool good, const std::string& what) {
    std::printf("%s%s\n", good ? inspection::kGood : inspection::kBad, what.c_str());
    failures_ += good ? 0 : 1;
  }
  void problems(const std::string& what, const std::vector<std::string>& problems,
                const std::vector<std::string>& warnings) {
    warnings_.insert(warnings_.end(), warnings.begin(), warnings.end());
    for (const auto& problem : problems) say(false, problem);
    if (problems.empty()) say(true, what);
  }
  int failures() const { return failures_; }

 private:
  int failures_ = 0;
  std::vector<std::string> warnings_;
};

bool program_is_ours(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
         (status.st_mode & 022) == 0 && (status.st_mode & 0111) != 0;
}

/// A program of ours that judges its arguments, and says on standard output what is wrong with
/// them. False: something is. It may also be one that we may not run (SELinux).
bool judges_well(std::vector<const char*> arguments) {
  arguments.push_back(nullptr);
  pid_t pid = -1;
  int status = -1;
  std::fflush(stdout);
  const int failed = posix_spawn(&pid, arguments[0], nullptr, nullptr,
                                 const_cast<char* const*>(arguments.data()), environ);
  if (failed == EACCES || failed == EPERM) return true;
  return failed == 0 && waitpid(pid, &status, 0) == pid && status == 0;
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
  report.say(
      judges_well({concat(MANDOS_LIBEXEC_DIR, "/mandos-networker").c_str(), "--judge-settings",
                   loaded.settings.priority.c_str(), priority_place.c_str(),
                   loaded.settings.penalty_exempt.c_str(), exempt_place.c_str()}),
      "priority and source_penalty_exempt");
  const auto clients = load_clients(loaded.settings.configdir);
  report.problems(concat(clients.clients.size(), " clients in ", loaded.settings.configdir),
                  clients.problems, clients.warnings);
  std::vector<const char*> checkers{MANDOS_LIBEXEC_DIR "/mandos-checker-runner", "--judge"};
  for (const auto& [name, client] : clients.clients) checkers.push_back(client.checker.c_str());
  if (!clients.clients.empty()) judges_well(std::move(checkers));
  return report.failures();
}

}  // namespace mandos::monitor
