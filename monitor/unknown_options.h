// SPDX-License-Identifier: GPL-3.0-or-later
// Options that nobody knows, and which ones may have been meant.
#pragma once

#include <span>
#include <string_view>

#include "monitor/ini.h"

namespace mandos::monitor {

/// The known name that `name` is a likely typing error of; empty: none.
std::string_view nearest(std::string_view name, std::span<const std::string_view> known);

/// Warns of each unknown option in `section`, which messages call `name`: one that is not `known`
/// and that no expanded option refers to. The warning suggests the known name that it resembles.
/// If it resembles one of `guards`, it is a problem instead, and the section becomes broken,
/// because the administrator may rely on it. The same holds, if there are guards, for an option
/// whose name contains a word such as "disable".
void judge_unknown(Ini::Section& section, std::string_view name,
                   std::span<const std::string_view> known,
                   std::span<const std::string_view> guards, Problems& problems,
                   Problems& warnings);

}  // namespace mandos::monitor
