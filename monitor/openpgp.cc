// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/openpgp.h"

#include <nettle/base64.h>

#include <algorithm>
#include <new>

namespace mandos::monitor {
namespace {

/// An offset in a message, or a length. 32 bits everywhere, so that an overflow that is possible on
/// some machines is tested on all; no secret is nearly that long.
using Place = std::uint32_t;

constexpr bool is_in(Place number, std::uint32_t set) {
  return number < 32 && (set >> number & 1U) != 0;
}
template <class... Numbers>
constexpr std::uint32_t set_of(Numbers... numbers) {
  return ((1U << numbers) | ...);
}

// Packets: session keys of recipients, a marker, and those that contain the data.
constexpr std::uint32_t kKeys = set_of(1, 3, 10);
constexpr std::uint32_t kData = set_of(9, 18, 20);
// Algorithms that a session key packet may name (sections 9.1 and 9.3).
constexpr std::uint32_t kPublicKey = set_of(1, 2, 16, 18, 25, 26);
constexpr std::uint32_t kCiphers = set_of(1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13);

/// CRC-24 (RFC 4880, section 6.1) of `data`, continued from `crc`; 0 after its own octets.
std::uint32_t crc24(std::string_view data, std::uint32_t crc) {
  for (const char c : data) {
    crc ^= std::uint32_t{static_cast<unsigned char>(c)} << 16U;
    for (int i = 0; i < 8; ++i) crc = crc << 1U ^ ((crc & 0x800000U) == 0 ? 0U : 0x1864cfbU);
  }
  return crc;
}

/// The text between the armor lines: headers, an empty line, base64 and an optional checksum.
OpenPgp judge_armored(std::string_view text) try {
  const auto begin = std::min(text.find("\n\n"), text.find("\n\r\n"));
  if (begin == text.npos) return OpenPgp::kWhole;  // or a line that only looks empty
  // In a line that is only padding, no checksum follows the "=".
  const auto sum = text.rfind("\n=");
  const bool has_sum =
      sum != text.npos && sum > begin && text.substr(sum + 2).find_first_not_of("=\r\n") == 0;
  SecretString data(&secret_memory()), crc(&secret_memory());
  return decode_base64(text.substr(begin, has_sum ? sum - begin : text.npos), data) ||
                 (has_sum && (decode_base64(text.substr(sum + 2), crc) ||
                              crc24(crc, crc24(data, 0xb704ce)) != 0))
             ? OpenPgp::kDamaged
             : judge_openpgp(data);
} catch (const std::bad_alloc&) {
  return OpenPgp::kWhole;  // no locked memory; nobody must die of that
}

}  // namespace

std::optional<std::size_t> decode_base64(std::string_view text, SecretString& out) {
  base64_decode_ctx context;
  base64_decode_init(&context);
  out.resize(BASE64_DECODE_LENGTH(text.size()));
  std::size_t size = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const int bytes = base64_decode_single(
        &context, reinterpret_cast<std::uint8_t*>(out.data()) + size, text[at]);
    if (bytes < 0) return at;
    size += static_cast<std::size_t>(bytes);
  }
  out.resize(size);
  return base64_decode_final(&context) == 1 ? std::nullopt : std::optional(text.size());
}

OpenPgp judge_openpgp(std::string_view content) {
  if (content.starts_with("-----BEGIN PGP MESSAGE-----")) {
    const auto end = content.find("\n-----END PGP MESSAGE-----");
    return end == content.npos ? OpenPgp::kDamaged : judge_armored(content.substr(0, end));
  }
  const auto whole_size = static_cast<Place>(content.size());
  const auto number = [content](Place at, Place octets) {
    Place value = 0;
    for (const Place end = at + octets; at < end; ++at) {
      value = value << 8U | (at < content.size() ? static_cast<unsigned char>(content[at]) : 0U);
    }
    return value;
  };
  // Bytes that only look like such a packet are not reported as damaged.
  const auto is_key = [&](Place type, Place body) {
    return type == 1 ? number(body, 1) == 3 && is_in(number(body + 9, 1), kPublicKey)
                     : type == 3 && number(body, 1) == 4 && is_in(number(body + 1, 1), kCiphers);
  };
  Place at = 0;
  Place type = 0;
  bool has_key = false;
  do {
    const auto first = number(at++, 1);
    const bool is_old = (first & 0x40U) == 0;
    type = is_old ? first >> 2U & 0xfU : first & 0x3fU;
    if (first < 0x80 || !is_in(type, kKeys | kData)) {
      type = 0;
      break;
    }
    Place body = at;
    if (is_old) {
      const Place octets = Place{1} << (first & 3U);
      body += octets;
      at = octets == 8 ? whole_size : body + std::min(number(at, octets), whole_size);
    } else {
      bool is_part = false;
      do {
        const auto length = number(at, 1);
        is_part = length >= 224 && length < 255;
        body = at + (length < 192 || is_part ? 1 : length < 224 ? 2 : 5);
        at = body + (is_part        ? Place{1} << (length & 0x1fU)
                     : length < 192 ? length
                     : length < 224 ? ((length - 192) << 8U) + number(at + 1, 1) + 192
                                    : std::min(number(at + 1, 4), whole_size));
      } while (is_part);
    }
    has_key |= is_key(type, body);
  } while (at < whole_size && is_in(type, kKeys));
  const bool whole = at <= whole_size && is_in(type, kData) &&
                     content.find_first_not_of(" \t\r\n", at) == content.npos;
  return whole ? OpenPgp::kWhole : has_key ? OpenPgp::kDamaged : OpenPgp::kOther;
}

}  // namespace mandos::monitor
