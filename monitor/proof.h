// SPDX-License-Identifier: GPL-3.0-or-later
// Proof, not trust: a secret goes out only against a TLS 1.3 transcript that shows that the
// client's private key has just been used (SECURITY.md says what this proves and what it cannot).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "monitor/key_id.h"

namespace mandos::monitor {

/// What the networker must use as ClientHello.random (RFC 8446 section 4.1.2). Good for one
/// check_proof(), whatever its outcome, and for seconds only: both are the caller's affair.
using Nonce = std::array<std::uint8_t, 32>;

/// From getrandom(2). Ends the process if the kernel gives no random bytes: there is no way on.
Nonce fresh_nonce();

struct ProofResult {
  enum class Verdict {
    kProven,      // the key with this key ID signed a handshake with our nonce
    kUnknownKey,  // a well-formed transcript with our nonce, of a key that is not configured; its
                  // signature was not looked at, so this key ID is a claim
    kRefused,     // anything else
  };
  Verdict verdict = Verdict::kRefused;
  /// Set with kProven and kUnknownKey.
  KeyId key_id{};
  /// Set with kRefused: why, in fixed words that hold nothing of the transcript.
  const char* reason = "";
};

/// Whether `transcript` proves that the private key of a known client was used after `nonce` was
/// made. It must be whole handshake messages (RFC 8446 section 4) from ClientHello up to and with
/// the TLS server's CertificateVerify, at most kMaxTranscript bytes. `known` tells whether a client
/// with a key ID is configured; it is asked at most once, before the key itself is looked at, and
/// never about kKeyIdOfNothing. Never throws, unless `known` does.
ProofResult check_proof(std::span<const unsigned char> transcript, const Nonce& nonce,
                        const std::function<bool(const KeyId&)>& known);

/// Longest transcript that is looked at, in bytes.
inline constexpr std::size_t kMaxTranscript = 4096;

}  // namespace mandos::monitor
