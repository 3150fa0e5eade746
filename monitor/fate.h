// SPDX-License-Identifier: GPL-3.0-or-later
// What the log says of each change in a client's fate: the lines "audit: event=", whose fields are
// documented in mandos(8), "LOGGING", and matched by scripts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "monitor/client.h"

namespace mandos::monitor {

/// In `by`: the client expired.
inline constexpr std::string_view kTimeout = "timeout";
/// In `by`: a start or a reload made the change.
inline constexpr std::string_view kFile = "clients.conf";

/// One line. `rest` holds further fields, each with a space before it.
std::string fate_line(std::string_view event, std::string_view client, std::string_view by,
                      std::string_view rest = "");

/// For a client that was added. The line says so if the client is disabled.
std::string added_line(std::string_view client, bool enabled, std::string_view by);
/// For a client that a start disabled because its saved state is damaged.
std::string damaged_line(std::string_view client);

/// The lines for the change by `event`, which `by` caused. They contain no secret.
std::vector<std::string> fate(const Client& before, const Client& after, const Event& event,
                              std::string_view by);

}  // namespace mandos::monitor
