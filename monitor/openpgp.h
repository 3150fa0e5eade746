// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "monitor/secret.h"

namespace mandos::monitor {

/// What an OpenPGP client would find in `content`, binary or armored: a whole encrypted message
/// (RFC 9580, sections 4.2, 6.2 and 10.3); one whose packets do not end where the data does, so
/// that something is missing or too much, or whose armor has another checksum (RFC 4880, section
/// 6.1); or no such message. Nothing is decrypted: only lengths are read.
enum class OpenPgp : std::uint8_t { kWhole, kDamaged, kOther };
OpenPgp judge_openpgp(std::string_view content);

/// Base64 (RFC 4648), folded or not. Where it is damaged, or nothing.
std::optional<std::size_t> decode_base64(std::string_view text, SecretString& out);

}  // namespace mandos::monitor
