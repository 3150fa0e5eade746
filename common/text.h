// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace mandos {

inline constexpr std::string_view kLowerHex = "0123456789abcdef";
inline constexpr std::string_view kUpperHex = "0123456789ABCDEF";

inline void append(std::string& out, std::string_view part) { out += part; }
inline void append(std::string& out, char part) { out += part; }
template <std::integral Number>
requires(!std::same_as<Number, char>) void append(std::string& out, Number part) {
  out += std::to_string(part);
}

/// Joins strings, characters and whole numbers into one string.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string out;
  (append(out, parts), ...);
  return out;
}

/// Whether all of `text` is a whole decimal number: no sign but '-', no space, no overflow.
template <std::integral Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

/// `bytes` as printable ASCII for a log line, safe within double quotes: control bytes, bytes above
/// 0x7e, the backslash and the double quote become \xHH, and what exceeds `limit` characters is cut
/// and marked with "...".
std::string escaped(std::string_view bytes, std::size_t limit = 200);

/// The bytes of a string, for functions that take spans.
inline std::span<const unsigned char> as_bytes(std::string_view text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

}  // namespace mandos
