// SPDX-License-Identifier: GPL-3.0-or-later
// JSON is written and read with nlohmann-json: Debian has it on every release and architecture, it
// is a single header, and it reports malformed input without an exception.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "ctl/client.h"

namespace mandos::ctl {

/// --dump-json: an object with a member for each client, whose keys are the properties; ASCII.
std::string dump_json(const std::vector<Client>& clients);

/// What --dump-json of any server wrote. A client has only those properties that stand in `text`;
/// each is of its kind, and "Name" is always there. Unknown properties are ignored.
Result<std::vector<Client>> read_dump(std::string_view text);

/// One line: an object with these members in their order.
std::string json_line(const std::vector<std::pair<std::string, Value>>& members);

}  // namespace mandos::ctl
