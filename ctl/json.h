// SPDX-License-Identifier: GPL-3.0-or-later
// JSON is written and read with nlohmann-json: Debian has it on every release and architecture, it
// is a single header, and it reports malformed input without an exception.
#pragma once

#include <string>
#include <vector>

#include "common/result.h"
#include "ctl/client.h"

namespace mandos::ctl {

/// --dump-json: an object with a member for each client, whose keys are the properties; ASCII.
std::string dump_json(const std::vector<Client>& clients);

}  // namespace mandos::ctl
