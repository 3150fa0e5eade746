// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl metrics: OpenMetrics text for node_exporter's textfile collector.
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "common/text.h"
#include "common/unique_fd.h"
#include "ctl/arguments.h"
#include "ctl/bus.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/servers.h"
#include "ctl/statistics.h"
#include "ctl/times.h"

namespace mandos::ctl {
namespace {

constexpr Option kOptions[] = {
    kHelp,  {"output", 'o', "FILE", "Replace FILE atomically instead."}, kServer, kServerTimeout,
    kDebug,
};
constexpr std::string_view kUsageText = R"(Usage: mandos-ctl metrics [--output FILE]

Writes the state of the server and of its clients as OpenMetrics text. If the
server cannot be reached, it writes only mandos_up 0, and the status is 1.

)";

/// A label's value, quoted as OpenMetrics requires.
std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

std::string seconds(std::int64_t milliseconds) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%lld.%03lld",
                static_cast<long long>(milliseconds / 1000),
                static_cast<long long>(milliseconds % 1000));
  return text.data();
}

std::string head(std::string_view name, std::string_view help, std::string_view unit = "",
                 std::string_view type = "gauge") {
  std::string out = concat("# TYPE ", name, " ", type, "\n");
  if (!unit.empty()) out += concat("# UNIT ", name, " ", unit, "\n");
  return out + concat("# HELP ", name, " ", help, "\n");
}

/// A metric of clients; if `value` returns nothing, there is no sample.
struct Metric {
  std::string_view name;
  std::string_view unit;
  std::string_view help;
  std::optional<std::string> (*value)(const Client& client);
};

std::optional<std::string> moment(const Client& client, std::string_view property) {
  const auto time = parse_time(client.text(property));
  if (!time || *time < 0) return std::nullopt;
  return seconds(*time);
}

std::string span_of(const Client& client, std::string_view property) {
  return seconds(
      static_cast<std::int64_t>(std::min<std::uint64_t>(client.milliseconds(property), INT64_MAX)));
}

std::string truth(bool value) { return value ? "1" : "0"; }

using Sample = std::optional<std::string>;
constexpr Metric kMetrics[] = {
    {"mandos_client_enabled", "", "Whether the client may have its secret.",
     [](const Client& c) -> Sample { return truth(c.flag("Enabled")); }},
    {"mandos_client_approval_pending", "", "Whether the client waits for approval.",
     [](const Client& c) -> Sample { return truth(c.flag("ApprovalPending")); }},
    {"mandos_client_checker_running", "", "Whether a checker runs.",
     [](const Client& c) -> Sample { return truth(c.flag("CheckerRunning")); }},
    {"mandos_client_last_checker_status", "",
     "Exit status of the last checker; -1: killed, -2: none has ended.",
     [](const Client& c) -> Sample { return std::to_string(c.number("LastCheckerStatus")); }},
    {"mandos_client_last_check_timestamp_seconds", "seconds", "When a check last succeeded.",
     [](const Client& c) { return moment(c, "LastCheckedOK"); }},
    {"mandos_client_last_check_age_seconds", "seconds", "Time since a check last succeeded.",
     [](const Client& c) -> Sample {
       const auto time = parse_time(c.text("LastCheckedOK"));
       if (!time) return std::nullopt;
       return seconds(std::max<std::int64_t>(0, wall_now() - *time));
     }},
    {"mandos_client_expiry_timestamp_seconds", "seconds", "When the client expires.",
     [](const Client& c) { return moment(c, "Expires"); }},
    {"mandos_client_timeout_seconds", "seconds", "How long after a check the client expires.",
     [](const Client& c) -> Sample { return span_of(c, "Timeout"); }},
    {"mandos_client_interval_seconds", "seconds", "Time between two checks.",
     [](const Client& c) -> Sample { return span_of(c, "Interval"); }},
};

using Counts = std::map<std::string, std::uint64_t>;

/// A counter with a sample for each value of a label, or for the only entry if there is no label.
/// `start`: when the counter was zero.
std::string counter(std::string_view name, std::string_view help, std::string_view label_name,
                    const Counts& counts, std::optional<std::int64_t> start) {
  std::string out = head(name, help, "", "counter");
  for (const auto& [value, count] : counts) {
    const std::string labels =
        label_name.empty() ? "" : concat("{", label_name, "=\"", label(value), "\"}");
    out += concat(name, "_total", labels, " ", count, "\n");
    if (start) out += concat(name, "_created", labels, " ", seconds(*start), "\n");
  }
  return out;
}

std::string counters_of(const Statistics& statistics) {
  const auto start = statistics.start;
  return concat(
      head("mandos_start_timestamp_seconds", "When the server began to count.", "seconds"),
      "mandos_start_timestamp_seconds ", seconds(start), "\n",
      counter("mandos_grants", "Secrets that were sent.", "", {{"", statistics.grants}}, start),
      counter("mandos_refusals", "Clients that were refused, by reason.", "reason",
              statistics.refusals, start),
      counter("mandos_checks", "Checks that ended, by result.", "result",
              {{"passed", statistics.checks_passed}, {"failed", statistics.checks_failed}}, start),
      counter("mandos_unknown_keys", "Peers with a key that no client has.", "",
              {{"", statistics.unknown_keys}}, start),
      // These count from the start of the server, which may be earlier.
      counter("mandos_process_restarts", "How often a process of the server had to be replaced.",
              "process", statistics.restarts, std::nullopt));
}

std::string metrics_of(const std::vector<Client>* clients,
                       const std::optional<Statistics>& statistics) {
  std::string out = concat(head("mandos_up", "Whether the server answers."), "mandos_up ",
                           truth(clients != nullptr), "\n");
  if (clients == nullptr) return out + "# EOF\n";
  const auto count = [&](auto&& has) { return std::ranges::count_if(*clients, has); };
  const auto enabled = count([](const Client& client) { return client.flag("Enabled"); });
  out += head("mandos_clients", "Number of clients by state.");
  out += concat("mandos_clients{state=\"enabled\"} ", enabled, "\n");
  out += concat("mandos_clients{state=\"disabled\"} ",
                clients->size() - static_cast<std::size_t>(enabled), "\n");
  out += head("mandos_approvals_pending", "Number of clients that wait for approval.");
  out += concat("mandos_approvals_pending ",
                count([](const Client& client) { return client.flag("ApprovalPending"); }), "\n");
  for (const auto& metric : kMetrics) {
    out += head(metric.name, metric.help, metric.unit);
    for (const auto& client : *clients) {
      const auto value = metric.value(client);
      if (value) {
        out += concat(metric.name, "{client=\"", label(client.name()), "\"} ", *value, "\n");
      }
    }
  }
  if (statistics) out += counters_of(*statistics);
  return out + "# EOF\n";
}

/// Readers see either the old or the new file.
Status replace_file(const std::string& name, std::string_view text) {
  // Otherwise root could replace /dev/stdout, or any other device, with a file.
  struct stat about {};
  if (lstat(name.c_str(), &about) == 0 && !S_ISREG(about.st_mode)) {
    return Error{concat("cannot replace ", printable(name),
                        ": found something other than a regular file; expected one, or nothing")};
  }
  std::string temporary = name + ".XXXXXX";
  UniqueFd file(mkstemp(temporary.data()));
  if (!file) return errno_error(errno, "cannot make ", printable(temporary));
  while (!text.empty()) {
    const ssize_t written = write(file.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) break;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  constexpr mode_t kForAll = 0644;
  if (!text.empty() || fchmod(file.get(), kForAll) != 0 ||
      rename(temporary.c_str(), name.c_str()) != 0) {
    const int error = errno;
    unlink(temporary.c_str());
    return errno_error(error, "cannot write ", printable(name));
  }
  return Ok{};
}

}  // namespace

int metrics(Words words) {
  const auto arguments = parse_arguments(kOptions, words);
  if (!arguments) return wrong_usage("metrics", arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kUsageText, help_of(kOptions))) ? kSuccess : kFailure;
  }
  if (!arguments->operands.empty()) return wrong_usage("metrics", "metrics takes no client");
  if (const auto used = use_chosen_server(*arguments); !used) {
    return wrong_usage("metrics", used.error());
  }
  int status = kSuccess;
  Bus bus;
  std::optional<std::vector<Client>> known;
  std::optional<Statistics> statistics;
  if (const auto opened = bus.open(arguments->has("debug")); !opened) {
    status = complain(kFailure, opened.error());
  } else if (auto clients = bus.clients(); !clients) {
    status = complain(kFailure, clients.error());
  } else if (auto counted = bus.statistics(); !counted) {
    status = complain(kFailure, counted.error());
  } else {
    known = std::move(*clients);
    statistics = std::move(*counted);
  }
  const std::string text = metrics_of(known ? &*known : nullptr, statistics);
  const auto* const output = arguments->value("output");
  if (output == nullptr) return write_out(text) ? status : kFailure;
  const auto written = replace_file(*output, text);
  return written ? status : complain(kFailure, written.error());
}

}  // namespace mandos::ctl
