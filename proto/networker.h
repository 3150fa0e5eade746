// SPDX-License-Identifier: GPL-3.0-or-later
// What monitor and networker must agree on besides the messages of networker.proto. Both include
// it, and no other file of a process has these numbers: tests/lint/contracts.py. Lengths are in
// bytes.
#pragma once

#include <cstddef>

namespace mandos::door::networker {

/// The listening sockets that come with Settings.
inline constexpr std::size_t kMostListeners = 16;

/// ClientHello.random (RFC 8446 section 4.1.2).
inline constexpr std::size_t kNonceSize = 32;
/// A real transcript has 600 to 1,700.
inline constexpr std::size_t kLongestTranscript = 4096;
inline constexpr std::size_t kLongestAddress = 64;
inline constexpr std::size_t kLongestProblem = 960;
inline constexpr std::size_t kLongestPart = 32UL * 1024;
/// Settings::penalty_exempt: far more than its networks may have.
inline constexpr std::size_t kLongestExempt = 16UL * 1024;

// How long each message to the monitor may be. What is around the bytes in one takes up to kAround.
inline constexpr std::size_t kAround = 64;
inline constexpr std::size_t kLongestGreeting = kLongestProblem + kAround;
inline constexpr std::size_t kLongestProof = kLongestTranscript + kLongestAddress + kAround;
/// Of one that holds numbers alone.
inline constexpr std::size_t kLongestOther = 16;

/// Messages in a datagram to the monitor, of which no more than one is a Proof: no networker holds
/// the monitor up with proofs.
inline constexpr int kMostMessages = 4;
/// A datagram: each message has a tag and a length in front.
inline constexpr std::size_t kLongestToMonitor =
    kLongestProof + kMostMessages * (kLongestOther + 16);
static_assert(kLongestGreeting <= kLongestProof);
inline constexpr std::size_t kLongestToNetworker = 40UL * 1024;
static_assert(kLongestPart + kAround <= kLongestToNetworker);
static_assert(2 * kLongestExempt <= kLongestToNetworker, "as much again for the other settings");

/// How many of each the monitor takes in a second.
inline constexpr unsigned kMostOpensPerSecond = 20000;
inline constexpr unsigned kMostProofsPerSecond = kMostOpensPerSecond;
inline constexpr unsigned kMostClosedPerSecond = 2 * kMostOpensPerSecond;
inline constexpr unsigned kMostNextPartsPerSecond = 100000;

/// A networker holds proven connections apart from the others, and so many times as many: all that
/// are not proven may become so at once, when the monitor was slow, beside those that are.
inline constexpr std::size_t kProvenForEachUnproven = 2;
/// It asks for so many nonces, at most, before there is a peer for them.
inline constexpr std::size_t kMostAhead = 16;
/// Connections that the monitor may know at a time.
constexpr std::size_t most_open(std::size_t max_connections) {
  return (1 + kProvenForEachUnproven) * max_connections + kMostAhead;
}

}  // namespace mandos::door::networker
