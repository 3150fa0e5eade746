// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "monitor/settings.h"

namespace mandos::monitor {

/// What --check does on an installed system: tries the cryptography and the secret memory, looks at
/// programs and accounts, and judges the configuration. Prints a line for each; returns how many
/// failed.
int self_check(const LoadedSettings& loaded);

}  // namespace mandos::monitor
