// SPDX-License-Identifier: GPL-3.0-or-later
// Parses the messages of a TLS 1.3 handshake. Checks only their structure; this proves nothing yet.
#pragma once

#include <nettle/nettle-meta.h>

#include <algorithm>
#include <cstddef>
#include <span>

#include "proto/networker.h"

namespace mandos::monitor {

using Bytes = std::span<const unsigned char>;

/// Reads big-endian numbers and length-prefixed vectors (RFC 8446 section 3) and returns views. A
/// read beyond the end returns zero or nothing, and every read after it fails, too. So one call of
/// done() at the end tells whether all reads succeeded.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes) : rest_(bytes) {}
  Bytes take(std::size_t size) {
    if (size > rest_.size()) fail();
    const Bytes taken = failed_ ? Bytes() : rest_.first(size);
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::size_t number(std::size_t width) {
    std::size_t value = 0;
    for (const auto byte : take(width)) value = value << 8 | byte;
    return value;
  }
  Bytes vector(std::size_t length_width) { return take(number(length_width)); }
  void expect(Bytes constant) {
    if (!std::ranges::equal(take(constant.size()), constant)) fail();
  }
  void fail() {
    failed_ = true;
    rest_ = {};
  }
  std::size_t left() const { return rest_.size(); }
  /// Every read succeeded and nothing is left.
  bool done() const { return !failed_ && rest_.empty(); }

 private:
  Bytes rest_;
  bool failed_ = false;
};

/// Views into the transcript that was parsed.
struct Transcript {
  const nettle_hash* hash = nullptr;  // of the cipher suite
  Bytes retried_hello;  // the ClientHello that a HelloRetryRequest answered; empty: there is none
  Bytes rest;           // what follows, up to and including Certificate
  Bytes public_key;     // the DER SubjectPublicKeyInfo that Certificate claims
  std::size_t scheme = 0;  // SignatureScheme (RFC 8446 section 4.2.3)
  Bytes signature;
};

/// Parses `bytes`: ClientHello, [HelloRetryRequest, ClientHello,] ServerHello, EncryptedExtensions,
/// Certificate, CertificateVerify (RFC 8446 section 4). Each ClientHello must have `nonce` as its
/// random, and Certificate one raw public key (RFC 7250). Anything that a Mandos client does not
/// send is refused. Returns null, or a fixed text with the reason; `transcript` is then undefined.
const char* parse_transcript(Bytes bytes,
                             std::span<const unsigned char, door::networker::kNonceSize> nonce,
                             Transcript& transcript);

}  // namespace mandos::monitor
