// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "common/jail.h"

namespace mandos::supervisor {

/// What the supervisor keeps. Its filter is a deny-list: every process, and so every checker
/// command, inherits it.
jail::Jail supervisor_jail();

/// An Error names a capability that the server cannot do without, and what needs it.
Status check_capabilities();

}  // namespace mandos::supervisor
