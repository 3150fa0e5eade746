// SPDX-License-Identifier: GPL-3.0-or-later
// What the monitor and the checker-runner must agree on, besides the messages of
// checker_runner.proto. Both include this file, and no other file of a process has these numbers:
// tests/lint/contracts.py. Lengths are in bytes.
#pragma once

#include <cstddef>

namespace mandos::door::checker_runner {

/// Including the zero byte at its end: no argument can be longer (MAX_ARG_STRLEN, execve(2)).
inline constexpr std::size_t kLongestCommand = 128UL * 1024;
/// A command to be judged: a client's name is sent with it.
inline constexpr std::size_t kLongestJudged = 4096;
inline constexpr std::size_t kLongestToCheckerRunner = kLongestCommand + 64;
static_assert(2 * kLongestJudged <= kLongestToCheckerRunner);

// Limits of the length of each message to the monitor.
inline constexpr std::size_t kLongestFinished = 64;
/// An empty message.
inline constexpr std::size_t kLongestOther = 16;
inline constexpr std::size_t kLongestToMonitor = kLongestFinished;
static_assert(kLongestOther <= kLongestToMonitor);

/// How many the monitor accepts per second.
inline constexpr unsigned kMostFinishedPerSecond = 20000;

}  // namespace mandos::door::checker_runner
