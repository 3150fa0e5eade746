// SPDX-License-Identifier: GPL-3.0-or-later
// The TLS handshake as it was on the wire, for the monitor to verify.
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
  /// Adds the next message from GnuTLS's handshake hook, without its header. Returns false if the
  /// transcript would be too long or the message is not part of TLS 1.3. No effect once complete.
  bool record(unsigned type, std::span<const unsigned char> body);
  /// CertificateVerify has been added.
  bool complete() const { return complete_; }
  /// The messages, each with its 4-byte header.
  std::string take() { return std::exchange(bytes_, {}); }

 private:
  std::string bytes_;
  bool complete_ = false;
};

}  // namespace mandos::networker
