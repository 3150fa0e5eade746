// SPDX-License-Identifier: GPL-3.0-or-later
// The messages of a TLS 1.3 handshake, taken apart. Structure only: nothing here is proven yet.
#pragma once

#include <nettle/nettle-meta.h>

#include <algorithm>
#include <cstddef>
#include <span>

namespace mandos::monitor {

using Bytes = std::span<const unsigned char>;

/// Reads big-endian numbers and length-prefixed vectors (RFC 8446 section 3) and returns views. A
/// read beyond the end gives zero or nothing and spoils the reader for good, so that done() at the
/// end answers for all reads before it.
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

/// Longest transcript that is looked at, in bytes: a real one has 600 to 1,700.
inline constexpr std::size_t kMaxTranscript = 4096;

/// Views into the transcript that was parsed.
struct Transcript {
  const nettle_hash* hash = nullptr;  // of the cipher suite
  Bytes retried_hello;  // the ClientHello that a HelloRetryRequest answered; empty: there is none
  Bytes rest;           // what follows that, up to and with Certificate
  Bytes public_key;     // the DER SubjectPublicKeyInfo that Certificate claims
  std::size_t scheme = 0;  // SignatureScheme (RFC 8446 section 4.2.3)
  Bytes signature;
};

/// Takes `bytes` apart: ClientHello, [HelloRetryRequest, ClientHello,] ServerHello,
/// EncryptedExtensions, Certificate, CertificateVerify (RFC 8446 section 4), `nonce` as the random
/// of each ClientHello, one raw public key (RFC 7250), and nothing that a Mandos client does not
/// send. Null, or in fixed words the reason why not; `transcript` is then of no use.
const char* parse_transcript(Bytes bytes, std::span<const unsigned char, 32> nonce,
                             Transcript& transcript);

}  // namespace mandos::monitor
