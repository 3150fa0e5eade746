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

/// Whether /bin/sh is the shell of Debian, which knows less than bash.
bool shell_is_dash();

struct Judging {
  std::string_view path = kCheckerPath;
  /// Whether this process is the checkers' user. If not, only what is not there is missed: who may
  /// execute the rest cannot be asked.
  bool as_checker_user = true;
  bool is_dash = shell_is_dash();
};

/// A warning if a program that `command` runs first, or that it needs behind that, is not found, is
/// damaged or may not be executed, or if that is so of the interpreter that a script names; or if
/// no shell runs `command`, since a quote in it is not closed. Nothing if all is there, or if that
/// cannot be told without a shell. In `command`, %(NAME)s is still to be replaced, and %% by %.
std::optional<std::string> judge_command(std::string_view command, const Judging& judging = {});

}  // namespace mandos::checker_runner
