// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/proof.h"

#include <nettle/bignum.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecc.h>
#include <nettle/ecdsa.h>
#include <nettle/eddsa.h>
#include <nettle/rsa.h>
#include <nettle/sha2.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <iterator>
#include <string_view>
#include <vector>

#include "common/text.h"

namespace mandos::monitor {
namespace {

using namespace std::string_view_literals;

std::vector<unsigned char> hash(const nettle_hash& algorithm, std::initializer_list<Bytes> parts) {
  union {
    sha256_ctx sha256;
    sha512_ctx sha512;  // also for SHA-384
  } context;
  algorithm.init(&context);
  for (const Bytes part : parts) algorithm.update(&context, part.size(), part.data());
  std::vector<unsigned char> digest(algorithm.digest_size);
  algorithm.digest(&context, digest.size(), digest.data());
  return digest;
}

/// An unsigned big-endian number.
struct Number {
  mpz_t value;
  explicit Number(Bytes bytes) { nettle_mpz_init_set_str_256_u(value, bytes.size(), bytes.data()); }
  ~Number() { mpz_clear(value); }
  Number(const Number&) = delete;
  Number& operator=(const Number&) = delete;
  std::size_t bits() const { return mpz_sizeinbase(value, 2); }
};

/// The content of the next DER element (X.690 sections 8.1 and 10.1), which must have `tag` and be
/// shorter than 64 KiB.
Bytes der(ByteReader& reader, std::size_t tag) {
  if (reader.number(1) != tag) reader.fail();
  std::size_t size = reader.number(1);
  if (size >= 0x80) {
    const std::size_t width = size - 0x80;
    if (width != 1 && width != 2) reader.fail();
    size = reader.number(width);
    if (size < (width == 1 ? 0x80u : 0x100u)) reader.fail();  // not the shortest form
  }
  return reader.take(size);
}

/// The content of a positive DER INTEGER.
Bytes der_positive(ByteReader& reader) {
  const Bytes content = der(reader, 0x02);
  ByteReader digits(content);
  const std::size_t first = digits.number(1);
  if (first >= 0x80 || (first == 0 && digits.number(1) < 0x80)) reader.fail();
  return content;
}

struct KeyKind {
  std::string_view prefix;                        // of SubjectPublicKeyInfo, before the key's bytes
  std::size_t key_size;                           // in bytes
  std::size_t scheme;                             // the only SignatureScheme for the key
  decltype(&ed25519_sha512_verify) eddsa_verify;  // null: ECDSA, with uncompressed points
  const ecc_curve* (*curve)() = nullptr;
  const nettle_hash* hash = nullptr;
};
// RFC 8410 section 4, RFC 5480 section 2; the schemes: RFC 8446 section 4.2.3.
constexpr KeyKind kKeyKinds[] = {
    {"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"sv, ED25519_KEY_SIZE, 0x0807,
     ed25519_sha512_verify},
    {"\x30\x43\x30\x05\x06\x03\x2b\x65\x71\x03\x3a\x00"sv, ED448_KEY_SIZE, 0x0808,
     ed448_shake256_verify},
    {"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
     "\x03\x42\x00\x04"sv,
     64, 0x0403, nullptr, nettle_get_secp_256r1, &nettle_sha256},
    {"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22"
     "\x03\x62\x00\x04"sv,
     96, 0x0503, nullptr, nettle_get_secp_384r1, &nettle_sha384},
    {"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23"
     "\x03\x81\x86\x00\x04"sv,
     132, 0x0603, nullptr, nettle_get_secp_521r1, &nettle_sha512},
};

bool verify_eddsa(const KeyKind& kind, Bytes key, Bytes content, Bytes signature) {
  if (signature.size() != 2 * key.size()) return false;
  // The last byte of an Ed448 signature is always 0, which nettle 3.8 does not check.
  if (key.size() == ED448_KEY_SIZE && signature.back() != 0) return false;
  return kind.eddsa_verify(key.data(), content.size(), content.data(), signature.data()) == 1;
}

/// `signature` is an ECDSA-Sig-Value (RFC 3279 section 2.2.3).
bool verify_ecdsa(const KeyKind& kind, Bytes key, Bytes content, Bytes signature) {
  ByteReader outer(signature);
  ByteReader pair(der(outer, 0x30));
  const Number r(der_positive(pair));
  const Number s(der_positive(pair));
  if (!outer.done() || !pair.done()) return false;
  const Number x(key.first(key.size() / 2));
  const Number y(key.subspan(key.size() / 2));
  const auto digest = hash(*kind.hash, {content});
  const dsa_signature borrowed{{*r.value}, {*s.value}};
  ecc_point point;
  ecc_point_init(&point, kind.curve());
  const bool good = ecc_point_set(&point, x.value, y.value) == 1 &&
                    ecdsa_verify(&point, digest.size(), digest.data(), &borrowed) == 1;
  ecc_point_clear(&point);
  return good;
}

struct RsaScheme {
  std::size_t scheme;
  const nettle_hash& hash;
  decltype(&rsa_pss_sha256_verify_digest) verify;
};
constexpr RsaScheme kRsaSchemes[] = {{0x0804, nettle_sha256, rsa_pss_sha256_verify_digest},
                                     {0x0805, nettle_sha384, rsa_pss_sha384_verify_digest},
                                     {0x0806, nettle_sha512, rsa_pss_sha512_verify_digest}};
constexpr auto kRsaEncryption = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"sv;

constexpr const char* kWrongScheme = "signature scheme does not fit the key";
constexpr const char* kBadSignature = "signature does not verify";

/// RSA keys (RFC 8017 appendix A.1) of 3072 to 8192 bits, RSASSA-PSS with a salt as long as the
/// hash (RFC 8446 section 4.2.3). Null, or the reason for refusing.
const char* verify_rsa(const Transcript& transcript, Bytes content) {
  ByteReader outer(transcript.public_key);
  ByteReader info(der(outer, 0x30));
  info.expect(as_bytes(kRsaEncryption));
  ByteReader bit_string(der(info, 0x03));
  if (bit_string.number(1) != 0) bit_string.fail();  // number of unused bits
  ByteReader key(der(bit_string, 0x30));
  const Number n(der_positive(key));
  const Number e(der_positive(key));
  if (!outer.done() || !info.done() || !bit_string.done() || !key.done() || n.bits() < 3072 ||
      n.bits() > 8192 || e.bits() < 2 || e.bits() > 32 || !mpz_odd_p(n.value) ||
      !mpz_odd_p(e.value)) {
    return "unsupported public key";
  }
  const auto* const entry = std::ranges::find(kRsaSchemes, transcript.scheme, &RsaScheme::scheme);
  if (entry == std::end(kRsaSchemes)) return kWrongScheme;
  const rsa_public_key borrowed{(n.bits() + 7) / 8, {*n.value}, {*e.value}};
  const Number signature(transcript.signature);
  const auto digest = hash(entry->hash, {content});
  const bool good = transcript.signature.size() == borrowed.size &&
                    entry->verify(&borrowed, digest.size(), digest.data(), signature.value) == 1;
  return good ? nullptr : kBadSignature;
}

/// Null if the transcript's key made its signature, or else the reason for refusing.
const char* verify_signature(const Transcript& transcript) {
  // The hashed data, RFC 8446 section 4.4.1: a retried ClientHello is replaced by its hash.
  std::vector<unsigned char> start;
  if (!transcript.retried_hello.empty()) {
    const auto retried = hash(*transcript.hash, {transcript.retried_hello});
    start = {254, 0, 0, static_cast<unsigned char>(retried.size())};
    start.insert(start.end(), retried.begin(), retried.end());
  }
  const auto digest = hash(*transcript.hash, {start, transcript.rest});
  // The signed data: section 4.4.3.
  std::vector<unsigned char> content(64, ' ');
  std::ranges::copy("TLS 1.3, server CertificateVerify\0"sv, std::back_inserter(content));
  content.insert(content.end(), digest.begin(), digest.end());

  const Bytes spki = transcript.public_key;
  for (const KeyKind& kind : kKeyKinds) {
    const Bytes prefix = as_bytes(kind.prefix);
    if (spki.size() != prefix.size() + kind.key_size) continue;
    if (!std::ranges::equal(spki.first(prefix.size()), prefix)) continue;
    if (transcript.scheme != kind.scheme) return kWrongScheme;
    const auto verify = kind.eddsa_verify != nullptr ? verify_eddsa : verify_ecdsa;
    const bool good = verify(kind, spki.subspan(prefix.size()), content, transcript.signature);
    return good ? nullptr : kBadSignature;
  }
  return verify_rsa(transcript, content);
}

}  // namespace

Nonce fresh_nonce() {
  Nonce nonce;
  if (getentropy(nonce.data(), nonce.size()) != 0) std::abort();
  return nonce;
}

ProofResult check_proof(Bytes bytes, const Nonce& nonce,
                        const std::function<bool(const KeyId&)>& known) {
  Transcript transcript;
  if (const char* reason = parse_transcript(bytes, nonce, transcript)) return {.reason = reason};
  KeyId key_id;
  std::ranges::copy(hash(nettle_sha256, {transcript.public_key}), key_id.bytes.begin());
  if (key_id == kKeyIdOfNothing || !known(key_id)) {
    return {.verdict = ProofResult::Verdict::kUnknownKey, .key_id = key_id};
  }
  if (const char* reason = verify_signature(transcript)) return {.reason = reason};
  return {.verdict = ProofResult::Verdict::kProven, .key_id = key_id};
}

}  // namespace mandos::monitor
