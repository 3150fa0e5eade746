// SPDX-License-Identifier: GPL-3.0-or-later
// What the values of options mean, whichever file or command line they are from.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/duration.h"
#include "common/result.h"

namespace mandos::monitor {

std::optional<bool> parse_boolean(std::string_view text);
/// An option's value for a message, in quotes and shortened. Not for values that may be secret.
inline std::string in_quotes(std::string_view value) {
  return concat('"', escaped(value, 60), '"');
}

// Each sets one member from its text; the Error says what was expected.
template <auto Member, class Owner>
Status set_text(Owner& owner, std::string_view value) {
  owner.*Member = value;
  return Ok{};
}
template <auto Member, class Owner>
Status set_boolean(Owner& owner, std::string_view value) {
  const auto truth = parse_boolean(value);
  if (!truth) return Error{"1, yes, true, on, 0, no, false or off"};
  owner.*Member = *truth;
  return Ok{};
}
template <auto Member, std::int64_t Least = 0, std::int64_t Most = INT64_MAX, class Owner>
Status set_duration(Owner& owner, std::string_view value) {
  const auto parsed = parse_duration(value);
  if (!parsed) return Error{parsed.error()};
  owner.*Member = *parsed;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(*parsed).count();
  if (seconds >= Least && seconds <= Most) return Ok{};
  return Error{Most == INT64_MAX ? concat("at least ", Least, " s")
                                 : concat(Least, " to ", Most, " s")};
}

}  // namespace mandos::monitor
