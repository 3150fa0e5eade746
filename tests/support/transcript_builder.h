// SPDX-License-Identifier: GPL-3.0-or-later
// Makes TLS 1.3 transcripts that carry a genuine signature, well formed or wrong on purpose. Needs
// nettle alone, so that the monitor's own tests can use it.
#pragma once

#include <nettle/bignum.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecc.h>
#include <nettle/ecdsa.h>
#include <nettle/eddsa.h>
#include <nettle/nettle-meta.h>
#include <nettle/sha2.h>
#include <sys/random.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mandos::test {

using ByteVector = std::vector<unsigned char>;

inline ByteVector bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

inline ByteVector join(std::initializer_list<ByteVector> parts) {
  ByteVector out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

/// `value` as `width` big-endian bytes.
inline ByteVector number(std::size_t value, std::size_t width) {
  ByteVector out(width);
  for (auto byte = out.rbegin(); byte != out.rend(); ++byte, value >>= 8) {
    *byte = static_cast<unsigned char>(value);
  }
  return out;
}

/// `content` behind its length in `width` bytes.
inline ByteVector prefixed(std::size_t width, const ByteVector& content) {
  return join({number(content.size(), width), content});
}

/// A DER element with the shortest length.
inline ByteVector der(unsigned char tag, const ByteVector& content) {
  ByteVector length = number(content.size(), 1);
  if (content.size() > 0xff) {
    length = join({{0x82}, number(content.size(), 2)});
  } else if (content.size() > 0x7f) {
    length = join({{0x81}, length});
  }
  return join({{tag}, length, content});
}

inline ByteVector hash_with(const nettle_hash& algorithm, const ByteVector& data) {
  ByteVector context(algorithm.context_size + alignof(std::max_align_t));
  void* place = context.data();
  std::size_t room = context.size();
  std::align(alignof(std::max_align_t), algorithm.context_size, place, room);
  algorithm.init(place);
  algorithm.update(place, data.size(), data.data());
  ByteVector digest(algorithm.digest_size);
  algorithm.digest(place, digest.size(), digest.data());
  return digest;
}

/// A key pair as a TLS server has it.
struct SigningKey {
  ByteVector public_key;  // DER SubjectPublicKeyInfo
  unsigned scheme = 0;    // SignatureScheme, RFC 8446 section 4.2.3
  std::function<ByteVector(const ByteVector& content)> sign;
};

inline SigningKey ed25519_key(unsigned char seed) {
  const std::array<std::uint8_t, ED25519_KEY_SIZE> secret{seed};
  std::array<std::uint8_t, ED25519_KEY_SIZE> own{};
  ed25519_sha512_public_key(own.data(), secret.data());
  const ByteVector prefix = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0};
  return {join({prefix, {own.begin(), own.end()}}), 0x0807, [=](const ByteVector& content) {
            ByteVector signature(ED25519_SIGNATURE_SIZE);
            ed25519_sha512_sign(own.data(), secret.data(), content.size(), content.data(),
                                signature.data());
            return signature;
          }};
}

inline SigningKey ed448_key(unsigned char seed) {
  const std::array<std::uint8_t, ED448_KEY_SIZE> secret{seed};
  std::array<std::uint8_t, ED448_KEY_SIZE> own{};
  ed448_shake256_public_key(own.data(), secret.data());
  const ByteVector prefix = {0x30, 0x43, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x3a, 0};
  return {join({prefix, {own.begin(), own.end()}}), 0x0808, [=](const ByteVector& content) {
            ByteVector signature(ED448_SIGNATURE_SIZE);
            ed448_shake256_sign(own.data(), secret.data(), content.size(), content.data(),
                                signature.data());
            return signature;
          }};
}

/// The content of a DER INTEGER for a number greater than zero.
inline ByteVector integer_bytes(const mpz_t value) {
  ByteVector out(nettle_mpz_sizeinbase_256_s(value));
  nettle_mpz_get_str_256(out.size(), out.data(), value);
  return out;
}

/// r and s of an ECDSA signature, as the contents of DER INTEGERs.
using EcdsaPair = std::array<ByteVector, 2>;

/// A fresh P-256 key whose signatures `encode` writes.
inline SigningKey p256_key(std::function<ByteVector(const EcdsaPair&)> encode) {
  const auto random = [](void*, std::size_t size, std::uint8_t* out) {
    if (getrandom(out, size, 0) != static_cast<ssize_t>(size)) std::abort();
  };
  const std::shared_ptr<ecc_scalar> secret(new ecc_scalar, [](ecc_scalar* scalar) {
    ecc_scalar_clear(scalar);
    delete scalar;
  });
  ecc_scalar_init(secret.get(), nettle_get_secp_256r1());
  ecc_point point;
  ecc_point_init(&point, nettle_get_secp_256r1());
  ecdsa_generate_keypair(&point, secret.get(), nullptr, random);
  mpz_t x, y;
  mpz_init(x);
  mpz_init(y);
  ecc_point_get(&point, x, y);
  ByteVector own(64);
  nettle_mpz_get_str_256(32, own.data(), x);
  nettle_mpz_get_str_256(32, own.data() + 32, y);
  mpz_clear(x);
  mpz_clear(y);
  ecc_point_clear(&point);
  const ByteVector prefix = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                             0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                             0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
  return {join({prefix, own}), 0x0403, [=](const ByteVector& content) {
            const ByteVector digest = hash_with(nettle_sha256, content);
            dsa_signature signature;
            dsa_signature_init(&signature);
            ecdsa_sign(secret.get(), nullptr, random, digest.size(), digest.data(), &signature);
            const EcdsaPair pair = {integer_bytes(signature.r), integer_bytes(signature.s)};
            dsa_signature_clear(&signature);
            return encode(pair);
          }};
}

inline ByteVector encode_ecdsa(const EcdsaPair& pair) {
  return der(0x30, join({der(0x02, pair[0]), der(0x02, pair[1])}));
}

struct Extension {
  unsigned type;
  ByteVector content;
};
inline ByteVector encode(const std::vector<Extension>& extensions) {
  ByteVector out;
  for (const auto& [type, content] : extensions) {
    out = join({out, number(type, 2), prefixed(2, content)});
  }
  return prefixed(2, out);
}

struct ServerHello {
  ByteVector random;
  unsigned suite = 0x1301;
  std::vector<Extension> extensions;
  unsigned version = 0x0303;
  ByteVector session_id = ByteVector(32, 0x77);
  unsigned char compression = 0;
  ByteVector encode() const {
    return join({number(version, 2),
                 random,
                 prefixed(1, session_id),
                 number(suite, 2),
                 {compression},
                 test::encode(extensions)});
  }
};

struct CertificateEntry {
  ByteVector data;
  std::vector<Extension> extensions = {};
};

struct Message {
  unsigned char type;
  ByteVector body;
};
using Messages = std::vector<Message>;

inline ByteVector encode(const Messages& messages) {
  ByteVector out;
  for (const auto& [type, body] : messages) out = join({out, {type}, prefixed(3, body)});
  return out;
}

/// RFC 8446 section 4.1.3.
inline ByteVector retry_random() { return hash_with(nettle_sha256, bytes_of("HelloRetryRequest")); }

/// What a handshake with a Mandos client looks like, for a test to spoil.
struct Handshake {
  ByteVector first_random;  // of the ClientHello that is retried
  ByteVector random;        // of the ClientHello
  std::optional<ServerHello> retry;
  ServerHello server_hello;
  std::vector<Extension> encrypted_extensions;
  ByteVector context;
  std::vector<CertificateEntry> certificates;

  static Handshake normal(std::span<const std::uint8_t, 32> nonce, const SigningKey& key,
                          bool with_retry) {
    Handshake out;
    out.random = {nonce.begin(), nonce.end()};
    out.server_hello.random = ByteVector(32, 0x55);
    out.server_hello.extensions = {{43, {3, 4}}, {51, ByteVector(69, 0x33)}};
    out.encrypted_extensions = {{20, {2}}, {28, {0x40, 0x01}}};
    out.certificates = {{key.public_key}};
    if (with_retry) {
      out.first_random = out.random;
      out.retry = ServerHello{.random = retry_random(),
                              .extensions = {{43, {3, 4}}, {51, {0, 23}}, {44, {1, 2, 3}}}};
    }
    return out;
  }

  static Message client_hello(const ByteVector& random) {
    return {1, join({{3, 3},
                     random,
                     prefixed(1, ByteVector(32, 0x77)),
                     {0, 2, 0x13, 1, 1, 0},
                     encode(std::vector<Extension>{{43, {2, 3, 4}}})})};
  }

  /// Up to and with Certificate.
  Messages messages() const {
    Messages out;
    if (retry) {
      out.push_back(client_hello(first_random));
      out.push_back({2, retry->encode()});
    }
    out.push_back(client_hello(random));
    out.push_back({2, server_hello.encode()});
    out.push_back({8, encode(encrypted_extensions)});
    ByteVector entries;
    for (const auto& [data, extensions] : certificates) {
      entries = join({entries, prefixed(3, data), encode(extensions)});
    }
    out.push_back({11, join({prefixed(1, context), prefixed(3, entries)})});
    return out;
  }
};

inline constexpr std::string_view kServerContext = "TLS 1.3, server CertificateVerify";

/// What the server signs (RFC 8446 sections 4.4.1 and 4.4.3). With `retried` the first message
/// counts as the ClientHello that a HelloRetryRequest answered.
inline ByteVector signed_content(const Messages& messages, bool retried,
                                 const nettle_hash& algorithm,
                                 std::string_view context = kServerContext) {
  Messages hashed = messages;
  if (retried) hashed[0] = {254, hash_with(algorithm, encode(Messages{messages[0]}))};
  return join({ByteVector(64, ' '), bytes_of(context), {0}, hash_with(algorithm, encode(hashed))});
}

/// The transcript of `messages` and a CertificateVerify with a genuine signature.
inline ByteVector sign(Messages messages, const SigningKey& key, bool retried = false,
                       const nettle_hash& algorithm = nettle_sha256,
                       std::string_view context = kServerContext) {
  const ByteVector signature = key.sign(signed_content(messages, retried, algorithm, context));
  messages.push_back({15, join({number(key.scheme, 2), prefixed(2, signature)})});
  return encode(messages);
}

inline ByteVector sign(const Handshake& handshake, const SigningKey& key) {
  return sign(handshake.messages(), key, handshake.retry.has_value(),
              handshake.server_hello.suite == 0x1302 ? nettle_sha384 : nettle_sha256);
}

}  // namespace mandos::test
