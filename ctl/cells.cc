// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/cells.h"

#include <wchar.h>

#include <array>
#include <climits>
#include <cstdint>
#include <optional>

namespace mandos::ctl {
namespace {

/// Removes the first character; returns nothing for a byte that is not part of valid UTF-8.
std::optional<std::uint32_t> take(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text[0]);
  std::size_t more = 0;
  std::uint32_t code = first;
  std::uint32_t least = 0;
  if (first >= 0xf0 && first < 0xf8) {
    more = 3;
    code = first & 0x07U;
    least = 0x10000;
  } else if (first >= 0xe0 && first < 0xf0) {
    more = 2;
    code = first & 0x0fU;
    least = 0x800;
  } else if (first >= 0xc0 && first < 0xe0) {
    more = 1;
    code = first & 0x1fU;
    least = 0x80;
  } else if (first >= 0x80) {
    more = text.size();  // a continuation byte without a first byte
  }
  bool valid = more < text.size();
  for (std::size_t i = 1; valid && i <= more; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    valid = (next & 0xc0U) == 0x80;
    code = code << 6U | (next & 0x3fU);
  }
  valid = valid && code >= least && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  text.remove_prefix(valid ? more + 1 : 1);
  return valid ? std::optional(code) : std::nullopt;
}

std::size_t columns_of(wchar_t character) { return wcwidth(character) == 2 ? 2 : 1; }

}  // namespace

bool can_be_shown(wchar_t character) {
  std::array<char, MB_LEN_MAX> bytes{};
  mbstate_t state{};
  return wcwidth(character) > 0 &&
         wcrtomb(bytes.data(), character, &state) != static_cast<std::size_t>(-1);
}

std::wstring readable(std::string_view utf8) {
  std::wstring out;
  while (!utf8.empty()) {
    const auto code = take(utf8);
    const auto character = static_cast<wchar_t>(code.value_or(0));
    out += can_be_shown(character) ? character : L'?';
  }
  return out;
}

std::size_t columns_of(std::wstring_view text) {
  std::size_t columns = 0;
  for (const wchar_t character : text) columns += columns_of(character);
  return columns;
}

std::wstring fitted(std::wstring_view text, std::size_t columns) {
  std::wstring out(text);
  std::size_t taken = columns_of(text);
  if (taken > columns && columns > 0) {
    while (taken + 1 > columns) {
      taken -= columns_of(out.back());
      out.pop_back();
    }
    out += L'~';
    ++taken;
  }
  if (columns == 0) return {};
  out.append(columns - taken, L' ');
  return out;
}

}  // namespace mandos::ctl
