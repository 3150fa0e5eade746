// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string_view>

namespace mandos::monitor {

/// What an OpenPGP client would find in `content`, binary or armored: a whole encrypted message
/// (RFC 9580, sections 4.2, 6.2 and 10.3); one whose packets do not end where the data does, so
/// that something is missing or too much; or no such message. Nothing is decrypted: only lengths
/// are read.
enum class OpenPgp : std::uint8_t { kWhole, kDamaged, kOther };
OpenPgp judge_openpgp(std::string_view content);

}  // namespace mandos::monitor
