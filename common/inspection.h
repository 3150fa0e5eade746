// SPDX-License-Identifier: GPL-3.0-or-later
// The contract between supervisor and monitor before there is a door. Under the name below, the
// monitor's program only checks the command line and configuration, reports errors, and exits.
#pragma once

namespace mandos::inspection {

inline constexpr char kName[] = "mandos-inspect";
/// Under this name, --check also judges the saved state and the port. Only a start can, because a
/// running server uses both.
inline constexpr char kStartName[] = "mandos-inspect-start";
/// Exit statuses that mean "go on". The supervisor exits with any other (--help, --version,
/// --check: 0; an error: 1; wrong usage: 2).
inline constexpr int kForeground = 64;
inline constexpr int kBackground = 65;
/// --reload: ask the running server.
inline constexpr int kReload = 66;
/// --check under kStartName found nothing wrong. The supervisor then checks the rest, as it does at
/// a start.
inline constexpr int kChecked = 67;
/// The supervisor moves sockets that it inherited as descriptors 0 to 2 above this number.
inline constexpr int kMovedSockets = 200;
/// How a line of --check begins: for something that is right, and for something that is wrong.
inline constexpr char kGood[] = "ok: ";
inline constexpr char kBad[] = "FAILED: ";

}  // namespace mandos::inspection
