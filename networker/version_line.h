// SPDX-License-Identifier: GPL-3.0-or-later
// The line with which a Mandos client begins, before TLS.
#pragma once

#include <cstddef>
#include <string_view>

namespace mandos::networker {

/// Longest version line that is read, its newline included, in bytes.
inline constexpr std::size_t kMaxVersionLine = 256;

/// Whether `line` (without its newline) asks for a protocol version that we speak: its first field
/// is an integer not larger than 1, written as Python's int() takes it (a sign, leading zeros and
/// single underscores between digits are fine), as the clients in the field rely on. What follows
/// the first field is ignored.
bool speaks_our_version(std::string_view line);

}  // namespace mandos::networker
