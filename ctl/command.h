// SPDX-License-Identifier: GPL-3.0-or-later
// Shared by the commands of mandos-ctl.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/result.h"
#include "ctl/arguments.h"

namespace mandos::ctl {

inline constexpr int kSuccess = 0;
inline constexpr int kFailure = 1;
inline constexpr int kUsage = 2;

/// Options that every command has.
inline constexpr Option kHelp{"help", 'h', "", "Show this help and exit.", 0, true};
inline constexpr Option kDebug{"debug", 0, "", "Show every D-Bus call on standard error."};

using Words = std::span<const std::string_view>;

/// Writes to standard output. False: it cannot be written, which is reported on standard error.
bool write_out(std::string_view text);
/// Prints "mandos-ctl: TEXT" on standard error; returns `status`.
int complain(int status, std::string_view text);
/// Prints "mandos-ctl: warning: TEXT" on standard error.
void warn(std::string_view text);
/// The same for a wrong command line, with a hint at the command's help; empty: no command.
int wrong_usage(std::string_view command, std::string_view text, int status = kUsage);

/// A TIME on the command line: as in the configuration files, "1d12h" without blanks, or 0.
Result<Milliseconds> read_duration(std::string_view text);

/// mandos-ctl without a command: lists and changes clients, and tests whether one is enabled.
int manage(Words words);
/// The commands. `words` are the arguments that follow the name of the command.
int diff(Words words);
int events(Words words);
int metrics(Words words);
int restore(Words words);
int status(Words words);
int verify(Words words);
int wait(Words words);

}  // namespace mandos::ctl
