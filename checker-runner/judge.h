// SPDX-License-Identifier: GPL-3.0-or-later
// Whether a checker can work at all, before it is run.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mandos::checker_runner {

/// Where checkers find their programs, whoever started the server: systemd's own for services.
inline constexpr const char* kCheckerPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct Judging {
  std::string_view path = kCheckerPath;
  /// Whether this process is the checkers' user. If not, only what is not there is missed: who may
  /// execute the rest cannot be asked.
  bool as_checker_user = true;
};

/// A warning if the program that `command` runs first is not found or may not be executed, or if
/// that is so of the interpreter that a script names. Nothing if all is there, or if that cannot be
/// told without a shell. In `command`, %(NAME)s is still to be replaced, and %% by %.
std::optional<std::string> judge_command(std::string_view command, const Judging& judging = {});

}  // namespace mandos::checker_runner
