// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/version_line.h"

#include <algorithm>

namespace mandos::networker {

bool speaks_our_version(std::string_view line) {
  // The ASCII part of white space according to Python's str.split().
  constexpr std::string_view kSpace = "\t\n\v\f\r\x1c\x1d\x1e\x1f ";
  line.remove_prefix(std::min(line.find_first_not_of(kSpace), line.size()));
  std::string_view field = line.substr(0, line.find_first_of(kSpace));

  const bool negative = field.starts_with('-');
  if (negative || field.starts_with('+')) field.remove_prefix(1);
  bool after_digit = false;
  bool above_one = false;
  unsigned value = 0;
  for (const char c : field) {
    if (c == '_' && after_digit) {
      after_digit = false;
    } else if (c >= '0' && c <= '9') {
      after_digit = true;
      value = above_one ? value : value * 10 + static_cast<unsigned>(c - '0');
      above_one = value > 1;
    } else {
      return false;
    }
  }
  return after_digit && (negative || !above_one);
}

}  // namespace mandos::networker
