// SPDX-License-Identifier: GPL-3.0-or-later
// UTF-8 (RFC 3629).
#pragma once

#include <string_view>

namespace mandos::monitor {

inline constexpr char32_t kMalformed = 0xffffffff;
/// Takes the first character off `rest`, which is not empty. A malformed one is one byte long.
char32_t next_character(std::string_view& rest);
/// Well-formed, and without NUL.
bool is_text(std::string_view bytes);

}  // namespace mandos::monitor
