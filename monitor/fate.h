// SPDX-License-Identifier: GPL-3.0-or-later
// What the log says of each change in a client's fate: the lines "audit: event=", whose fields are
// documented in mandos(8), "LOGGING", and matched by scripts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "monitor/client.h"

namespace mandos::monitor {

/// Who disables a client that nobody else disabled.
inline constexpr std::string_view kTimeout = "timeout";
/// Whose doing a start and a reload are.
inline constexpr std::string_view kFile = "clients.conf";

/// One line. `rest` is more fields, each with a space before it.
std::string fate_line(std::string_view event, std::string_view client, std::string_view by,
                      std::string_view rest = "");

/// That a client was added; who comes disabled is said to be.
std::string added_line(std::string_view client, bool enabled, std::string_view by);
/// That a start disabled a client whose saved state is damaged.
std::string damaged_line(std::string_view client);

/// The lines for what `event`, caused by `by`, made of `before`. A secret is in none of them.
std::vector<std::string> fate(const Client& before, const Client& after, const Event& event,
                              std::string_view by);

}  // namespace mandos::monitor
