// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mandos::ctl {

/// Wall time, in milliseconds since 1970.
std::int64_t wall_now();
/// "2026-11-27T08:51:11.123": UTC without a zone, in the server's format.
std::string time_text(std::int64_t milliseconds);
/// Parses a time in the server's format; nothing for "" and for other text.
std::optional<std::int64_t> parse_time(std::string_view text);

}  // namespace mandos::ctl
