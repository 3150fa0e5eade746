// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "common/jail.h"

namespace mandos::bus_agent {

/// A client of the system bus and nothing else: no files, no network, no other programs.
jail::Jail bus_agent_jail();

}  // namespace mandos::bus_agent
