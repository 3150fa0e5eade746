// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <string>
#include <vector>

#include "common/jail.h"

namespace mandos::checker_runner {

/// Absolute paths that together hold everything beneath the directory `top` but what is beneath one
/// of `excluded`. Symbolic links are left out: what they lead to counts. A directory that holds an
/// excluded one is not in the list, so what is made directly in it later is not either.
std::vector<std::string> all_but(const std::string& top, const std::vector<std::string>& excluded);

/// What confines the checker-runner and, inherited, every checker.
jail::Jail checker_jail();

}  // namespace mandos::checker_runner
