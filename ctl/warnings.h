// SPDX-License-Identifier: GPL-3.0-or-later
// Unintended effects of a change, reported before it is made.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ctl/client.h"

namespace mandos::ctl {

/// A property to be set: a setting, "Enabled", or "LastCheckedOK", which restarts the client's
/// timeout.
struct Change {
  std::string_view property;
  Value value;
};

/// Describes the effects of making `changes` in order to `client` as reported by the server: that
/// they disable it immediately because its last answer is older than the new timeout, or leave no
/// time for a check before it expires. `now`: wall time, in milliseconds since 1970.
std::vector<std::string> warnings(Client client, std::span<const Change> changes, std::int64_t now);

}  // namespace mandos::ctl
