// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/fate.h"

#include <sys/wait.h>

#include <algorithm>
#include <cstddef>
#include <variant>

#include "monitor/checker_command.h"

namespace mandos::monitor {
namespace {

constexpr std::size_t kLongestValue = 120;

std::string in_words(const CheckerFinished* finished, const Client& client) {
  if (finished == nullptr) return client.checker ? "still running" : "not started";
  const int status = finished->wait_status;
  if (WIFSIGNALED(status)) return concat("killed by signal ", WTERMSIG(status));
  const int code = WEXITSTATUS(status);
  return concat("exit status ", code,
                code == 127   ? ": the program or its interpreter was not found"
                : code == 126 ? ": the program could not be executed"
                              : "");
}

/// Whether the last checker's exit status says that its program does not work.
bool is_broken(const Client& client) {
  return client.last_checker_status == 126 || client.last_checker_status == 127;
}

}  // namespace

std::string fate_line(std::string_view event, std::string_view client, std::string_view by,
                      std::string_view rest) {
  return concat("audit: event=", event, " client=\"", escaped(client), "\" by=\"",
                escaped(by, kLongestValue), "\"", rest);
}

std::string added_line(std::string_view client, bool enabled, std::string_view by) {
  return fate_line("added", client, by, enabled ? "" : " enabled=False");
}

std::string damaged_line(std::string_view client) {
  return fate_line("disabled", client, "damaged state", " failed_checks=0 last_answer=\"never\"");
}

std::vector<std::string> fate(const Client& before, const Client& after, const Event& event,
                              std::string_view by) {
  std::vector<std::string> lines;
  if (before.removed && after.removed) return {};
  if (before.removed || after.removed) {
    return {after.removed ? fate_line("removed", after.name, by)
                          : added_line(after.name, after.enabled(), by)};
  }
  for (const auto& each : attributes()) {
    if (before.settings == after.settings || !each.is_setting) continue;
    const std::string from = each.value(before);
    const std::string to = each.value(after);
    if (from == to) continue;
    // If both would look alike after the cut, they are shown from shortly before the difference.
    const auto begin =
        escaped(from, kLongestValue) == escaped(to, kLongestValue)
            ? static_cast<std::size_t>(std::ranges::mismatch(from, to).in1 - from.begin()) - 20
            : 0;
    lines.push_back(
        fate_line("changed", after.name, by,
                  concat(" setting=", each.name, " from=\"", begin == 0 ? "" : "...",
                         escaped(from.substr(begin), kLongestValue), "\" to=\"",
                         begin == 0 ? "" : "...", escaped(to.substr(begin), kLongestValue), "\"")));
  }
  const auto* const finished = std::get_if<CheckerFinished>(&event);
  const auto* const approve = std::get_if<Approve>(&event);
  const auto* const set = std::get_if<Set>(&event);
  // If the deadline had already passed, the event that came just then is not the cause.
  const auto by_or_timeout =
      before.expires && *before.expires <= BootClock::now() ? std::string_view("timeout") : by;
  const bool was = before.failed_checks > 0;
  const bool fails = after.failed_checks > 0;
  const std::string answers =
      concat(" failed_checks=", std::max(before.failed_checks, after.failed_checks),
             " last_answer=\"", last_answer(before), "\"");
  const struct {
    bool happened;
    std::string_view event, by;
    std::string rest;
  } rows[] = {
      {!same_setting(before.settings->secret, after.settings->secret), "changed", by,
       " setting=secret from=\"not shown\" to=\"not shown\""},
      {fails && (!was || (finished != nullptr && is_broken(after) && !is_broken(before))),
       "failing", "checker", concat(" status=\"", in_words(finished, after), "\"", answers)},
      {finished != nullptr && was && !fails, "answering", "checker", answers},
      {approve != nullptr, approve != nullptr && approve->approved ? "approved" : "denied", by,
       concat(" waiting=", before.waiting.size(), " duration=\"",
              attribute(after, "approval_duration"), "\"")},
      {std::holds_alternative<CheckedOk>(event) ||
           (set != nullptr && set->property == Property::kLastCheckedOk),
       "bumped", by, answers},
      {before.waiting.empty() && !after.waiting.empty(), "waiting", by,
       concat(" delay=\"", attribute(after, "approval_delay"),
              "\" approved_by_default=", attribute(after, "approved_by_default"))},
      {std::holds_alternative<HungUp>(event) && !before.waiting.empty() && after.waiting.empty(),
       "gone", by, ""},
      {!before.enabled() && after.enabled(), "enabled", by, ""},
      {before.enabled() && !after.enabled(), "disabled", by_or_timeout, answers},
  };
  for (const auto& row : rows) {
    if (row.happened) lines.push_back(fate_line(row.event, after.name, row.by, row.rest));
  }
  return lines;
}

}  // namespace mandos::monitor
