// SPDX-License-Identifier: GPL-3.0-or-later
// What monitor and bus-agent must agree on besides the messages of bus_agent.proto. Both include
// it, and no other file of a process has these numbers: tests/lint/contracts.py. Lengths are in
// bytes.
#pragma once

#include <cstddef>

namespace mandos::door::bus_agent {

/// A host or a checker command.
inline constexpr std::size_t kLongestText = 64UL * 1024;
/// Any other text of a client: its name, its path, its key ID, its fingerprint.
inline constexpr std::size_t kLongestLabel = 1024;
inline constexpr std::size_t kLongestSecret = 1024UL * 1024;
inline constexpr std::size_t kLongestPart = 32UL * 1024;

// How long each message to the monitor may be.
inline constexpr std::size_t kLongestSecretPart = kLongestPart + 16;
/// A text, and who changes it in which client.
inline constexpr std::size_t kLongestRequest = kLongestText + 4 * kLongestLabel;
/// Of one that holds numbers alone.
inline constexpr std::size_t kLongestOther = 16;
inline constexpr std::size_t kLongestToMonitor = kLongestRequest;
static_assert(kLongestSecretPart <= kLongestToMonitor);
/// A client has two texts and four labels. The longest numbers fit where its key ID and its
/// fingerprint, which have 64 digits at most, leave room.
inline constexpr std::size_t kLongestToBusAgent = 2 * kLongestText + 4 * kLongestLabel;

/// Requests without a Reply.
inline constexpr std::size_t kMostUnanswered = 128;
/// How many of each the monitor takes in a second.
inline constexpr unsigned kMostRequestsPerSecond = 5000;
inline constexpr unsigned kMostPartsPerSecond = 5000;

}  // namespace mandos::door::bus_agent
