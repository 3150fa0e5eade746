// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/unknown_options.h"

#include <algorithm>
#include <cstddef>
#include <ranges>
#include <string>

namespace mandos::monitor {
namespace {

/// Whether `edits` can make one of the other: a character inserted, deleted or replaced, or two
/// neighbors exchanged.
bool is_near(std::string_view from, std::string_view to, std::size_t edits) {
  const auto same = static_cast<std::size_t>(std::ranges::mismatch(from, to).in1 - from.begin());
  from.remove_prefix(same);
  to.remove_prefix(same);
  if (edits == 0 || from.empty() || to.empty()) return from.size() + to.size() <= edits;
  return is_near(from.substr(1), to, edits - 1) || is_near(from, to.substr(1), edits - 1) ||
         is_near(from.substr(1), to.substr(1), edits - 1) ||
         (from.size() > 1 && to.size() > 1 && from[0] == to[1] && from[1] == to[0] &&
          is_near(from.substr(2), to.substr(2), edits - 1));
}

}  // namespace

std::string_view nearest(std::string_view name, std::span<const std::string_view> known) {
  for (std::size_t edits = 0; edits < 3; ++edits) {
    for (const auto each : known) {
      // Two edits make one short name of any other.
      if (edits < (each.size() + 1) / 2 && is_near(name, each, edits)) return each;
    }
  }
  return {};
}

void judge_unknown(Ini::Section& section, std::string_view name,
                   std::span<const std::string_view> known,
                   std::span<const std::string_view> guards, Problems& problems,
                   Problems& warnings) {
  // In a name that reads as though it kept a client from its secret.
  static constexpr std::string_view kGuarding[] = {"allow", "appr",   "aprov", "block", "by_def",
                                                   "bydef", "denied", "deny",  "disab", "enab",
                                                   "refus", "reject", "revok", "stolen"};
  std::string all_guards;
  for (const auto guard : guards) {
    all_guards += concat(all_guards.empty() ? "" : guard == guards.back() ? " or " : ", ", guard);
  }
  for (const auto& [each, option] : section.options) {
    if (option.place.line == 0 || option.referred || std::ranges::count(known, each) > 0) continue;
    const auto meant = nearest(each, known);
    if (std::ranges::count(guards, meant) > 0 ||
        (meant.empty() && !guards.empty() &&
         std::ranges::any_of(kGuarding, [name = each](std::string_view word) {
           return name.find(word) != name.npos;
         }))) {
      section.broken = true;
      problems.push_back(Ini::problem(option.place, name, each, "an unknown option",
                                      meant.empty() ? all_guards : concat('"', meant, '"')));
    } else {
      warnings.push_back(
          concat(Ini::where(option.place, name, each), "unknown option, ignored",
                 meant.empty() ? "" : concat("; the nearest known one is \"", meant, '"')));
    }
  }
}

}  // namespace mandos::monitor
