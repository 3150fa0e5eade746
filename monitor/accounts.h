// SPDX-License-Identifier: GPL-3.0-or-later
// The accounts in /etc/passwd.
#pragma once

#include <pwd.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

namespace mandos::monitor {

/// A field of the first account in /etc/passwd that `matches`, or nothing. getpwnam(3) would load a
/// name service or ask its daemon, and the jail would kill the monitor for it.
std::optional<std::string> find_account(char* passwd::*field,
                                        const std::function<bool(const passwd&)>& matches);
/// The name of a user for a message, or its number where it has none.
std::string user_name(uid_t user);

}  // namespace mandos::monitor
