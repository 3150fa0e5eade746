// SPDX-License-Identifier: GPL-3.0-or-later
// How the processes begin and end that the supervisor starts beside the monitor, and where it puts
// what each process gets: no other file has these descriptor numbers.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <functional>
#include <string>

#include "common/jail.h"
#include "common/log.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace mandos {

/// The monitor's door to the supervisor. It writes its log itself.
inline constexpr int kMonitorDoorFd = STDIN_FILENO;
/// Of the others: what outlives a process of its kind, of a networker alone, or /dev/null; the door
/// to the monitor; the log socket. Nothing else is open but standard output and error.
inline constexpr int kMemoryFd = STDIN_FILENO;
inline constexpr int kDoorFd = 3;
inline constexpr int kLogFd = 4;
/// That memory begins with so many bytes that are zero unless a note lies behind them.
inline constexpr std::size_t kNoteMarkSize = 4;

/// One of those others.
struct Child {
  Log log;
  UniqueFd door;

  /// Calls jail::enter() and logs the result.
  Result<std::string> enter(const jail::Jail& jail);
};

/// The whole of its life: `serve`, which enters the jail, is called when nothing is open but what
/// it was given, in the root directory, and returns the exit status. A program that was started by
/// hand ends at once. At the end nothing is cleaned up: the kernel is faster, and libraries would
/// need calls that the jail takes away.
[[noreturn]] void live(const std::function<int(Child& child)>& serve);

}  // namespace mandos
