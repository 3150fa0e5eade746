// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/transcript.h"

namespace mandos::monitor {
namespace {

// This random value makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3).
constexpr unsigned char kRetryRandom[] = {
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};

constexpr unsigned char kTls13[] = {0x03, 0x04};
constexpr unsigned char kRawPublicKey[] = {2};
constexpr unsigned char kZeros[2] = {};

/// An extension that is allowed. If it has a content here, it is required, with that content.
struct Extension {
  std::size_t type;
  Bytes content = {};
};
// supported_versions, key_share, and in a HelloRetryRequest only: cookie.
constexpr Extension kHelloExtensions[] = {{43, kTls13}, {51}, {44}};
// server_certificate_type (RFC 7250 section 3), record_size_limit, supported_groups.
constexpr Extension kEncryptedExtensions[] = {{20, kRawPublicKey}, {28}, {10}};

/// Reads the extensions up to the end of `message`. Bit i is set for entry i of `table`. Returns 0
/// if an extension is repeated or not in the table, or if anything else is wrong.
unsigned read_extensions(ByteReader& message, std::span<const Extension> table) {
  ByteReader list(message.vector(2));
  unsigned seen = 0;
  while (list.left() > 0) {
    const auto entry = std::ranges::find(table, list.number(2), &Extension::type);
    const Bytes content = list.vector(2);
    if (entry == table.end()) return 0;
    const unsigned bit = 1u << (entry - table.begin());
    const bool fits = entry->content.empty() || std::ranges::equal(content, entry->content);
    if ((seen & bit) != 0 || !fits) return 0;
    seen |= bit;
  }
  return list.done() && message.done() ? seen : 0;
}

const nettle_hash* hash_of_suite(std::size_t suite) {
  if (suite == 0x1302) return &nettle_sha384;
  return suite == 0x1301 || suite == 0x1303 || suite == 0x1304 ? &nettle_sha256 : nullptr;
}

}  // namespace

const char* parse_transcript(Bytes bytes,
                             std::span<const unsigned char, door::networker::kNonceSize> nonce,
                             Transcript& transcript) {
  if (bytes.size() > door::networker::kLongestTranscript) return "transcript too long";
  ByteReader messages(bytes);
  const auto next = [&messages](std::size_t type) {
    if (messages.number(1) != type) messages.fail();
    return messages.vector(3);
  };
  std::size_t suite = 0;
  std::size_t rest_start = 0;
  for (bool retried = false, retry = true; retry; retried = true) {
    ByteReader client_hello(next(1));
    client_hello.take(2);  // legacy_version
    if (!std::ranges::equal(client_hello.take(nonce.size()), nonce)) return "nonce not found";
    const std::size_t hello_end = bytes.size() - messages.left();

    ByteReader hello(next(2));
    const bool version_fits = hello.number(2) == 0x0303;
    retry = std::ranges::equal(hello.take(sizeof kRetryRandom), kRetryRandom);
    hello.vector(1);  // legacy_session_id_echo
    const std::size_t chosen = hello.number(2);
    const bool compressed = hello.number(1) != 0;
    const unsigned seen = read_extensions(hello, std::span(kHelloExtensions).first(retry ? 3 : 2));
    if (!version_fits || compressed || (seen & 3) != 3) return "malformed ServerHello";
    if (retried && (retry || chosen != suite)) return "ServerHello contradicts HelloRetryRequest";
    suite = chosen;
    if (retry) rest_start = hello_end;
  }
  transcript.hash = hash_of_suite(suite);
  if (transcript.hash == nullptr) return "unknown cipher suite";

  ByteReader encrypted_extensions(next(8));
  if ((read_extensions(encrypted_extensions, kEncryptedExtensions) & 1) == 0) {
    return "malformed EncryptedExtensions";
  }
  ByteReader certificate(next(11));
  certificate.expect(std::span(kZeros).first(1));  // no certificate_request_context
  ByteReader entry(certificate.vector(3));
  transcript.public_key = entry.vector(3);
  entry.expect(kZeros);  // no extensions
  if (!entry.done() || !certificate.done()) return "malformed Certificate";
  transcript.retried_hello = bytes.first(rest_start);
  transcript.rest = bytes.first(bytes.size() - messages.left()).subspan(rest_start);

  ByteReader verify(next(15));
  transcript.scheme = verify.number(2);
  transcript.signature = verify.vector(2);
  if (!verify.done() || !messages.done()) return "malformed CertificateVerify";
  return nullptr;
}

}  // namespace mandos::monitor
