// SPDX-License-Identifier: GPL-3.0-or-later
// What the monitor and the networker must agree on, besides the messages of networker.proto. Both
// include this file, and no other file of a process has these numbers: tests/lint/contracts.py.
// Lengths are in bytes.
#pragma once

#include <cstddef>

namespace mandos::door::networker {

/// The listening sockets that come with Settings.
inline constexpr std::size_t kMostListeners = 16;

/// ClientHello.random (RFC 8446 section 4.1.2).
inline constexpr std::size_t kNonceSize = 32;
/// Real transcripts have 600 to 1,700 bytes.
inline constexpr std::size_t kLongestTranscript = 4096;
inline constexpr std::size_t kLongestAddress = 64;
inline constexpr std::size_t kLongestProblem = 960;
inline constexpr std::size_t kLongestPart = 32UL * 1024;
/// Settings::penalty_exempt: far more than its networks need.
inline constexpr std::size_t kLongestExempt = 16UL * 1024;

// Limits of the length of each message to the monitor. Encoding adds at most kAround.
inline constexpr std::size_t kAround = 64;
inline constexpr std::size_t kLongestGreeting = kLongestProblem + kAround;
inline constexpr std::size_t kLongestProof = kLongestTranscript + kLongestAddress + kAround;
/// A message that has only numbers.
inline constexpr std::size_t kLongestOther = 16;

/// Messages per datagram to the monitor. At most one of them is a Proof, so that no networker can
/// keep the monitor busy with proofs.
inline constexpr int kMostMessages = 4;
/// A datagram: each message has a tag and a length before it.
inline constexpr std::size_t kLongestToMonitor =
    kLongestProof + kMostMessages * (kLongestOther + 16);
static_assert(kLongestGreeting <= kLongestProof);
inline constexpr std::size_t kLongestToNetworker = 40UL * 1024;
static_assert(kLongestPart + kAround <= kLongestToNetworker);
static_assert(2 * kLongestExempt <= kLongestToNetworker, "as much again for the other settings");

/// How many of each message the monitor accepts per second.
inline constexpr unsigned kMostOpensPerSecond = 20000;
inline constexpr unsigned kMostProofsPerSecond = kMostOpensPerSecond;
inline constexpr unsigned kMostClosedPerSecond = 2 * kMostOpensPerSecond;
inline constexpr unsigned kMostNextPartsPerSecond = 100000;

/// A networker counts proven connections separately and allows this many for each unproven one: if
/// the monitor is slow, all unproven ones may become proven at once, in addition to those that are.
inline constexpr std::size_t kProvenForEachUnproven = 2;
/// Limit of nonces that it requests before there is a peer for them.
inline constexpr std::size_t kMostAhead = 16;
/// Limit of connections that the monitor knows at a time.
constexpr std::size_t most_open(std::size_t max_connections) {
  return (1 + kProvenForEachUnproven) * max_connections + kMostAhead;
}

}  // namespace mandos::door::networker
