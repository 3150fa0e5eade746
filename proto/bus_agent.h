// SPDX-License-Identifier: GPL-3.0-or-later
// What the monitor and the bus-agent must agree on, besides the messages of bus_agent.proto. Both
// include this file, and no other file of a process has these numbers: tests/lint/contracts.py.
// Lengths are in bytes.
#pragma once

#include <cstddef>

namespace mandos::door::bus_agent {

/// A host or a checker command.
inline constexpr std::size_t kLongestText = 64UL * 1024;
/// Any other text of a client: its name, its path, its key ID, its fingerprint.
inline constexpr std::size_t kLongestLabel = 1024;
inline constexpr std::size_t kLongestSecret = 1024UL * 1024;
inline constexpr std::size_t kLongestPart = 32UL * 1024;

// Limits of the length of each message to the monitor.
inline constexpr std::size_t kLongestSecretPart = kLongestPart + 16;
/// A string, and who changes it in which client.
inline constexpr std::size_t kLongestRequest = kLongestText + 4 * kLongestLabel;
/// A message that has only numbers.
inline constexpr std::size_t kLongestOther = 16;
inline constexpr std::size_t kLongestToMonitor = kLongestRequest;
static_assert(kLongestSecretPart <= kLongestToMonitor);
/// A client has two texts and four labels. Its key ID and its fingerprint have at most 64 digits
/// each, which leaves room for the longest numbers.
inline constexpr std::size_t kLongestToBusAgent = 2 * kLongestText + 4 * kLongestLabel;

/// Limit of Requests without a Reply.
inline constexpr std::size_t kMostUnanswered = 128;
/// How many of each message the monitor accepts per second.
inline constexpr unsigned kMostRequestsPerSecond = 5000;
inline constexpr unsigned kMostPartsPerSecond = 5000;

}  // namespace mandos::door::bus_agent
