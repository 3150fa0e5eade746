// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "common/jail.h"

namespace mandos::supervisor {

/// What the supervisor keeps. Its filter is a denylist, because every process, and so every checker
/// command, inherits it.
jail::Jail supervisor_jail();

/// The Error names a capability that the server requires, and what it is for.
Status check_capabilities();

}  // namespace mandos::supervisor
