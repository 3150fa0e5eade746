// SPDX-License-Identifier: GPL-3.0-or-later
// A second opinion on a proof: the same question as monitor/proof.h answers, put to GnuTLS, by
// other means and without regard to speed. Shares no code with the monitor.
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/test_key.h"
#include "tests/support/transcript_builder.h"

namespace mandos::test {

/// Whether GnuTLS finds that `signature` was made over `content` by `public_key` (DER) with a TLS
/// 1.3 signature scheme.
inline bool gnutls_accepts(const ByteVector& public_key, unsigned scheme, const ByteVector& content,
                           const ByteVector& signature) {
  static const std::map<unsigned, gnutls_sign_algorithm_t> kSchemes = {
      {0x0403, GNUTLS_SIGN_ECDSA_SECP256R1_SHA256}, {0x0503, GNUTLS_SIGN_ECDSA_SECP384R1_SHA384},
      {0x0603, GNUTLS_SIGN_ECDSA_SECP521R1_SHA512}, {0x0804, GNUTLS_SIGN_RSA_PSS_RSAE_SHA256},
      {0x0805, GNUTLS_SIGN_RSA_PSS_RSAE_SHA384},    {0x0806, GNUTLS_SIGN_RSA_PSS_RSAE_SHA512},
      {0x0807, GNUTLS_SIGN_EDDSA_ED25519},          {0x0808, GNUTLS_SIGN_EDDSA_ED448}};
  const auto algorithm = kSchemes.find(scheme);
  if (algorithm == kSchemes.end()) return false;
  const auto datum = [](const ByteVector& bytes) {
    return gnutls_datum_t{const_cast<unsigned char*>(bytes.data()),
                          static_cast<unsigned>(bytes.size())};
  };
  gnutls_pubkey_t raw = nullptr;
  gnutls_pubkey_init(&raw);
  const Owned<gnutls_pubkey_t, gnutls_pubkey_deinit> key(raw);
  const auto key_datum = datum(public_key);
  if (gnutls_pubkey_import(raw, &key_datum, GNUTLS_X509_FMT_DER) != 0) return false;
  const auto content_datum = datum(content);
  const auto signature_datum = datum(signature);
  return gnutls_pubkey_verify_data2(raw, algorithm->second, 0, &content_datum, &signature_datum) >=
         0;
}

/// One proof taken to pieces.
struct ReferenceProof {
  ByteVector public_key;
  unsigned scheme = 0;
  ByteVector content;  // what is signed
  ByteVector signature;
};

/// Takes a transcript apart, or nothing if a Mandos client would not have sent it or if its
/// ClientHellos do not carry `nonce`.
inline std::optional<ReferenceProof> reference_parse(const ByteVector& transcript,
                                                     const ByteVector& nonce) try {
  const auto require = [](bool condition) {
    if (!condition) throw std::runtime_error("refused");
  };
  const auto slice = [](const ByteVector& from, std::size_t start, std::size_t size) {
    if (start > from.size() || size > from.size() - start) throw std::runtime_error("short");
    const auto begin = from.begin() + static_cast<std::ptrdiff_t>(start);
    return ByteVector(begin, begin + static_cast<std::ptrdiff_t>(size));
  };
  const auto value = [&](const ByteVector& from, std::size_t start, std::size_t width) {
    std::size_t out = 0;
    for (const auto byte : slice(from, start, width)) out = out * 256 + byte;
    return out;
  };
  const auto extensions = [&](const ByteVector& from, std::size_t start) {
    std::map<std::size_t, ByteVector> out;
    require(value(from, start, 2) == from.size() - start - 2);
    for (std::size_t at = start + 2; at != from.size();) {
      const auto size = value(from, at + 2, 2);
      require(out.emplace(value(from, at, 2), slice(from, at + 4, size)).second);
      at += 4 + size;
    }
    return out;
  };

  require(transcript.size() <= 4096);
  std::vector<Message> messages;
  for (std::size_t at = 0; at != transcript.size();) {
    const auto size = value(transcript, at + 1, 3);
    messages.push_back({transcript[at], slice(transcript, at + 4, size)});
    at += 4 + size;
  }
  std::string order;
  for (const auto& message : messages) order += std::to_string(message.type) + " ";
  const bool retried = order == "1 2 1 2 8 11 15 ";
  require(retried || order == "1 2 8 11 15 ");

  std::set<std::size_t> suites;
  for (std::size_t i = 0; i < (retried ? 4u : 2u); i += 2) {
    require(slice(messages[i].body, 2, 32) == nonce);
    const auto& hello = messages[i + 1].body;
    const bool is_retry = slice(hello, 2, 32) == retry_random();
    require(is_retry == (retried && i == 0));
    require(value(hello, 0, 2) == 0x0303);
    const std::size_t suite_at = 35 + value(hello, 34, 1);
    suites.insert(value(hello, suite_at, 2));
    require(value(hello, suite_at + 2, 1) == 0);
    auto list = extensions(hello, suite_at + 3);
    require(list.count(43) == 1 && list[43] == ByteVector{3, 4} && list.count(51) == 1);
    list.erase(43);
    list.erase(51);
    if (is_retry) list.erase(44);
    require(list.empty());
  }
  require(suites.size() == 1 && *suites.begin() >= 0x1301 && *suites.begin() <= 0x1304);

  const std::size_t rest = retried ? 4 : 2;
  auto encrypted = extensions(messages[rest].body, 0);
  require(encrypted.count(20) == 1 && encrypted[20] == ByteVector{2});
  for (const std::size_t allowed : {20u, 28u, 10u}) encrypted.erase(allowed);
  require(encrypted.empty());

  const auto& certificate = messages[rest + 1].body;
  ReferenceProof proof;
  const auto key_size = value(certificate, 4, 3);
  proof.public_key = slice(certificate, 7, key_size);
  require(certificate == join({{0}, prefixed(3, join({prefixed(3, proof.public_key), {0, 0}}))}));

  const auto& verify = messages[rest + 2].body;
  proof.scheme = static_cast<unsigned>(value(verify, 0, 2));
  proof.signature = slice(verify, 4, value(verify, 2, 2));
  require(verify.size() == 4 + proof.signature.size());

  const auto algorithm = *suites.begin() == 0x1302 ? GNUTLS_DIG_SHA384 : GNUTLS_DIG_SHA256;
  const auto digest = [&](const ByteVector& data) {
    ByteVector out(gnutls_hash_get_len(algorithm));
    gnutls_hash_fast(algorithm, data.data(), data.size(), out.data());
    return out;
  };
  messages.pop_back();
  ByteVector hashed;
  if (retried) {
    hashed = digest(encode(Messages{messages[0]}));
    hashed = join({{254}, number(hashed.size(), 3), hashed});
    messages.erase(messages.begin());
  }
  hashed = join({hashed, encode(messages)});
  proof.content = join(
      {ByteVector(64, 0x20), bytes_of("TLS 1.3, server CertificateVerify"), {0}, digest(hashed)});
  return proof;
} catch (const std::runtime_error&) {
  return std::nullopt;
}

/// The bits of an RSA key; zero for a key of another kind.
inline unsigned rsa_bits(const ByteVector& public_key) {
  gnutls_pubkey_t raw = nullptr;
  gnutls_pubkey_init(&raw);
  const Owned<gnutls_pubkey_t, gnutls_pubkey_deinit> key(raw);
  const gnutls_datum_t datum = {const_cast<unsigned char*>(public_key.data()),
                                static_cast<unsigned>(public_key.size())};
  unsigned bits = 0;
  return gnutls_pubkey_import(raw, &datum, GNUTLS_X509_FMT_DER) == 0 &&
                 gnutls_pubkey_get_pk_algorithm(raw, &bits) == GNUTLS_PK_RSA
             ? bits
             : 0;
}

/// Whether the proof is good: GnuTLS's word, and beyond that the bounds on RSA keys and the last
/// byte of an Ed448 signature (RFC 8032 section 5.2.6), which nettle 3.8 and with it GnuTLS ignore.
inline bool reference_accepts(const ByteVector& transcript, const ByteVector& nonce) {
  const auto proof = reference_parse(transcript, nonce);
  if (!proof) return false;
  const unsigned bits = rsa_bits(proof->public_key);
  if (bits != 0 && (bits < 3072 || bits > 8192)) return false;
  if (proof->scheme == 0x0808 && (proof->signature.empty() || proof->signature.back() != 0)) {
    return false;
  }
  return gnutls_accepts(proof->public_key, proof->scheme, proof->content, proof->signature);
}

}  // namespace mandos::test
