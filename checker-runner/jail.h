// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <string>
#include <vector>

#include "common/jail.h"

namespace mandos::checker_runner {

/// Absolute paths that together cover everything in the directory `top` except what is in
/// `excluded`. Symbolic links are left out: their targets count. A directory that contains an
/// excluded one is not in the list, so files that are later created directly in it are not covered.
std::vector<std::string> all_but(const std::string& top, const std::vector<std::string>& excluded);

/// The confinement of the checker-runner and, by inheritance, of every checker.
jail::Jail checker_jail();

}  // namespace mandos::checker_runner
