// SPDX-License-Identifier: GPL-3.0-or-later
// The first line that a Mandos client sends, before TLS.
#pragma once

#include <cstddef>
#include <string_view>

namespace mandos::networker {

/// Longest version line that is read, including its newline, in bytes.
inline constexpr std::size_t kMaxVersionLine = 256;

/// Whether `line` (without its newline) requests a protocol version that we support: its first
/// field is an integer not larger than 1, written as for Python's int() (a sign, leading zeros and
/// single underscores between digits are allowed), as existing clients require. The rest of the
/// line is ignored.
bool speaks_our_version(std::string_view line);

}  // namespace mandos::networker
