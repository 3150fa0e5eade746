// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mandos::ctl {

/// Wall time, in milliseconds since 1970.
std::int64_t wall_now();
/// "2026-11-27T08:51:11.123": UTC without a zone, as the server writes its times.
std::string time_text(std::int64_t milliseconds);
/// Reads a time as the server writes it; nothing for "" and for text that is not a time.
std::optional<std::int64_t> parse_time(std::string_view text);

}  // namespace mandos::ctl
