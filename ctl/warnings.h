// SPDX-License-Identifier: GPL-3.0-or-later
// What a change would do that whoever asks for it may not want, told before it is made.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ctl/client.h"

namespace mandos::ctl {

/// A property that is to be set: a setting, "Enabled", or "LastCheckedOK", which starts the
/// client's timeout again.
struct Change {
  std::string_view property;
  Value value;
};

/// Sentences on what `changes`, made in their order to `client` as the server reports it, would do:
/// disable it at once because its last answer is older than the new timeout, or leave no time for a
/// check before it expires. `now`: wall time, in milliseconds since 1970.
std::vector<std::string> warnings(Client client, std::span<const Change> changes, std::int64_t now);

}  // namespace mandos::ctl
