// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/duration.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>

namespace mandos {
namespace {

struct Unit {
  char letter;
  std::int64_t seconds;
};
constexpr std::int64_t kDay = 86400;
constexpr Unit kDate[] = {{'Y', 364 * kDay}, {'M', 28 * kDay}, {'D', kDay}};
constexpr Unit kTime[] = {{'H', 3600}, {'M', 60}, {'S', 1}};
constexpr Unit kWeeks[] = {{'W', 7 * kDay}};
constexpr Unit kOld[] = {{'w', 7 * kDay}, {'d', kDay}, {'h', 3600}, {'m', 60}, {'s', 1}};
constexpr std::int64_t kLongest = 1'000'000'000 * kDay - 1;  // the original's

/// Takes a number and its unit off `rest`, adds it to `total` (which stays at kLongest + 1 once it
/// is too long) and returns the unit's index; -1 when `rest` begins with no such thing.
std::ptrdiff_t take(std::string_view& rest, std::span<const Unit> units, std::int64_t& total) {
  std::int64_t number = 0;
  const char* const end = rest.data() + rest.size();
  const auto [letter, error] = std::from_chars(rest.data(), end, number);
  if (error == std::errc::invalid_argument || letter == end || rest.front() == '-') return -1;
  const auto unit = std::ranges::find(units, *letter, &Unit::letter);
  if (unit == units.end()) return -1;
  const bool too_long = error != std::errc() || number > (kLongest - total) / unit->seconds;
  total = too_long || total > kLongest ? kLongest + 1 : total + number * unit->seconds;
  rest = {letter + 1, end};
  return unit - units.begin();
}

/// RFC 3339 appendix A, after the "P".
bool read_standard(std::string_view rest, std::int64_t& total) {
  if (rest.ends_with('W')) return take(rest, kWeeks, total) == 0 && rest.empty();
  std::span<const Unit> units = kDate;
  std::ptrdiff_t last = -1;
  do {
    if (units.data() == kDate && rest.starts_with('T')) {
      rest.remove_prefix(1);
      units = kTime;
      last = -1;
    }
    const auto unit = take(rest, units, total);
    if (unit < 0 || (last >= 0 && unit != last + 1)) return false;
    last = unit;
  } while (!rest.empty());
  return true;
}

bool read_old(std::string_view rest, std::int64_t& total) {
  static constexpr std::string_view kSpace = " \t\n\v\f\r\x1c\x1d\x1e\x1f";
  bool any = false;
  for (;; any = true) {
    rest.remove_prefix(std::min(rest.find_first_not_of(kSpace), rest.size()));
    if (rest.empty()) return any;
    if (take(rest, kOld, total) < 0) return false;
    if (!rest.empty() && rest.find_first_of(kSpace) != 0) return false;
  }
}

}  // namespace

Result<Milliseconds> parse_duration(std::string_view text) {
  std::int64_t total = 0;
  if (text.starts_with('P') ? !read_standard(text.substr(1), total) : !read_old(text, total)) {
    return Error{"a duration such as PT5M, P1DT12H or \"5m 30s\""};
  }
  if (total > kLongest) return Error{"a duration of less than 10^9 days"};
  return Milliseconds(std::chrono::seconds(total));
}

}  // namespace mandos
