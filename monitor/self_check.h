// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "monitor/settings.h"

namespace mandos::monitor {

/// What --check does on an installed system: tests secret memory, programs and configuration. With
/// `starts` (no server is running), also the saved state and the port, and says what a start would
/// do to the clients. Prints a line for each test; returns how many failed.
int self_check(const LoadedSettings& loaded, bool starts);

}  // namespace mandos::monitor
