// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/fleet.h"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <map>
#include <optional>

#include "common/event_loop.h"
#include "common/result.h"
#include "common/text.h"
#include "common/unique_fd.h"
#include "ctl/command.h"
#include "ctl/json.h"

namespace mandos::ctl {
namespace {

constexpr std::size_t kMostOutput = std::size_t{256} << 20;
constexpr std::size_t kMostErrors = 65536;

struct Pipe {
  UniqueFd reader;
  UniqueFd writer;
  std::string text;
};

/// The child process for one server. It leads a process group, so that its ssh ends with it.
struct Child {
  pid_t pid = -1;
  Pipe output;
  Pipe errors;
  std::optional<int> status;
  std::string given_up;  // why it was killed
};

Status open_pipe(Pipe& made) {
  std::array<int, 2> ends{};
  // Only the reader must not block; the writer must get everything into the pipe.
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return errno_error(errno, "cannot create a pipe");
  made.reader.reset(ends[0]);
  made.writer.reset(ends[1]);
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return errno_error(errno, "cannot create a pipe");
  return Ok{};
}

/// The child's work, until it exits.
[[noreturn]] void be_child(const Child& child, const Server& server, Milliseconds limit, bool debug,
                           pid_t parent, const std::function<int()>& work) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (getppid() != parent || dup2(null.get(), STDIN_FILENO) < 0 ||
      dup2(child.output.writer.get(), STDOUT_FILENO) < 0 ||
      (!debug && dup2(child.errors.writer.get(), STDERR_FILENO) < 0)) {
    _exit(kFailure);
  }
  int status = kFailure;
  if (const auto used = use(server, limit); !used) {
    complain(kFailure, used.error());
  } else {
    status = work();
  }
  std::fflush(stdout);
  // The child must not run the parent's destructors or flush its buffers.
  _exit(status);
}

class Running {
 public:
  Running(const Servers& servers, bool debug) : servers_(servers), debug_(debug) {}

  std::vector<Answer> run(const std::function<int()>& work) {
    // Before the loop exists, because children would inherit its signal mask.
    for (const auto& server : servers_.list) start(server, work);
    EventLoop& loop = loop_.emplace();
    for (auto& child : children_) follow(child);
    loop.on_signals({SIGCHLD, SIGINT, SIGTERM, SIGHUP}, [this](int number) {
      if (number == SIGCHLD) {
        reap();
      } else {
        give_up("interrupted; what was asked may still have been done");
      }
    });
    loop.after(servers_.limit, [this] {
      give_up(concat("no answer within ",
                     duration_text(static_cast<std::uint64_t>(servers_.limit.count())),
                     "; what was asked may still have been done"));
    });
    // If a child ended before the loop listened, its signal was lost.
    loop.after(Milliseconds(0), [this] { reap(); });
    loop.run();
    return answers();
  }

 private:
  void start(const Server& server, const std::function<int()>& work) {
    Child& child = children_.emplace_back();
    Status ready = open_pipe(child.output);
    if (ready) ready = open_pipe(child.errors);
    if (ready) {
      const pid_t parent = getpid();
      child.pid = fork();
      if (child.pid == 0) be_child(child, server, servers_.limit, debug_, parent, work);
      if (child.pid < 0) ready = errno_error(errno, "cannot create a process");
    }
    // Both processes do this, so that the group can be killed whichever runs first.
    if (child.pid > 0) setpgid(child.pid, child.pid);
    child.output.writer.reset();
    child.errors.writer.reset();
    if (!ready) child.given_up = ready.error();
  }

  void follow(Child& child) {
    for (Pipe* pipe : {&child.output, &child.errors}) {
      if (child.pid > 0) {
        loop_->watch(pipe->reader.get(), EPOLLIN,
                     [this, &child, pipe](std::uint32_t) { read_from(child, *pipe); });
      }
    }
  }

  /// Reads once, so that a server that sends endlessly blocks neither the others nor the timeout.
  /// False: nothing more can be read until epoll reports it.
  bool read_from(Child& child, Pipe& pipe) {
    std::array<char, 65536> part{};
    const ssize_t got = read(pipe.reader.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) return true;
    if (got < 0 && errno == EAGAIN) return false;
    if (got <= 0) {
      close_pipe(pipe);
      return false;
    }
    const bool is_output = &pipe == &child.output;
    const std::size_t room = (is_output ? kMostOutput : kMostErrors) - pipe.text.size();
    pipe.text.append(part.data(), std::min(room, static_cast<std::size_t>(got)));
    if (static_cast<std::size_t>(got) <= room) return true;
    kill_group(child, "answers without end");
    close_pipe(pipe);
    return false;
  }

  void close_pipe(Pipe& pipe) {
    if (pipe.reader) loop_->unwatch(pipe.reader.get());
    pipe.reader.reset();
  }

  void reap() {
    bool all = true;
    for (auto& child : children_) {
      int raw = 0;
      if (child.pid > 0 && waitpid(child.pid, &raw, WNOHANG) == child.pid) {
        child.pid = -1;
        if (WIFEXITED(raw)) child.status = WEXITSTATUS(raw);
        if (!child.status && child.given_up.empty()) {
          child.given_up = concat("the process for it was ended by signal ", WTERMSIG(raw));
        }
        // Do not wait for the pipes' end: an ssh that stays to share its connection holds them.
        for (Pipe* pipe : {&child.output, &child.errors}) {
          while (pipe->reader && read_from(child, *pipe)) {
          }
          close_pipe(*pipe);
        }
      }
      all = all && child.pid <= 0;
    }
    if (all) loop_->stop(0);
  }

  void kill_group(Child& child, const std::string& why) {
    if (child.pid <= 0) return;
    child.given_up = why;
    kill(-child.pid, SIGKILL);
  }

  void give_up(const std::string& why) {
    for (auto& child : children_) kill_group(child, why);
  }

  std::vector<Answer> answers() {
    std::vector<Answer> all;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      Child& child = children_[i];
      std::string errors = one_line(child.errors.text);
      if (!child.status) errors += concat(errors.empty() ? "" : "; ", child.given_up);
      all.push_back({servers_.list[i].name, child.status, std::move(child.output.text), errors});
    }
    return all;
  }

  const Servers& servers_;
  bool debug_;
  std::optional<EventLoop> loop_;
  std::deque<Child> children_;  // elements do not move
};

/// The data that is compared: the key, whether the client is enabled, and the settings.
bool is_compared(const Property& property) {
  return property.setting || property.name == "Enabled" || property.name == "KeyID" ||
         property.name == "Fingerprint";
}

using Found = std::pair<std::string_view, const Client*>;  // a server and its client

/// The clients of all servers by name; sorted, because each server has its own order.
std::map<std::string_view, std::vector<Found>> by_name(const std::vector<Listing>& listings) {
  std::map<std::string_view, std::vector<Found>> groups;
  for (const auto& listing : listings) {
    if (!listing.clients) continue;
    for (const auto& client : *listing.clients) {
      groups[client.name()].emplace_back(listing.server, &client);
    }
  }
  return groups;
}

void enumerate(std::string& list, std::string_view name) {
  list += concat(list.empty() ? "" : ", ", name);
}

/// "one: Enabled: Yes on a, b; No on c", or nothing if they agree.
std::string difference(std::string_view name, const std::vector<Found>& clients,
                       std::string_view property) {
  std::vector<std::pair<Value, std::string>> values;  // and the servers that have it
  for (const auto& [server, client] : clients) {
    const Value& value = client->value(property);
    auto same = std::ranges::find(values, value, &std::pair<Value, std::string>::first);
    if (same == values.end()) same = values.insert(values.end(), {value, ""});
    enumerate(same->second, server);
  }
  if (values.size() < 2) return {};
  std::string text;
  for (const auto& [value, servers] : values) {
    text += concat(text.empty() ? "" : "; ", shown(value), " on ", servers);
  }
  return concat(printable(name), ": ", property, ": ", text, "\n");
}

}  // namespace

std::vector<Answer> on_each(const Servers& servers, bool debug, const std::function<int()>& work) {
  return Running(servers, debug).run(work);
}

std::string one_line(std::string_view errors) {
  constexpr std::string_view kOurs = "mandos-ctl: ";
  std::string out;
  while (!errors.empty()) {
    const std::size_t end = std::min(errors.find('\n'), errors.size());
    std::string_view line = errors.substr(0, end);
    errors.remove_prefix(std::min(end + 1, errors.size()));
    while (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with(kOurs)) line.remove_prefix(kOurs.size());
    if (!line.empty()) out += concat(out.empty() ? "" : "; ", printable(line));
  }
  return out;
}

int joint_status(const std::vector<Answer>& answers) {
  const auto failed = std::ranges::count_if(answers, &Answer::failed);
  if (failed == 0) return kSuccess;
  return failed == std::ssize(answers) ? kFailure : kPartly;
}

void complain_of(const std::vector<Answer>& answers) {
  for (const auto& answer : answers) {
    if (!answer.errors.empty()) complain(kFailure, concat(answer.server, ": ", answer.errors));
  }
}

int relay(const std::vector<Answer>& answers) {
  std::string text;
  for (const auto& answer : answers) {
    std::string_view rest = answer.output;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size() - 1) + 1;
      text += concat(answers.size() == 1 ? "" : concat(answer.server, ": "), rest.substr(0, end));
      rest.remove_prefix(end);
    }
  }
  const bool written = write_out(text);
  complain_of(answers);
  if (!written) return kFailure;
  return answers.size() == 1 ? answers[0].status.value_or(kFailure) : joint_status(answers);
}

std::string disagreements(const std::vector<Listing>& listings) {
  std::string text;
  for (const auto& [name, clients] : by_name(listings)) {
    std::string missing;
    for (const auto& listing : listings) {
      if (listing.clients &&
          std::ranges::find(clients, listing.server, &Found::first) == clients.end()) {
        enumerate(missing, listing.server);
      }
    }
    if (!missing.empty()) {
      text += concat(printable(name), ": not on ", missing, "\n");
    }
    for (const auto& property : all_properties()) {
      if (is_compared(property)) text += difference(name, clients, property.name);
    }
  }
  return text;
}

std::string fleet_table(const std::vector<Listing>& listings, bool verbose) {
  std::vector<std::vector<std::string>> rows = {heading_row(verbose)};
  rows[0].insert(rows[0].begin(), "Server");
  for (const auto& [name, clients] : by_name(listings)) {
    for (const auto& [server, client] : clients) {
      rows.push_back(row_of(*client, verbose));
      rows.back().insert(rows.back().begin(), std::string(server));
    }
  }
  return aligned(rows);
}

std::string fleet_json(const std::vector<Listing>& listings) {
  using Json = nlohmann::ordered_json;
  Json all = Json::object();
  for (const auto& listing : listings) {
    all[listing.server] =
        listing.clients ? Json::parse(dump_json(*listing.clients), nullptr, false) : Json();
  }
  return all.dump(4, ' ', true) + "\n";
}

}  // namespace mandos::ctl
