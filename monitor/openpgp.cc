// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/openpgp.h"

#include <cstddef>

namespace mandos::monitor {
namespace {

constexpr bool is_in(std::size_t number, std::uint32_t set) {
  return number < 32 && (set >> number & 1U) != 0;
}
template <class... Numbers>
constexpr std::uint32_t set_of(Numbers... numbers) {
  return ((1U << numbers) | ...);
}

// Packets: the keys that the message is encrypted to, a marker, and what holds the data.
constexpr std::uint32_t kKeys = set_of(1, 3, 10);
constexpr std::uint32_t kData = set_of(9, 18, 20);
// Algorithms that a key packet names (sections 9.1 and 9.3).
constexpr std::uint32_t kPublicKey = set_of(1, 2, 16, 18, 25, 26);
constexpr std::uint32_t kCiphers = set_of(1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13);

}  // namespace

OpenPgp judge_openpgp(std::string_view content) {
  if (content.starts_with("-----BEGIN PGP MESSAGE-----")) {
    const bool ends = content.find("\n-----END PGP MESSAGE-----") != content.npos;
    return ends ? OpenPgp::kWhole : OpenPgp::kDamaged;
  }
  const auto number = [content](std::size_t at, std::size_t octets) {
    std::size_t value = 0;
    for (const std::size_t end = at + octets; at < end; ++at) {
      value = value << 8U | (at < content.size() ? static_cast<unsigned char>(content[at]) : 0U);
    }
    return value;
  };
  // Bytes that only look like a key packet are not called damaged.
  const auto is_key = [&](std::size_t type, std::size_t body) {
    return type == 1 ? number(body, 1) == 3 && is_in(number(body + 9, 1), kPublicKey)
                     : type == 3 && number(body, 1) == 4 && is_in(number(body + 1, 1), kCiphers);
  };
  std::size_t at = 0;
  std::size_t type = 0;
  bool has_key = false;
  do {
    const auto first = number(at++, 1);
    const bool is_old = (first & 0x40U) == 0;
    type = is_old ? first >> 2U & 0xfU : first & 0x3fU;
    if (first < 0x80 || !is_in(type, kKeys | kData)) {
      type = 0;
      break;
    }
    std::size_t body = at;
    if (is_old) {
      const std::size_t octets = std::size_t{1} << (first & 3U);
      body += octets;
      at = octets == 8 ? content.size() : body + number(at, octets);
    } else {
      bool is_part = false;
      do {
        const auto length = number(at, 1);
        is_part = length >= 224 && length < 255;
        body = at + (length < 192 || is_part ? 1 : length < 224 ? 2 : 5);
        at = body + (is_part        ? std::size_t{1} << (length & 0x1fU)
                     : length < 192 ? length
                     : length < 224 ? ((length - 192) << 8U) + number(at + 1, 1) + 192
                                    : number(at + 1, 4));
      } while (is_part);
    }
    has_key |= is_key(type, body);
  } while (at < content.size() && is_in(type, kKeys));
  const bool whole = at <= content.size() && is_in(type, kData) &&
                     content.find_first_not_of(" \t\r\n", at) == content.npos;
  return whole ? OpenPgp::kWhole : has_key ? OpenPgp::kDamaged : OpenPgp::kOther;
}

}  // namespace mandos::monitor
