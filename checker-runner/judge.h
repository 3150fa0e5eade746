// SPDX-License-Identifier: GPL-3.0-or-later
// Whether a checker can work at all, before it runs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mandos::checker_runner {

/// The PATH of checkers, no matter who started the server: systemd's default for services.
inline constexpr const char* kCheckerPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether /bin/sh is dash, as in Debian, which lacks features of bash.
bool shell_is_dash();

struct Judging {
  std::string_view path = kCheckerPath;
  /// Whether this process runs as the checkers' user. If not, only missing files are reported,
  /// because nobody can tell which files that user may execute.
  bool as_checker_user = true;
  bool is_dash = shell_is_dash();
};

/// Returns a warning if a program that `command` runs first, or needs after that, is missing,
/// damaged or not executable, or if this applies to the interpreter of a script, or if no shell
/// runs `command` because of an unclosed quote. Returns nothing if all is well, or if only a shell
/// could tell. In `command`, %(NAME)s and %% are not yet replaced.
std::optional<std::string> judge_command(std::string_view command, const Judging& judging = {});

}  // namespace mandos::checker_runner
