// SPDX-License-Identifier: GPL-3.0-or-later
// Any bytes as a duration: the verdict and the value are those of a model that knows the two
// grammars as regular expressions and adds up slowly.
#include <regex.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/duration.h"
#include "tests/fuzz/input.h"

namespace {

using namespace mandos::fuzz;

constexpr double kTooLong = 1e9 * 86400;

bool matches(const std::string& text, const char* expression) {
  regex_t compiled;
  require(regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB) == 0, "regcomp");
  const bool matched =
      text.find('\0') == text.npos && regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&compiled);
  return matched;
}

/// In seconds. Numbers are exact up to far beyond the longest that is allowed.
std::optional<double> model(std::string text) {
  // RFC 3339 appendix A: no unit may be left out between two others.
  static constexpr char kStandard[] =
      "^P([0-9]+W|(([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)"
      "(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))?)|"
      "(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S)))$";
  static constexpr char kOld[] = "^ *([0-9]+[smhdw])( +[0-9]+[smhdw])* *$";
  const bool standard = matches(text, kStandard);
  if (!standard) {
    for (char& c : text) {
      if ((c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f')) c = ' ';
    }
    if (!matches(text, kOld)) return std::nullopt;
  }
  double total = 0;
  double number = 0;
  bool time = false;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      number = number * 10 + (c - '0');
      continue;
    }
    if (c == 'T') time = true;
    const double unit = c == 'Y'               ? 364 * 86400.
                        : c == 'M'             ? (time ? 60. : 28 * 86400.)
                        : c == 'W' || c == 'w' ? 7 * 86400.
                        : c == 'D' || c == 'd' ? 86400.
                        : c == 'H' || c == 'h' ? 3600.
                        : c == 'm'             ? 60.
                        : c == 'S' || c == 's' ? 1.
                                               : 0.;
    total += number * unit;
    number = 0;
  }
  if (total >= kTooLong) return std::nullopt;
  return total;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 200) return 0;
  const std::string text(text_of(data, size));
  const auto parsed = mandos::parse_duration(text);
  const auto expected = model(text);
  require(static_cast<bool>(parsed) == expected.has_value(), "the verdict is the model's");
  if (!parsed) {
    require(!parsed.error().empty(), "an error says what was expected");
    return 0;
  }
  require(parsed->count() >= 0 && parsed->count() % 1000 == 0, "whole seconds");
  require(static_cast<double>(parsed->count() / 1000) == *expected, "the value is the model's");
  const auto again = mandos::parse_duration("PT" + std::to_string(parsed->count() / 1000) + "S");
  require(again && *again == *parsed, "a duration written in seconds is the same");
  return 0;
}
