// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl events and wait: report events on the server.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "common/duration.h"
#include "common/event_loop.h"
#include "common/result.h"
#include "common/text.h"
#include "ctl/arguments.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/servers.h"
#include "ctl/times.h"
#include "ctl/watch.h"

namespace mandos::ctl {
namespace {

constexpr Milliseconds kLongestRun{5 * 60 * 1000};
constexpr Option kEventsOptions[] = {
    kHelp,
    {"json", 'j', "", "Write each event as a line of JSON."},
    {"exec", 'x', "PROGRAM", "Run a program for each event."},
    {"kill-after", 'k', "TIME", "Kill it if it runs longer (5m)."},
    kServer,
    kServerTimeout,
    kDebug,
};
constexpr std::string_view kEventsUsage =
    R"(Usage: mandos-ctl events [--json] [--exec PROGRAM [--kill-after TIME]]
                         [CLIENT...]

Prints one line per event until a signal ends it: clients that request approval,
get their secret, are refused, are checked, expire, or are enabled, disabled,
added or removed; unknown keys; the server going away and coming back. If
clients are named: only events about them and the server.

)";

constexpr int kTimedOut = 3;
constexpr Option kWaitOptions[] = {
    kHelp,
    {"timeout", 't', "TIME", "Give up after this time, with status 3."},
    {"for", 'f', "EVENT", "Wait for this event of `events` instead."},
    kServer,
    kServerTimeout,
    kDebug,
};
constexpr std::string_view kWaitUsage =
    R"(Usage: mandos-ctl wait [--timeout TIME] [--for EVENT] CLIENT

Waits until the client is waiting for approval, or for another event: granted,
refused, checked, expired, disabled, enabled or removed. Returns immediately if
the client is already waiting, enabled or disabled. The status is 0 if the event
happened, and 3 after the timeout.

)";

constexpr std::string_view kWaitEvents[] = {"waiting", "granted",  "refused", "checked",
                                            "expired", "disabled", "enabled", "removed"};

std::string plain(const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* time = std::get_if<std::uint64_t>(&value)) return std::to_string(*time);
  return shown(value);
}

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

/// "2026-11-27T08:51:11.123Z waiting client=web delay=60000"; text with blanks is quoted.
std::string line_of(const Event& event, const std::string& time, bool json) {
  std::vector<std::pair<std::string, Value>> members = {{"time", time}, {"event", event.what}};
  if (!event.client.empty()) members.emplace_back("client", event.client);
  members.insert(members.end(), event.details.begin(), event.details.end());
  if (json) return json_line(members);
  std::string line = concat(time, " ", event.what);
  for (const auto& [name, value] : std::span(members).subspan(2)) {
    const std::string text = plain(value);
    const bool quote = text.empty() || text.find_first_of(" \"") != std::string::npos;
    line += concat(" ", name, "=", quote ? in_quotes(text) : text);
  }
  return line + "\n";
}

/// Runs a program for each event, a few at a time. No shell is involved: text from the network
/// reaches the program only in environment variables.
class Runner {
 public:
  Runner(EventLoop& loop, std::string program, Milliseconds longest)
      : loop_(loop), program_(std::move(program)), longest_(longest) {}

  void run(const Event& event, const std::string& time) {
    if (waiting_.size() >= kMostWaiting) {
      if (!std::exchange(overflowing_, true)) {
        complain(kFailure, concat("more than ", kMostWaiting, " events wait for ",
                                  printable(program_), "; the next ones are dropped"));
      }
      return;
    }
    overflowing_ = false;
    std::vector<std::string> variables = {concat("MANDOS_EVENT=", event.what),
                                          concat("MANDOS_TIME=", time),
                                          concat("MANDOS_CLIENT=", event.client)};
    for (const auto& [name, value] : event.details) {
      std::string upper = name;
      for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
      variables.push_back(concat("MANDOS_", upper, "=", plain(value)));
    }
    waiting_.push_back(std::move(variables));
    start();
  }

  /// Passes on the signal that ends this program to all running programs.
  void pass_on(int number) const {
    for (const auto& [pid, limit] : running_) kill(-pid, number);
  }

  /// A child has ended.
  void reap() {
    // Reap only ours: the connection to another server is a child, too, but sd-bus's.
    std::erase_if(running_, [this](const auto& each) {
      const auto& [pid, limit] = each;
      int status = 0;
      if (waitpid(pid, &status, WNOHANG) != pid) return false;
      loop_.cancel(limit);
      if (status != 0) {
        complain(kFailure,
                 concat(printable(program_),
                        WIFEXITED(status) ? " ended with status " : " was killed by signal ",
                        WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status)));
      }
      return true;
    });
    start();
  }

 private:
  static constexpr std::size_t kMostRunning = 4;
  static constexpr std::size_t kMostWaiting = 1000;

  void start() {
    while (running_.size() < kMostRunning && !waiting_.empty()) {
      const auto variables = std::move(waiting_.front());
      waiting_.pop_front();
      pid_t pid = 0;
      if (const int error = spawn(pid, variables); error != 0) {
        complain(kFailure, errno_error(error, "cannot run ", printable(program_)).text);
      } else {
        // Otherwise a few that hang would keep all others from running, permanently.
        running_.emplace(pid, loop_.after(longest_, [this, pid] {
          complain(kFailure, concat(printable(program_), " ran for ",
                                    duration_text(static_cast<std::uint64_t>(longest_.count())),
                                    " and is killed"));
          kill(-pid, SIGKILL);
        }));
      }
    }
  }

  int spawn(pid_t& pid, const std::vector<std::string>& variables) {
    std::vector<char*> environment;
    for (char** each = environ; *each != nullptr; ++each) {
      if (!std::string_view(*each).starts_with("MANDOS_")) environment.push_back(*each);
    }
    for (const auto& each : variables) environment.push_back(const_cast<char*>(each.c_str()));
    environment.push_back(nullptr);
    char* const argv[] = {program_.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    // Standard output is for the events only.
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    // A separate process group, which is killed as a whole.
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    const int error =
        posix_spawnp(&pid, program_.c_str(), &actions, &attributes, argv, environment.data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
  }

  EventLoop& loop_;
  std::string program_;
  Milliseconds longest_;
  std::deque<std::vector<std::string>> waiting_;
  std::map<pid_t, EventLoop::TimerId> running_;
  bool overflowing_ = false;
};

const Client* by_name(const std::vector<Client>& clients, const std::string& name) {
  const auto found = std::ranges::find(clients, name, &Client::name);
  return found == clients.end() ? nullptr : &*found;
}

std::string now_text() { return time_text(wall_now()) + "Z"; }

/// Whether `client` is already in the state that the event leads to.
bool is_already(const Client& client, std::string_view event) {
  if (event == "waiting") return client.flag("ApprovalPending");
  if (event == "enabled") return client.flag("Enabled");
  return event == "disabled" && !client.flag("Enabled");
}

}  // namespace

int events(Words words) {
  const auto arguments = parse_arguments(kEventsOptions, words);
  if (!arguments) return wrong_usage("events", arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kEventsUsage, help_of(kEventsOptions))) ? kSuccess : kFailure;
  }
  const auto* const program = arguments->value("exec");
  const auto* const limit = arguments->value("kill-after");
  const auto longest = limit == nullptr ? Result<Milliseconds>(kLongestRun) : read_duration(*limit);
  if (!longest || longest->count() <= 0) {
    return wrong_usage("events", concat("--kill-after: found \"", printable(*limit),
                                        "\", expected a duration such as 5m"));
  }
  if (const auto used = use_chosen_server(*arguments); !used) {
    return wrong_usage("events", used.error());
  }
  EventLoop loop;
  Runner runner(loop, program == nullptr ? "" : *program, *longest);
  const bool json = arguments->has("json");
  Watch watch(loop, arguments->has("debug"), [&](const Event& event) {
    const auto& names = arguments->operands;
    // Report a lost server even if a single client is watched, because nothing is known about it in
    // the meantime.
    const bool of_server = event.what.starts_with("server-");
    if (!names.empty() && !of_server && std::ranges::find(names, event.client) == names.end())
      return;
    const std::string time = now_text();
    if (!write_out(line_of(event, time, json))) return loop.stop(kFailure);
    if (program != nullptr) runner.run(event, time);
  });
  loop.on_signals({SIGCHLD, SIGINT, SIGTERM}, [&](int number) {
    if (number == SIGCHLD) {
      runner.reap();
    } else {
      runner.pass_on(number);
      loop.stop(kSuccess);
    }
  });
  watch.on_ready = [&](const Status& ready) {
    if (!ready) return loop.stop(complain(kFailure, ready.error()));
    const auto clients = watch.clients();
    for (const auto& name : arguments->operands) {
      if (watch.server_there() && by_name(clients, name) == nullptr) {
        return loop.stop(complain(kFailure, no_such_client(name, clients)));
      }
    }
  };
  if (const auto started = watch.start(); !started) return complain(kFailure, started.error());
  return loop.run();
}

int wait(Words words) {
  const auto arguments = parse_arguments(kWaitOptions, words);
  if (!arguments) return wrong_usage("wait", arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kWaitUsage, help_of(kWaitOptions))) ? kSuccess : kFailure;
  }
  if (arguments->operands.size() != 1) return wrong_usage("wait", "wait takes one client");
  const std::string& name = arguments->operands[0];
  const auto* const chosen = arguments->value("for");
  const std::string event = chosen == nullptr ? "waiting" : *chosen;
  if (std::ranges::find(kWaitEvents, event) == std::end(kWaitEvents)) {
    return wrong_usage("wait", concat("\"", printable(event), "\" is no event of a client"));
  }
  if (const auto used = use_chosen_server(*arguments); !used) {
    return wrong_usage("wait", used.error());
  }
  EventLoop loop;
  bool is_known = false;
  std::function<void()> give_up;
  std::optional<Milliseconds> timeout;
  if (const auto* const time = arguments->value("timeout")) {
    const auto read = read_duration(*time);
    if (!read) return wrong_usage("wait", concat("--timeout: expected ", read.error()));
    timeout = *read;
    give_up = [&, time] {
      complain(kTimedOut, concat(printable(name), ": not ", event, " within ", printable(*time),
                                 is_known ? "" : "; the server has not answered"));
      loop.stop(kTimedOut);
    };
    // With a timeout of 0, the caller wants to know the present state.
    if (timeout->count() > 0) loop.after(*timeout, give_up);
  }
  bool over = false;
  Watch watch(loop, arguments->has("debug"), [&](const Event& told) {
    if (told.what == "server-gone" && !over)
      complain(kFailure, "no Mandos server runs; waiting for it");
    if (told.client != name || over) return;
    if (told.what == event || (told.what == "expired" && event == "disabled")) {
      over = true;
      loop.stop(write_out(line_of(told, now_text(), false)) ? kSuccess : kFailure);
    } else if (told.what == "removed") {
      over = true;
      loop.stop(complain(kFailure, concat(printable(name), " was removed")));
    }
  });
  watch.on_ready = [&](const Status& ready) {
    is_known = true;
    if (over) return;
    if (!ready) return loop.stop(complain(kFailure, ready.error()));
    const auto clients = watch.clients();
    const Client* const client = by_name(clients, name);
    if (client == nullptr && watch.server_there()) {
      return loop.stop(complain(kFailure, no_such_client(name, clients)));
    }
    if (client == nullptr || !is_already(*client, event)) {
      if (timeout == Milliseconds(0)) give_up();
      return;
    }
    over = true;
    const bool written = write_out(line_of(Event{event, name, {}}, now_text(), false));
    loop.stop(written ? kSuccess : kFailure);
  };
  if (const auto started = watch.start(); !started) return complain(kFailure, started.error());
  return loop.run();
}

}  // namespace mandos::ctl
