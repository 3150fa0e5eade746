// SPDX-License-Identifier: GPL-3.0-or-later
// What supervisor and monitor agree on before there is a door: the monitor's program, called by
// this name, only looks at the command line and the configuration, says what is wrong, and ends.
#pragma once

namespace mandos::inspection {

inline constexpr char kName[] = "mandos-inspect";
/// Exit statuses that mean "go on"; any other is the exit status of the whole (--help, --version,
/// --check: 0; an error: 1; wrong usage: 2).
inline constexpr int kForeground = 64;
inline constexpr int kBackground = 65;
/// --reload: a server that runs is to be asked.
inline constexpr int kReload = 66;
/// Where the supervisor puts sockets that it inherited as descriptors 0 to 2: behind this one.
inline constexpr int kMovedSockets = 200;
/// What --check says of something good, and of something bad: each begins a line.
inline constexpr char kGood[] = "ok: ";
inline constexpr char kBad[] = "FAILED: ";

}  // namespace mandos::inspection
