// SPDX-License-Identifier: GPL-3.0-or-later
// What monitor and checker-runner must agree on besides the messages of checker_runner.proto. Both
// include it, and no other file of a process has these numbers: tests/lint/contracts.py. Lengths
// are in bytes.
#pragma once

#include <cstddef>

namespace mandos::door::checker_runner {

/// With the zero byte at its end: no argument can be longer (MAX_ARG_STRLEN, execve(2)).
inline constexpr std::size_t kLongestCommand = 128UL * 1024;
/// Of a command that is judged: a client's name comes with it.
inline constexpr std::size_t kLongestJudged = 4096;
inline constexpr std::size_t kLongestToCheckerRunner = kLongestCommand + 64;
static_assert(2 * kLongestJudged <= kLongestToCheckerRunner);

// How long each message to the monitor may be.
inline constexpr std::size_t kLongestFinished = 64;
/// Of one that holds nothing.
inline constexpr std::size_t kLongestOther = 16;
inline constexpr std::size_t kLongestToMonitor = kLongestFinished;
static_assert(kLongestOther <= kLongestToMonitor);

/// How many the monitor takes in a second.
inline constexpr unsigned kMostFinishedPerSecond = 20000;

}  // namespace mandos::door::checker_runner
