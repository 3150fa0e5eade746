// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl status and verify: the health of the server, and whether one client will get its
// password.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "common/text.h"
#include "ctl/arguments.h"
#include "ctl/bus.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/fleet.h"
#include "ctl/servers.h"
#include "ctl/statistics.h"
#include "ctl/times.h"
#include "ctl/zeroconf.h"

namespace mandos::ctl {
namespace {

// The statuses of monitoring plugins.
constexpr int kOk = 0;
constexpr int kWarning = 1;
constexpr int kCritical = 2;
constexpr int kUnknown = 3;
constexpr std::string_view kLevels[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};

constexpr Option kStatusOptions[] = {kHelp, kServer, kServerTimeout, kDebug};
constexpr std::string_view kStatusUsage = R"(Usage: mandos-ctl status

Shows an overview on one screen. The first line and the status are those of a
monitoring plugin: 0 OK; 1 WARNING: a client is disabled, is waiting for
approval, or failed its last check; 2 CRITICAL: no server is running, or a
client whose last check failed expires before the next one; 3 UNKNOWN: the
server cannot be reached.

)";

constexpr Option kVerifyOptions[] = {kHelp, kServer, kServerTimeout, kDebug};
constexpr std::string_view kVerifyUsage = R"(Usage: mandos-ctl verify CLIENT

Reports whether the client will get its password at its next boot without manual
help, as far as can be seen over the bus, and what would prevent it. The status
is 0 if nothing would.

)";

// No checker has ended yet.
constexpr std::int64_t kNeverChecked = -2;
constexpr std::size_t kMostProblems = 15;

bool last_check_failed(const Client& client) {
  const std::int64_t last = client.number("LastCheckerStatus");
  return last != 0 && last != kNeverChecked;
}

/// How long until the client expires, in milliseconds; none if it does not.
std::optional<std::int64_t> time_left(const Client& client) {
  const auto expiry = parse_time(client.text("Expires"));
  if (!client.flag("Enabled") || !expiry) return std::nullopt;
  return std::max<std::int64_t>(0, *expiry - wall_now());
}

std::string left_text(std::int64_t milliseconds) {
  return duration_text(static_cast<std::uint64_t>(milliseconds));
}

std::string how_it_ended(const Client& client) {
  const std::int64_t last = client.number("LastCheckerStatus");
  return last < 0 ? "was killed" : concat("failed with status ", last);
}

struct Problem {
  int level;
  std::string text;
};

/// The most severe problem of a client.
std::optional<Problem> problem_of(const Client& client) {
  const std::string name = printable(client.name());
  if (!client.flag("Enabled")) return Problem{kWarning, concat(name, " is disabled")};
  if (last_check_failed(client)) {
    const auto left = time_left(client);
    const bool last_chance =
        left && static_cast<std::uint64_t>(*left) < client.milliseconds("Interval");
    return Problem{last_chance ? kCritical : kWarning,
                   concat(name, ": the last check ", how_it_ended(client),
                          left ? concat(", expires in ", left_text(*left)) : "")};
  }
  if (client.flag("ApprovalPending")) return Problem{kWarning, concat(name, " waits for approval")};
  return std::nullopt;
}

/// The output of `status` and its level.
std::pair<int, std::string> judged(const std::vector<Client>& clients) {
  std::vector<Problem> problems;
  for (const auto& client : clients) {
    if (auto problem = problem_of(client)) problems.push_back(std::move(*problem));
  }
  std::ranges::stable_sort(
      problems, [](const Problem& one, const Problem& other) { return one.level > other.level; });
  const auto count = [&clients](auto&& has) { return std::ranges::count_if(clients, has); };
  const auto enabled = count([](const Client& client) { return client.flag("Enabled"); });
  const auto waiting = count([](const Client& client) { return client.flag("ApprovalPending"); });
  const auto failed = count(
      [](const Client& client) { return client.flag("Enabled") && last_check_failed(client); });
  const int level = problems.empty() ? kOk : problems.front().level;
  std::string text =
      concat("MANDOS ", kLevels[level], " - ", clients.size(),
             clients.size() == 1 ? " client, " : " clients, ", enabled, " enabled, ", waiting,
             " waiting, ", failed, " failed the last check | clients=", clients.size(),
             " enabled=", enabled, " waiting=", waiting, " failed=", failed, "\n");
  for (const auto& problem : std::span(problems).first(std::min(problems.size(), kMostProblems))) {
    text += concat(kLevels[problem.level], ": ", problem.text, "\n");
  }
  if (problems.size() > kMostProblems) {
    text += concat("and ", problems.size() - kMostProblems, " more\n");
  }
  return {level, text};
}

int unknown(const std::string& why, int level = kUnknown) {
  return write_out(concat("MANDOS ", kLevels[level], " - ", why, "\n")) ? level : kUnknown;
}

/// "eth0 (IPv4, IPv6), eth1 (IPv6)".
std::string where(const std::vector<Announced>& all) {
  std::map<std::string, std::string> protocols;
  for (const auto& each : all) {
    auto& text = protocols[each.interface];
    const char* const protocol = each.ipv6 ? "IPv6" : "IPv4";
    if (text.find(protocol) == std::string::npos)
      text += concat(text.empty() ? "" : ", ", protocol);
  }
  std::string out;
  for (const auto& [interface, text] : protocols) {
    out += concat(out.empty() ? "" : ", ", printable(interface), " (", text, ")");
  }
  return out;
}

/// The level of a server's answer to `status`.
int level_of(const Answer& answer) {
  const int status = answer.status.value_or(kUnknown);
  return status >= kOk && status < kUnknown ? status : kUnknown;
}

/// The answers of several servers to `status`, as one. Its level is the most severe one: unknown is
/// more severe than a warning, and less than critical.
int status_of_all(const std::vector<Answer>& answers) {
  constexpr int kGravity[] = {0, 1, 3, 2};  // by level
  if (answers.size() == 1) {
    const auto& [server, status, output, errors] = answers[0];
    if (!status) return unknown(concat(server, ": ", errors));
    const std::string line = errors.empty() ? "" : concat(server, ": ", errors, "\n");
    return write_out(concat(output, line)) ? *status : kUnknown;
  }
  int level = kOk;
  std::string first = concat(answers.size(), " servers: ");
  std::string numbers;
  std::string rest;
  for (const auto& answer : answers) {
    const int own = level_of(answer);
    if (kGravity[own] > kGravity[level]) level = own;
    first += concat(&answer == &answers.front() ? "" : ", ", answer.server, " ", kLevels[own]);
    std::string_view text = answer.output;
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(line.size() + 1, text.size()));
      const std::size_t bar = line.find(" | ");
      rest += concat(answer.server, ": ", line.substr(0, bar), "\n");
      if (bar == std::string_view::npos) continue;
      for (std::string_view values = line.substr(bar + 3); !values.empty();) {
        const std::string_view value = values.substr(0, values.find(' '));
        values.remove_prefix(std::min(value.size() + 1, values.size()));
        numbers += concat(numbers.empty() ? "" : " ", answer.server, "/", value);
      }
    }
    if (!answer.errors.empty()) rest += concat(answer.server, ": ", answer.errors, "\n");
  }
  if (!numbers.empty()) first += concat(" | ", numbers);
  return write_out(concat("MANDOS ", kLevels[level], " - ", first, "\n", rest)) ? level : kUnknown;
}

/// The results of `verify`, line by line.
class Findings {
 public:
  void good(std::string_view text) { text_ += concat("ok       ", text, "\n"); }
  void note(std::string_view text) { text_ += concat("note     ", text, "\n"); }
  void bad(std::string_view text) {
    text_ += concat("PROBLEM  ", text, "\n");
    any_ = true;
  }
  bool any() const { return any_; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  bool any_ = false;
};

void verify_enabled(const Client& client, Findings& found) {
  if (!client.flag("Enabled")) {
    found.bad("it is disabled, and gets nothing until it is enabled");
    return;
  }
  found.good("it is enabled");
  const auto left = time_left(client);
  if (!left) return found.note("it does not expire");
  const std::string text = concat("it expires in ", left_text(*left), " unless a check succeeds");
  if (last_check_failed(client)) {
    found.bad(concat("the last check ", how_it_ended(client), "; ", text));
  } else if (client.number("LastCheckerStatus") == kNeverChecked) {
    found.note(concat("it was not checked yet; ", text));
  } else {
    found.good(concat("the last check succeeded; ", text));
  }
}

void verify_approval(const Client& client, Findings& found) {
  const std::uint64_t delay = client.milliseconds("ApprovalDelay");
  if (client.flag("ApprovalPending")) found.note("it waits for approval right now");
  if (delay == 0) {
    found.good("it needs no approval");
  } else if (client.flag("ApprovedByDefault")) {
    found.good(concat("it is approved by default, after ", duration_text(delay)));
  } else {
    found.bad(concat("it is denied unless somebody approves it within ", duration_text(delay)));
  }
}

void verify_key(const Client& client, Findings& found) {
  // Clients of version 1.8.0 without a key reported this: the SHA-256 of nothing.
  constexpr std::string_view kNoKey =
      "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
  const std::string& key = client.text("KeyID");
  const bool hexadecimal = key.find_first_not_of("0123456789ABCDEFabcdef") == std::string::npos;
  if (key.empty()) {
    found.bad("it has no key ID, so no key that it proves matches");
  } else if (key.size() != kNoKey.size() || !hexadecimal) {
    found.bad("its key ID is not 64 hexadecimal digits (SHA-256)");
  } else if (key == kNoKey) {
    found.bad("its key ID is that of an empty key, which never matches");
  } else {
    found.good(concat("its key ID is ", key));
  }
}

void verify_secret(const std::optional<std::string>& form, Findings& found) {
  if (!form) {
    found.note("its secret cannot be read over the bus, and this server does not report its form");
  } else if (*form == "OpenPGP") {
    found.good("its secret is a complete OpenPGP message, the server reports");
  } else if (*form == "none") {
    found.bad("it has no secret");
  } else if (*form == "other") {
    found.bad("its secret is not an OpenPGP message, so the client cannot decrypt it");
  } else {
    found.bad(
        concat("its secret is a ", printable(*form), " message, so the client cannot decrypt it"));
  }
}

void verify_announcement(Bus& bus, const std::optional<Statistics>& statistics, Findings& found) {
  const auto all = browse(bus);
  if (!all) {
    return found.note(concat("not known whether Zeroconf announces the server: ", all.error()));
  }
  const std::string service = statistics ? statistics->service : "";
  std::vector<Announced> own;
  std::vector<Announced> others;
  for (const auto& each : *all) {
    (each.here && (service.empty() || each.name == service) ? own : others).push_back(each);
  }
  if (!own.empty()) {
    found.good(concat("Zeroconf announces the server \"", printable(own.front().name), "\" on ",
                      where(own)));
  } else if (!service.empty()) {
    found.bad(concat("Zeroconf does not announce the server \"", printable(service),
                     "\": a client has to know its address"));
  } else {
    found.note("Zeroconf does not announce the server: a client has to know its address");
  }
  if (!others.empty()) {
    found.note(concat("other Mandos servers are announced on ", where(others)));
  }
}

}  // namespace

int status(Words words) {
  const auto arguments = parse_arguments(kStatusOptions, words);
  if (!arguments) return wrong_usage("status", arguments.error(), kUnknown);
  if (arguments->has("help")) {
    return write_out(concat(kStatusUsage, help_of(kStatusOptions))) ? kOk : kUnknown;
  }
  if (!arguments->operands.empty()) {
    return wrong_usage("status", "status takes no client", kUnknown);
  }
  const auto servers = chosen_servers(*arguments);
  if (!servers) return wrong_usage("status", servers.error(), kUnknown);
  if (!servers->list.empty()) {
    // In a server's process, its bus is the system bus, and no server is named.
    const bool debug = arguments->has("debug");
    const std::string_view words_there[] = {"--debug"};
    return status_of_all(on_each(
        *servers, debug, [&] { return status(std::span(words_there).first(debug ? 1 : 0)); }));
  }
  Bus bus;
  if (const auto opened = bus.open(arguments->has("debug")); !opened) {
    return unknown(opened.error());
  }
  const auto clients = bus.clients();
  if (!clients) {
    return unknown(clients.error(), bus.trouble() == Trouble::kNoServer ? kCritical : kUnknown);
  }
  const auto [level, text] = judged(*clients);
  return write_out(text) ? level : kUnknown;
}

int verify(Words words) {
  const auto arguments = parse_arguments(kVerifyOptions, words);
  if (!arguments) return wrong_usage("verify", arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kVerifyUsage, help_of(kVerifyOptions))) ? kSuccess : kFailure;
  }
  if (arguments->operands.size() != 1) return wrong_usage("verify", "verify takes one client");
  const auto servers = chosen_servers(*arguments);
  if (!servers) return wrong_usage("verify", servers.error());
  if (!servers->list.empty()) {
    const bool debug = arguments->has("debug");
    const std::string_view words_there[] = {"--debug", "--", arguments->operands[0]};
    return relay(on_each(*servers, debug,
                         [&] { return verify(std::span(words_there).subspan(debug ? 0 : 1)); }));
  }
  Bus bus;
  if (const auto opened = bus.open(arguments->has("debug")); !opened) {
    return complain(kFailure, opened.error());
  }
  const auto clients = bus.clients();
  if (!clients) return complain(kFailure, clients.error());
  const auto client = std::ranges::find(*clients, arguments->operands[0], &Client::name);
  if (client == clients->end()) {
    return complain(kFailure, no_such_client(arguments->operands[0], *clients));
  }
  Findings found;
  verify_enabled(*client, found);
  verify_approval(*client, found);
  verify_key(*client, found);
  const auto form = bus.secret_form(client->path);
  if (!form) return complain(kFailure, form.error());
  verify_secret(*form, found);
  const auto statistics = bus.statistics();
  if (!statistics) return complain(kFailure, statistics.error());
  verify_announcement(bus, *statistics, found);
  if (!write_out(found.text())) return kFailure;
  return found.any() ? kFailure : kSuccess;
}

}  // namespace mandos::ctl
