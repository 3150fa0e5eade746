// SPDX-License-Identifier: GPL-3.0-or-later
// The TLS handshake as it crossed the wire, for the monitor to judge.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace mandos::networker {

/// Gathers handshake messages up to and with CertificateVerify (RFC 8446 section 4): what the peer
/// has signed, and its signature. Judges nothing.
class TranscriptRecorder {
 public:
  /// Takes the next message as GnuTLS's handshake hook gives it, without its header. False when the
  /// transcript would become too long or the message is none of TLS 1.3. No effect once complete.
  bool record(unsigned type, std::span<const unsigned char> body);
  /// CertificateVerify has been recorded.
  bool complete() const { return complete_; }
  /// The messages, each with its 4-byte header.
  std::string take() { return std::exchange(bytes_, {}); }

 private:
  std::string bytes_;
  bool complete_ = false;
};

}  // namespace mandos::networker
