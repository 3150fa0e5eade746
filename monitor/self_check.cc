// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/self_check.h"

#include <net/if.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/inspection.h"
#include "common/jail.h"
#include "config.h"
#include "monitor/clients_conf.h"
#include "monitor/fate.h"
#include "monitor/listeners.h"
#include "monitor/merge.h"
#include "monitor/state.h"

namespace mandos::monitor {
namespace {

class Report {
 public:
  /// Warnings come last, because a reload shows only the first lines.
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
  /// A line that another of our programs has printed.
  void fail() { ++failures_; }
  int failures() const { return failures_; }

 private:
  int failures_ = 0;
  std::vector<std::string> warnings_;
};

// At most this many lines are shown for each kind of event.
constexpr std::size_t kMostShown = 10;

bool program_is_ours(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
         (status.st_mode & 022) == 0 && (status.st_mode & 0111) != 0;
}

constexpr int kNoVerdict = 2;

/// Runs one of our programs to check its arguments. EXIT_SUCCESS: they are valid, or SELinux does
/// not let us run it. EXIT_FAILURE: they are not, and it printed the reason on standard output.
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

/// Prints what would happen to saved clients, as audit lines: at a reload of the running server,
/// or, if there is none, at a start.
void rehearse(const std::map<std::string, ClientSettings>& file, const StateStore::Loaded& kept,
              bool running) {
  std::map<std::string, std::size_t> events;
  const auto tell = [&](std::string_view line) {
    // A running server knows of checks that are not saved yet.
    if (running && line.find(concat(" by=\"", kTimeout, '"')) != line.npos) return;
    line.remove_prefix(line.find("event="));
    if (++events[std::string(line.substr(0, line.find(' ')))] > kMostShown) return;
    std::printf("would: %.*s\n", static_cast<int>(line.size()), line.data());
  };
  const Moment now = Moment::now();
  std::vector<Effect> effects;  // nobody carries them out
  for (const auto& [name, settings] : file) {
    const auto found = kept.clients.find(name);
    if (found == kept.clients.end()) {
      const bool damaged = kept.damaged.contains(state_file_name(name));
      tell(damaged ? damaged_line(name) : added_line(name, settings.enabled, kFile));
      continue;
    }
    Client before;
    Client after = from_saved(found->second, settings, now, nullptr, &before);
    const bool reloads = running && !before.removed;
    const Event event =
        reloads ? Event(Reloaded{after.settings, after.enabled(), 0}) : Event(Started{0});
    if (reloads && !changes({after.settings, after.enabled()}, before)) continue;
    if (reloads) after = before;
    react(after, event, now, effects);
    for (const auto& line : fate(before, after, event, kFile)) tell(line);
  }
  for (const auto& [name, saved] : kept.clients) {
    if (!file.contains(name)) tell(fate_line("removed", name, running ? kFile : "the next reload"));
  }
  for (const auto& [event, count] : events) {
    if (count <= kMostShown) continue;
    std::printf("would: %s of %zu more\n", event.c_str(), count - kMostShown);
  }
  if (events.empty()) std::printf("would: change nothing\n");
}

/// Checks the port and the saved state, and changes neither.
void judge_start(const Settings& settings, const LoadedClients& clients, Report& report) {
  if (geteuid() != 0) {
    return report.say(true, settings.statedir +
                                ", the port, and root's access to files of other "
                                "users are not checked: that takes root");
  }
  jail::override_permissions(true);
  std::vector<std::string> problems, warnings;
  bool in_use = false;
  const auto store = StateStore::open(settings.statedir, settings.restore, warnings, &in_use, true);
  Result<StateStore::Loaded> kept = StateStore::Loaded();
  if (settings.restore || in_use) kept = store ? store->load(warnings) : Error{store.error()};
  if (!kept) problems.push_back(kept.error() + "; --no-restore starts without the saved state");
  // A running server already has the port.
  const auto index = if_nametoindex(interface_of(settings).c_str());
  const auto port = in_use ? Listeners() : open_listeners(settings, index, warnings, false);
  if (!port) problems.push_back(port.error());
  report.problems(settings.statedir + (in_use ? ": in use by a server that runs" : " and the port"),
                  problems, warnings);
  if (!problems.empty() || !clients.problems.empty()) return;
  const bool first = kept->clients.empty() && kept->damaged.empty();
  report.say(true, !settings.restore && !in_use
                       ? "a start without restoring: a client that was disabled is enabled again"
                   : first  ? "a first start: nothing is saved of any client"
                   : in_use ? "what a reload would do:"
                            : "what a start would do:");
  if (!first) rehearse(clients.clients, *kept, in_use);
}

}  // namespace

int self_check(const LoadedSettings& loaded, bool starts) {
  Report report;
  try {
    const Secret secret(as_bytes("a secret"));
    report.say(secret.bytes().size() == 8, concat("secret memory: ", secret_memory_kind()));
  } catch (const std::bad_alloc&) {
    report.say(false, "secret memory: no page can be locked (RLIMIT_MEMLOCK)");
  }
  const bool bus = MANDOS_BUS != 0 && (loaded.settings.use_dbus || loaded.settings.zeroconf);
  for (const char* name :
       {"monitor", "networker", "checker-runner", bus ? "bus-agent" : "monitor"}) {
    const std::string path = concat(MANDOS_LIBEXEC_DIR "/mandos-", name);
    report.say(program_is_ours(path), concat(path, ": a program that only root may write"));
  }
  report.problems(concat(loaded.settings.configdir, "/mandos.conf"), loaded.problems,
                  loaded.warnings);
  if (!loaded.usage_error.empty()) report.say(false, loaded.usage_error);
  const int verdict =
      judge({concat(MANDOS_LIBEXEC_DIR, "/mandos-networker").c_str(), "--judge-settings",
             loaded.settings.priority.c_str(), loaded.settings.place("priority").c_str(),
             loaded.settings.penalty_exempt.c_str(),
             loaded.settings.place("source_penalty_exempt").c_str()});
  if (verdict == EXIT_FAILURE) {
    report.fail();
  } else {
    report.say(verdict == EXIT_SUCCESS, "priority and source_penalty_exempt");
  }
  const auto clients = load_clients(loaded.settings.configdir);
  report.problems(concat(clients.clients.size(), " clients in ", loaded.settings.configdir),
                  clients.problems, clients.warnings);
  std::vector<const char*> checkers{MANDOS_LIBEXEC_DIR "/mandos-checker-runner", "--judge"};
  std::deque<std::string> places;
  for (const auto& [command, users] : clients.checkers) {
    places.push_back(users.others == 0 ? users.place
                                       : concat(users.place, "(also of ", users.others, " more) "));
    checkers.insert(checkers.end(), {places.back().c_str(), command.c_str()});
  }
  judge(std::move(checkers));
  if (starts) judge_start(loaded.settings, clients, report);
  return report.failures();
}

}  // namespace mandos::monitor
