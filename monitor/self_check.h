// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "monitor/settings.h"

namespace mandos::monitor {

/// What --check does on an installed system: tries the secret memory, looks at the programs, and
/// judges the configuration. If a server `starts` with it, it judges the saved state and the port,
/// too, and says what would become of the clients. Prints a line for each; returns how many failed.
int self_check(const LoadedSettings& loaded, bool starts);

}  // namespace mandos::monitor
