// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/key_id.h"

#include "common/text.h"

namespace mandos::monitor {

const KeyId kKeyIdOfNothing =
    *KeyId::parse("E3B0C442 98FC1C14 9AFBF4C8 996FB924 27AE41E4 649B934C A495991B 7852B855");

std::optional<KeyId> KeyId::parse(std::string_view text) {
  KeyId id;
  std::size_t digits = 0;
  for (const char c : text) {
    if (c == ' ' || (c >= '\t' && c <= '\r')) continue;
    const auto value = std::string_view("0123456789ABCDEFabcdef").find(c);
    if (value == text.npos || digits == 2 * id.bytes.size()) return std::nullopt;
    auto& byte = id.bytes[digits++ / 2];
    byte = static_cast<std::uint8_t>(unsigned{byte} << 4 | (value < 16 ? value : value - 6));
  }
  if (digits != 2 * id.bytes.size()) return std::nullopt;
  return id;
}

std::string KeyId::text() const {
  std::string out;
  for (const auto byte : bytes) out += {kUpperHex[byte >> 4], kUpperHex[byte & 15]};
  return out;
}

}  // namespace mandos::monitor
