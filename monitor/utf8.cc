// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/utf8.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace mandos::monitor {

char32_t next_character(std::string_view& rest) {
  static constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto size = static_cast<std::size_t>(std::countl_one(static_cast<std::uint8_t>(rest[0])));
  const std::size_t length = std::max<std::size_t>(size, 1);
  char32_t character = static_cast<std::uint8_t>(rest[0]) & (0xffU >> (size + 1));
  bool well_formed = size != 1 && size <= 4 && length <= rest.size();
  for (std::size_t i = 1; well_formed && i < length; ++i) {
    well_formed = (rest[i] & 0xc0) == 0x80;
    character = character << 6 | static_cast<char32_t>(rest[i] & 0x3f);
  }
  well_formed =
      well_formed && character >= kLeast[size] && character <= 0x10ffff && character >> 11 != 0x1b;
  rest.remove_prefix(well_formed ? length : 1);
  return well_formed ? character : kMalformed;
}

bool is_text(std::string_view bytes) {
  while (!bytes.empty()) {
    // Nearly everything is ASCII.
    if (static_cast<signed char>(bytes.front()) > 0) {
      bytes.remove_prefix(1);
      continue;
    }
    const char32_t character = next_character(bytes);
    if (character == kMalformed || character == 0) return false;
  }
  return true;
}

}  // namespace mandos::monitor
