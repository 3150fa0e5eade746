// SPDX-License-Identifier: GPL-3.0-or-later
// Whether a checker can work at all, before it is run.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mandos::checker_runner {

/// A warning if the program that `command` begins with is not found or may not be executed by this
/// process's user. Nothing if it is, or if that cannot be told without a shell.
std::optional<std::string> judge_command(std::string_view command);

}  // namespace mandos::checker_runner
