// SPDX-License-Identifier: GPL-3.0-or-later
// Proof, not trust: a secret goes out only against a TLS 1.3 transcript that shows that the
// client's private key has just been used (SECURITY.md says what this proves and what it cannot).
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "monitor/key_id.h"
#include "monitor/transcript.h"
#include "proto/networker.h"

namespace mandos::monitor {

/// What the networker must use as ClientHello.random (RFC 8446 section 4.1.2). The caller must use
/// a nonce for only one check_proof(), whatever the outcome, and only for a limited time.
using Nonce = std::array<std::uint8_t, door::networker::kNonceSize>;

/// From getrandom(2) by getentropy(3); ends the process if the kernel has no random bytes to give.
Nonce fresh_nonce();

struct ProofResult {
  enum class Verdict {
    kProven,      // the key with this key ID signed a handshake with our nonce
    kUnknownKey,  // well formed, with our nonce, and with a key that is not configured; the
                  // signature was not checked, so the key ID is only a claim
    kRefused,
  };
  Verdict verdict = Verdict::kRefused;
  KeyId key_id{};           // with kProven and kUnknownKey
  const char* reason = "";  // with kRefused: a fixed text without anything from the transcript
};

/// Whether `transcript` (see parse_transcript()) proves that the private key of a configured client
/// was used after `nonce` was made. `known` tells whether a key ID is configured; it is called at
/// most once, before the key is parsed, and never with kKeyIdOfNothing. Throws nothing.
ProofResult check_proof(Bytes transcript, const Nonce& nonce,
                        const std::function<bool(const KeyId&)>& known);

}  // namespace mandos::monitor
