// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <chrono>
#include <string_view>

#include "common/clock.h"
#include "common/result.h"

namespace mandos {

/// A duration of the configuration files (mandos-clients.conf(5)) and of mandos-ctl(8): RFC 3339
/// appendix A ("PT5M", "P1DT12H", "P2W"; a year is 52 weeks and a month 4, as the original counts
/// them), or the older sums of whole numbers with a unit of s, m, h, d or w ("1d 12h"). Whole
/// seconds, never negative, less than 10^9 days. The Error says what was expected.
Result<Milliseconds> parse_duration(std::string_view text);

/// How long a check may take: fping gives up after 4 s. A client's timeout should be at least its
/// interval plus this.
inline constexpr Milliseconds kCheckTime = std::chrono::seconds(5);

}  // namespace mandos
