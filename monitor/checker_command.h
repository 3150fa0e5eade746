// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <string>

#include "common/result.h"
#include "monitor/client.h"

namespace mandos::monitor {

/// The client's checker command for `/bin/sh -c`: each %(name)s replaced by that attribute of the
/// client, quoted for the POSIX shell, and %% by a percent sign (mandos-clients.conf(5), "Runtime
/// expansion"). An Error when the command holds anything else that begins with a percent sign, an
/// unknown name, or a zero byte.
Result<std::string> expand_checker(const Client& client);

}  // namespace mandos::monitor
