// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "monitor/secret.h"

namespace mandos::monitor {

/// What `content`, binary or armored, is for an OpenPGP client: kWhole, a complete encrypted
/// message (RFC 9580, sections 4.2, 6.2 and 10.3); kDamaged, a message whose packets do not end
/// where the data ends, or whose armor has a wrong checksum (RFC 4880, section 6.1); or kOther, no
/// message. Reads only lengths and decrypts nothing.
enum class OpenPgp : std::uint8_t { kWhole, kDamaged, kOther };
OpenPgp judge_openpgp(std::string_view content);

/// Decodes Base64 (RFC 4648), folded or not. Returns where it is damaged, or nothing.
std::optional<std::size_t> decode_base64(std::string_view text, SecretString& out);

}  // namespace mandos::monitor
