// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/warnings.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/duration.h"
#include "common/text.h"
#include "ctl/times.h"

namespace mandos::ctl {
namespace {

constexpr std::uint64_t kCheck{kCheckTime.count()};
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

/// Any duration that the bus can carry, so that sums with a time cannot overflow.
std::int64_t bounded(std::uint64_t milliseconds) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max() / 4;
  return static_cast<std::int64_t>(std::min(milliseconds, kMost));
}

std::string last_answer(const Client& client) {
  const std::string& last = client.text("LastCheckedOK");
  return last.empty() ? "it has never answered" : concat("its last answer was at ", last, " UTC");
}

}  // namespace

std::vector<std::string> warnings(Client client, std::span<const Change> changes,
                                  std::int64_t now) {
  std::vector<std::string> found;
  const std::string name = printable(client.name());
  const auto is_set = [&changes](std::string_view property) {
    return std::ranges::find(changes, property, &Change::property) != changes.end();
  };
  std::int64_t expires =
      client.flag("Enabled") ? parse_time(client.text("Expires")).value_or(kNever) : kNever;
  for (const auto& [property, value] : changes) {
    const std::int64_t timeout = bounded(client.milliseconds("Timeout"));
    if (property == "Timeout" && expires != kNever) {
      // The remaining time changes with the timeout; it does not restart.
      expires += bounded(std::get<std::uint64_t>(value)) - timeout;
      if (expires <= now) {
        found.push_back(concat(name, ": a timeout of ", shown(value),
                               " disables it at once: ", last_answer(client)));
        expires = kNever;
      }
    }
    if (property == "LastCheckedOK" && expires != kNever) {
      expires = now + timeout;
      client.properties.insert_or_assign("LastCheckedOK", time_text(now));
    } else {
      // A client that is being enabled has a whole interval for its first check.
      if (property == "Enabled" && !std::get<bool>(value)) expires = kNever;
      client.properties.insert_or_assign(std::string(property), value);
    }
  }
  const std::uint64_t interval = client.milliseconds("Interval");
  for (const std::string_view limit : {"Timeout", "ExtendedTimeout"}) {
    const std::uint64_t given = client.milliseconds(limit);
    if (!is_set(limit) && !is_set("Interval")) continue;
    if (given >= kCheck && given - kCheck >= interval) continue;
    found.push_back(concat(name, ": ", limit == "Timeout" ? "a timeout" : "an extended timeout",
                           " of ", shown(client.value(limit)), " is less than the interval, ",
                           shown(client.value("Interval")), ", and ", kCheck / 1000,
                           " s for a check: it could be disabled before it answers the next one"));
  }
  return found;
}

}  // namespace mandos::ctl
