// SPDX-License-Identifier: GPL-3.0-or-later
// What supervisor and monitor agree on before there is a door: the monitor's program, called by
// this name, only looks at the command line and the configuration, says what is wrong, and ends.
#pragma once

namespace mandos::inspection {

inline constexpr char kName[] = "mandos-inspect";
/// Called by this one, it also judges with --check what only a start meets: the saved state and the
/// port. A server that runs has both.
inline constexpr char kStartName[] = "mandos-inspect-start";
/// Exit statuses that mean "go on"; any other is the exit status of the whole (--help, --version,
/// --check: 0; an error: 1; wrong usage: 2).
inline constexpr int kForeground = 64;
inline constexpr int kBackground = 65;
/// --reload: a server that runs is to be asked.
inline constexpr int kReload = 66;
/// --check by kStartName found nothing wrong: the rest is for the supervisor to judge, as at a
/// start.
inline constexpr int kChecked = 67;
/// Where the supervisor puts sockets that it inherited as descriptors 0 to 2: behind this one.
inline constexpr int kMovedSockets = 200;
/// What --check says of something good, and of something bad: each begins a line.
inline constexpr char kGood[] = "ok: ";
inline constexpr char kBad[] = "FAILED: ";

}  // namespace mandos::inspection
