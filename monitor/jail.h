// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <string>
#include <vector>

#include "common/jail.h"

namespace mandos::monitor {

/// What the monitor keeps once it has read its configuration: no capability, its own files, and the
/// system calls that serve them and the doors. `readable` and `writable` are files and folders.
jail::Jail monitor_jail(std::vector<std::string> readable, std::vector<std::string> writable);

}  // namespace mandos::monitor
