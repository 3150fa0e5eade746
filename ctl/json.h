// SPDX-License-Identifier: GPL-3.0-or-later
// JSON is handled by nlohmann-json: Debian has it on every release and architecture, it is a single
// header, and it reports malformed input without an exception.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "ctl/client.h"

namespace mandos::ctl {

/// --dump-json: an object with a member for each client, which holds its properties; ASCII.
std::string dump_json(const std::vector<Client>& clients);

/// Parses the output of --dump-json of any server. A client has only those properties that `text`
/// contains; each is of its kind, and "Name" is always present. Unknown properties are ignored.
Result<std::vector<Client>> read_dump(std::string_view text);

/// One line: an object with these members in order.
std::string json_line(const std::vector<std::pair<std::string, Value>>& members);

}  // namespace mandos::ctl
