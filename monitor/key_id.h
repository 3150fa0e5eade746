// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace mandos::monitor {

/// SHA-256 of a client's raw public key (its DER SubjectPublicKeyInfo, RFC 7250 section 3).
struct KeyId {
  std::array<std::uint8_t, 32> bytes{};
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes the 0 in it for a null pointer
  auto operator<=>(const KeyId&) const = default;

  /// From 64 hexadecimal digits in either case; white space anywhere is ignored.
  static std::optional<KeyId> parse(std::string_view text);
  /// As 64 upper-case hexadecimal digits.
  std::string text() const;
};

/// SHA-256 of empty input. Clients of version 1.8.0 reported it by mistake, so it never matches.
extern const KeyId kKeyIdOfNothing;

/// For hash tables: the bytes are uniform already.
struct KeyIdHash {
  std::size_t operator()(const KeyId& id) const {
    std::size_t value = 0;
    std::memcpy(&value, id.bytes.data(), sizeof value);
    return value;
  }
};

}  // namespace mandos::monitor
