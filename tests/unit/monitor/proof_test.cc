// SPDX-License-Identifier: GPL-3.0-or-later
// The proof without GnuTLS: transcripts made and signed here. Whatever is wrong with a transcript
// is wrong before it is signed, so that no refusal leans on the signature.
#include "monitor/proof.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/transcript_builder.h"

namespace mandos::monitor {
namespace {

using test::ByteVector;
using test::Handshake;
using test::Messages;
using test::SigningKey;
using Verdict = ProofResult::Verdict;

const Nonce kNonce = [] {
  Nonce nonce;
  for (std::size_t i = 0; i < nonce.size(); ++i) nonce[i] = static_cast<std::uint8_t>(0xa0 + i);
  return nonce;
}();

bool anyone(const KeyId&) { return true; }
bool nobody(const KeyId&) { return false; }

KeyId key_id_of(const ByteVector& public_key) {
  const auto digest = test::hash_with(nettle_sha256, public_key);
  KeyId id;
  std::ranges::copy(digest, id.bytes.begin());
  return id;
}

ProofResult check(const ByteVector& transcript) { return check_proof(transcript, kNonce, anyone); }

testing::AssertionResult proven(const ByteVector& transcript, const SigningKey& key) {
  const auto result = check(transcript);
  if (result.verdict != Verdict::kProven) return testing::AssertionFailure() << result.reason;
  if (result.key_id != key_id_of(key.public_key)) return testing::AssertionFailure() << "key ID";
  return testing::AssertionSuccess();
}

/// Refused, and not for its signature.
testing::AssertionResult refused(const ByteVector& transcript, std::string_view why) {
  const auto result = check(transcript);
  if (result.verdict != Verdict::kRefused) return testing::AssertionFailure() << "not refused";
  if (result.reason != why) return testing::AssertionFailure() << result.reason;
  return testing::AssertionSuccess();
}

class ProofTest : public testing::TestWithParam<bool> {
 protected:
  const SigningKey key_ = test::ed25519_key(1);
  Handshake normal() const { return Handshake::normal(kNonce, key_, GetParam()); }
  ByteVector spoiled(const std::function<void(Handshake&)>& spoil) const {
    Handshake handshake = normal();
    spoil(handshake);
    return test::sign(handshake, key_);
  }
  ByteVector spoiled_messages(const std::function<void(Messages&)>& spoil) const {
    Messages messages = normal().messages();
    spoil(messages);
    return test::sign(messages, key_, GetParam());
  }
};
INSTANTIATE_TEST_SUITE_P(Retry, ProofTest, testing::Bool(), [](const auto& flavour) {
  return flavour.param ? "WithRetry" : "WithoutRetry";
});

TEST_P(ProofTest, AcceptsWhatIsAllowed) {
  EXPECT_TRUE(proven(test::sign(normal(), key_), key_));
  for (const unsigned suite : {0x1301u, 0x1302u, 0x1303u, 0x1304u}) {
    EXPECT_TRUE(proven(spoiled([&](Handshake& h) {
                         h.server_hello.suite = suite;
                         if (h.retry) h.retry->suite = suite;
                       }),
                       key_))
        << suite;
  }
  EXPECT_TRUE(proven(spoiled([](Handshake& h) { h.encrypted_extensions = {{20, {2}}}; }), key_));
  EXPECT_TRUE(proven(spoiled([](Handshake& h) {
                       h.encrypted_extensions = {{10, {0, 2, 0, 23}}, {28, {64, 1}}, {20, {2}}};
                     }),
                     key_));
  EXPECT_TRUE(proven(spoiled([](Handshake& h) { h.server_hello.session_id.clear(); }), key_));
  if (GetParam()) {
    EXPECT_TRUE(proven(spoiled([](Handshake& h) { h.retry->extensions.pop_back(); }), key_));
  }
}

TEST_P(ProofTest, TellsTheKeyIdAndAsksOnce) {
  int asked = 0;
  const auto known = [&](const KeyId& id) {
    ++asked;
    return id == key_id_of(key_.public_key);
  };
  const auto result = check_proof(test::sign(normal(), key_), kNonce, known);
  EXPECT_EQ(result.verdict, Verdict::kProven);
  EXPECT_EQ(result.key_id, key_id_of(key_.public_key));
  EXPECT_EQ(asked, 1);
}

TEST_P(ProofTest, AStrangersKeyIsNotLookedAt) {
  const ByteVector no_key = test::bytes_of("not a key");
  const auto transcript = spoiled([&](Handshake& h) { h.certificates = {{no_key}}; });
  const auto result = check_proof(transcript, kNonce, nobody);
  EXPECT_EQ(result.verdict, Verdict::kUnknownKey);
  EXPECT_EQ(result.key_id, key_id_of(no_key));
  EXPECT_TRUE(refused(transcript, "unsupported public key"));
}

TEST_P(ProofTest, MalformedTranscriptsAreRefusedBeforeAnyoneIsAsked) {
  const auto never = [](const KeyId&) -> bool {
    ADD_FAILURE();
    return false;
  };
  const auto transcript = test::sign(normal(), key_);
  for (std::size_t size = 0; size < transcript.size(); ++size) {
    const auto result = check_proof(Bytes(transcript).first(size), kNonce, never);
    EXPECT_EQ(result.verdict, Verdict::kRefused) << size;
  }
  Nonce other = kNonce;
  other[31] ^= 1;
  EXPECT_EQ(check_proof(transcript, other, never).verdict, Verdict::kRefused);
  const auto longer = test::join({transcript, {0}});
  EXPECT_EQ(check_proof(longer, kNonce, never).verdict, Verdict::kRefused);
}

TEST_P(ProofTest, TheKeyIdOfNothingIsNeverKnown) {
  const auto result = check_proof(spoiled([](Handshake& h) { h.certificates = {{ByteVector()}}; }),
                                  kNonce, [](const KeyId&) -> bool {
                                    ADD_FAILURE();
                                    return true;
                                  });
  EXPECT_EQ(result.verdict, Verdict::kUnknownKey);
  EXPECT_EQ(result.key_id, kKeyIdOfNothing);
}

TEST_P(ProofTest, EveryFlippedBitIsRefused) {
  ByteVector transcript = test::sign(normal(), key_);
  for (std::size_t bit = 0; bit < 8 * transcript.size(); ++bit) {
    const auto mask = static_cast<unsigned char>(1u << bit % 8);
    transcript[bit / 8] ^= mask;
    EXPECT_EQ(check(transcript).verdict, Verdict::kRefused) << bit;
    transcript[bit / 8] ^= mask;
  }
  EXPECT_TRUE(proven(transcript, key_));
}

TEST_P(ProofTest, RefusesTheNonceElsewhere) {
  const ByteVector other(32, 9);
  const auto why = "nonce not found";
  EXPECT_TRUE(refused(spoiled([&](Handshake& h) { h.random = other; }), why));
  EXPECT_TRUE(refused(spoiled([&](Handshake& h) {
                        h.random = other;
                        h.server_hello.random = {kNonce.begin(), kNonce.end()};
                        h.server_hello.session_id = h.server_hello.random;
                      }),
                      why));
  if (GetParam()) {
    EXPECT_TRUE(refused(spoiled([&](Handshake& h) { h.first_random = other; }), why));
  }
}

TEST_P(ProofTest, RefusesWrongServerHellos) {
  const auto why = "malformed ServerHello";
  const std::function<void(test::ServerHello&)> spoils[] = {
      [](auto& h) { h.version = 0x0304; },
      [](auto& h) { h.version = 0xfefd; },
      [](auto& h) { h.compression = 1; },
      [](auto& h) { h.extensions = {}; },
      [](auto& h) {
        h.extensions = {{51, ByteVector(36)}};
      },
      [](auto& h) {
        h.extensions = {{43, {3, 4}}};
      },
      [](auto& h) {
        h.extensions[0].content = {3, 3};
      },
      [](auto& h) {
        h.extensions[0].content = {3, 4, 0};
      },
      [](auto& h) { h.extensions[0].content = {3}; },
      [](auto& h) { h.extensions[0].content = {}; },
      [](auto& h) {
        h.extensions.push_back({43, {3, 4}});
      },
      [](auto& h) {
        h.extensions.push_back({51, ByteVector(36)});
      },
      [](auto& h) {
        h.extensions.push_back({41, {0, 0}});
      },  // pre_shared_key
      [](auto& h) {
        h.extensions.push_back({0xff01, {0}});
      },  // renegotiation_info
      [](auto& h) {
        h.extensions.push_back({16, {0, 2, 1, 2}});
      },  // ALPN
  };
  int number = 0;
  for (const auto& spoil : spoils) {
    EXPECT_TRUE(refused(spoiled([&](Handshake& h) { spoil(h.server_hello); }), why)) << number;
    if (GetParam()) {
      EXPECT_TRUE(refused(spoiled([&](Handshake& h) { spoil(*h.retry); }), why)) << number;
    }
    ++number;
  }
  EXPECT_TRUE(refused(spoiled([](Handshake& h) {
                        h.server_hello.extensions.push_back({44, {1, 2}});
                      }),
                      why));
  const std::size_t server_hello = GetParam() ? 3 : 1;
  EXPECT_TRUE(
      refused(spoiled_messages([&](Messages& m) { m.at(server_hello).body.push_back(0); }), why));
  for (const unsigned suite : {0x1300u, 0x1305u, 0x1306u, 0xc02bu, 0u}) {
    EXPECT_TRUE(refused(spoiled([&](Handshake& h) {
                          h.server_hello.suite = suite;
                          if (h.retry) h.retry->suite = suite;
                        }),
                        "unknown cipher suite"));
  }
}

class RetryTest : public ProofTest {};
INSTANTIATE_TEST_SUITE_P(Retry, RetryTest, testing::Values(true));

TEST_P(RetryTest, RefusesContradictionsBetweenRetryAndServerHello) {
  const auto why = "ServerHello contradicts HelloRetryRequest";
  EXPECT_TRUE(refused(spoiled([](Handshake& h) { h.retry->suite = 0x1303; }), why));
  EXPECT_TRUE(refused(spoiled([](Handshake& h) { h.retry->suite = 0x1302; }), why));
  EXPECT_TRUE(refused(spoiled([](Handshake& h) { h.server_hello.suite = 0x1302; }), why));
  EXPECT_TRUE(
      refused(spoiled([](Handshake& h) { h.server_hello.random = test::retry_random(); }), why));
  EXPECT_TRUE(refused(spoiled_messages([](Messages& m) {
                        const Messages again(m.begin(), m.begin() + 2);
                        m.insert(m.begin(), again.begin(), again.end());
                      }),
                      why));
  // A retry that nothing follows, and a first hello that is not hashed by us.
  EXPECT_TRUE(
      refused(spoiled_messages([](Messages& m) { m.erase(m.begin() + 2); }), "nonce not found"));
}

TEST_P(ProofTest, RefusesAMessageHashMadeByTheNetworker) {
  // With a retry this is what the server really signed, so the signature is good.
  Messages messages = Handshake::normal(kNonce, key_, true).messages();
  messages[0] = {254, test::hash_with(nettle_sha256, test::encode(Messages{messages[0]}))};
  EXPECT_TRUE(refused(test::sign(messages, key_), "nonce not found"));
}

TEST_P(ProofTest, RefusesOtherMessages) {
  const std::size_t count = normal().messages().size();
  // None of these leaves a well-formed sequence, wherever it is put.
  for (const unsigned type : {0U, 1U, 2U, 4U, 5U, 8U, 11U, 13U, 15U, 20U, 24U, 25U, 254U}) {
    for (std::size_t place = 0; place <= count; ++place) {
      const auto insert = [&](const ByteVector& body) {
        return spoiled_messages([&](Messages& m) {
          m.insert(m.begin() + static_cast<std::ptrdiff_t>(place),
                   {static_cast<unsigned char>(type), body});
        });
      };
      for (const auto& body : {ByteVector(), ByteVector{0, 0, 0}}) {
        const auto result = check(insert(body));
        EXPECT_EQ(result.verdict, Verdict::kRefused) << type << " at " << place;
        EXPECT_STRNE(result.reason, "signature does not verify") << type << " at " << place;
      }
    }
  }
  // The one that a curious server would send: CertificateRequest before Certificate.
  EXPECT_TRUE(refused(spoiled_messages([&](Messages& m) {
                        m.insert(m.end() - 1, {13, {0, 0, 8, 0, 13, 0, 4, 0, 2, 8, 7}});
                      }),
                      "malformed Certificate"));
  for (std::size_t place = 0; place < count; ++place) {
    const auto result = check(spoiled_messages(
        [&](Messages& m) { m.erase(m.begin() + static_cast<std::ptrdiff_t>(place)); }));
    EXPECT_EQ(result.verdict, Verdict::kRefused) << place;
    EXPECT_STRNE(result.reason, "signature does not verify") << place;
  }
  // Every message longer or shorter than its content, but for the ClientHellos, which are ours.
  for (std::size_t place = GetParam() ? 3 : 1; place < count; ++place) {
    for (const bool longer : {true, false}) {
      const auto result = check(spoiled_messages([&](Messages& m) {
        auto& body = m.at(place).body;
        longer ? body.push_back(0) : body.pop_back();
      }));
      EXPECT_EQ(result.verdict, Verdict::kRefused) << place;
      EXPECT_STRNE(result.reason, "signature does not verify") << place;
    }
  }
}

TEST_P(ProofTest, RefusesOtherEncryptedExtensions) {
  const auto why = "malformed EncryptedExtensions";
  const std::vector<std::vector<test::Extension>> lists = {
      {},
      {{28, {64, 1}}},
      {{20, {0}}},
      {{20, {1}}},
      {{20, {}}},
      {{20, {2, 2}}},
      {{20, {2}}, {20, {2}}},
      {{20, {2}}, {28, {64, 1}}, {28, {64, 1}}},
      {{20, {2}}, {16, {0, 3, 2, 'h', '2'}}},  // ALPN
      {{20, {2}}, {19, {2}}},                  // client_certificate_type
      {{20, {2}}, {57, {}}},                   // quic_transport_parameters
      {{20, {2}}, {42, {}}},                   // early_data
      {{20, {2}}, {0, {}}},                    // server_name
  };
  for (const auto& list : lists) {
    EXPECT_TRUE(refused(spoiled([&](Handshake& h) { h.encrypted_extensions = list; }), why));
  }
  // The last extension is longer than the list.
  EXPECT_TRUE(
      refused(spoiled_messages([](Messages& m) {
                m.at(m.size() - 2).body = test::prefixed(2, {0, 20, 0, 1, 2, 0, 28, 0, 2, 64});
              }),
              why));
}

TEST_P(ProofTest, RefusesOtherCertificates) {
  const auto why = "malformed Certificate";
  EXPECT_TRUE(refused(spoiled([](Handshake& h) { h.certificates = {}; }), why));
  EXPECT_TRUE(
      refused(spoiled([](Handshake& h) { h.certificates.push_back(h.certificates[0]); }), why));
  EXPECT_TRUE(refused(
      spoiled([](Handshake& h) { h.certificates.push_back({test::ed25519_key(2).public_key}); }),
      why));
  EXPECT_TRUE(refused(spoiled([](Handshake& h) {
                        h.certificates[0].extensions = {{5, {}}};
                      }),
                      why));
  EXPECT_TRUE(refused(spoiled([](Handshake& h) { h.context = {1}; }), why));
  EXPECT_TRUE(refused(spoiled([](Handshake& h) { h.context = ByteVector(32); }), why));
}

TEST_P(ProofTest, RefusesTrailingBytes) {
  auto transcript = test::sign(normal(), key_);
  transcript.push_back(0);
  EXPECT_TRUE(refused(transcript, "malformed CertificateVerify"));
  // Inside of CertificateVerify, after the signature and as a part of it.
  ++transcript[transcript.size() - 1 - (4 + 64) - 1];
  EXPECT_EQ(transcript[transcript.size() - 1 - (4 + 64) - 1], 4 + 64 + 1);
  EXPECT_TRUE(refused(transcript, "malformed CertificateVerify"));
  const auto& key = key_;
  SigningKey slack = key_;
  slack.sign = [&](const ByteVector& content) { return test::join({key.sign(content), {0}}); };
  EXPECT_TRUE(refused(test::sign(normal(), slack), "signature does not verify"));
}

TEST_P(ProofTest, RefusesWhatIsTooLong) {
  const auto with_hello_of = [&](std::size_t padding) {
    return spoiled_messages([&](Messages& m) { m[0].body.resize(m[0].body.size() + padding); });
  };
  const std::size_t room = door::networker::kLongestTranscript - with_hello_of(0).size();
  EXPECT_TRUE(proven(with_hello_of(room), key_));
  EXPECT_TRUE(refused(with_hello_of(room + 1), "transcript too long"));
}

TEST_P(ProofTest, RefusesOtherSignatures) {
  const auto why = "signature does not verify";
  const auto handshake = normal();
  EXPECT_TRUE(
      refused(test::sign(handshake, {key_.public_key, 0x0807, test::ed25519_key(2).sign}), why));
  EXPECT_TRUE(refused(test::sign(handshake.messages(), key_, GetParam(), nettle_sha256,
                                 "TLS 1.3, client CertificateVerify"),
                      why));
  EXPECT_TRUE(refused(test::sign(handshake.messages(), key_, GetParam(), nettle_sha384), why));
  EXPECT_TRUE(refused(test::sign(handshake.messages(), key_, !GetParam()), why));
  for (const unsigned scheme : {0x0403u, 0x0503u, 0x0603u, 0x0804u, 0x0808u, 0x0809u, 0x0401u}) {
    EXPECT_TRUE(refused(test::sign(handshake, {key_.public_key, scheme, key_.sign}),
                        "signature scheme does not fit the key"));
  }
  for (const std::size_t size : {0U, 1U, 63U}) {
    const auto cut = [&](const ByteVector& content) {
      auto signature = key_.sign(content);
      signature.resize(size);
      return signature;
    };
    EXPECT_TRUE(refused(test::sign(handshake, {key_.public_key, 0x0807, cut}), why));
  }
}

TEST_P(ProofTest, AnEd448SignatureEndsInZero) {
  const SigningKey key = test::ed448_key(1);
  const auto handshake = Handshake::normal(kNonce, key, GetParam());
  EXPECT_TRUE(proven(test::sign(handshake, key), key));
  for (unsigned value = 1; value < 256; ++value) {
    const auto sign = [&](const ByteVector& content) {
      auto signature = key.sign(content);
      signature.back() = static_cast<unsigned char>(value);
      return signature;
    };
    EXPECT_TRUE(refused(test::sign(handshake, {key.public_key, key.scheme, sign}),
                        "signature does not verify"));
  }
}

TEST_P(ProofTest, AnEcdsaSignatureHasOneEncodingOnly) {
  const auto attempt = [](const std::function<ByteVector(const test::EcdsaPair&)>& encode) {
    const SigningKey key = test::p256_key(encode);
    return check(test::sign(Handshake::normal(kNonce, key, GetParam()), key)).verdict;
  };
  for (int i = 0; i < 20; ++i) EXPECT_EQ(attempt(test::encode_ecdsa), Verdict::kProven);

  using test::der;
  using test::join;
  const auto integers = [](const ByteVector& r, const ByteVector& s) {
    return join({der(2, r), der(2, s)});
  };
  const std::function<ByteVector(const test::EcdsaPair&)> encodings[] = {
      [&](auto& p) {
        return der(0x30, integers(join({{0}, p[0]}), p[1]));
      },
      [&](auto& p) {
        return der(0x30, integers(p[0], join({{0}, p[1]})));
      },
      [&](auto& p) {
        return join({der(0x30, integers(p[0], p[1])), {0}});
      },
      [&](auto& p) {
        return der(0x30, join({integers(p[0], p[1]), {0}}));
      },
      [&](auto& p) {
        return der(0x30, join({integers(p[0], p[1]), der(5, {})}));
      },
      [&](auto& p) {
        return der(0x30, join({integers(p[0], p[1]), der(2, {1})}));
      },
      [&](auto& p) { return der(0x31, integers(p[0], p[1])); },
      [&](auto& p) { return der(0x10, integers(p[0], p[1])); },
      [&](auto& p) {
        return der(0x30, join({der(3, p[0]), der(2, p[1])}));
      },
      [&](auto& p) { return der(0x30, der(2, p[0])); },
      // Long forms and the indefinite form of a length.
      [&](auto& p) {
        return join({{0x30}, {0x81}, test::prefixed(1, integers(p[0], p[1]))});
      },
      [&](auto& p) {
        return join({{0x30}, {0x82}, test::prefixed(2, integers(p[0], p[1]))});
      },
      [&](auto& p) {
        return join({{0x30}, {0x83}, test::prefixed(3, integers(p[0], p[1]))});
      },
      [&](auto& p) {
        return join({{0x30}, {0x80}, integers(p[0], p[1]), {0, 0}});
      },
      [&](auto& p) {
        return der(0x30, join({{2, 0x81}, test::prefixed(1, p[0]), der(2, p[1])}));
      },
      // Numbers that are no signature.
      [&](auto& p) { return der(0x30, integers({0}, p[1])); },
      [&](auto& p) { return der(0x30, integers(p[0], {0})); },
      [&](auto& p) { return der(0x30, integers({}, p[1])); },
      [&](auto& p) { return der(0x30, integers(p[0], {})); },
      [&](auto& p) { return der(0x30, integers(p[0], {0xff})); },
      [&](auto& p) {
        return der(0x30, integers(p[0], join({{1}, ByteVector(600), p[1]})));
      },
      [&](auto& p) { return der(0x30, integers(p[1], p[0])); },
      [&](auto&) { return ByteVector(); },
      [&](auto& p) {
        return join({p[0], p[1]});
      },
  };
  int number = 0;
  for (const auto& encode : encodings) {
    EXPECT_EQ(attempt(encode), Verdict::kRefused) << number++;
  }
}

TEST_P(ProofTest, AnEcdsaSignatureModuloTheOrderIsRefused) {
  // r + n is the same number modulo the order n, but not in its range.
  const ByteVector order = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
                            0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
                            0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
  for (const std::size_t which : {0u, 1u}) {
    const SigningKey key = test::p256_key([&](test::EcdsaPair pair) {
      mpz_t sum, n;
      nettle_mpz_init_set_str_256_u(sum, pair[which].size(), pair[which].data());
      nettle_mpz_init_set_str_256_u(n, order.size(), order.data());
      mpz_add(sum, sum, n);
      pair[which] = test::integer_bytes(sum);
      mpz_clear(sum);
      mpz_clear(n);
      return test::encode_ecdsa(pair);
    });
    EXPECT_TRUE(refused(test::sign(Handshake::normal(kNonce, key, GetParam()), key),
                        "signature does not verify"));
  }
}

TEST_P(ProofTest, RefusesKeysThatAreNotQuiteRight) {
  const SigningKey p256 = test::p256_key(test::encode_ecdsa);
  const auto with_key = [&](ByteVector public_key, const SigningKey& key) {
    Handshake handshake = normal();
    handshake.certificates = {{std::move(public_key)}};
    return test::sign(handshake, key);
  };
  ASSERT_TRUE(proven(with_key(p256.public_key, p256), p256));
  const auto unsupported = "unsupported public key";
  for (const SigningKey* key : {&p256, &key_}) {
    EXPECT_TRUE(refused(with_key(test::join({key->public_key, {0}}), *key), unsupported));
    EXPECT_TRUE(refused(with_key(test::join({{0}, key->public_key}), *key), unsupported));
    auto shorter = key->public_key;
    shorter.pop_back();
    EXPECT_TRUE(refused(with_key(shorter, *key), unsupported));
  }
  auto off_curve = p256.public_key;
  off_curve.back() ^= 1;
  EXPECT_TRUE(refused(with_key(off_curve, p256), "signature does not verify"));
  // The compressed form of the same point.
  auto compressed = p256.public_key;
  compressed[26] = static_cast<unsigned char>(2 + (compressed.back() & 1));
  EXPECT_TRUE(refused(with_key(compressed, p256), unsupported));
  compressed.resize(27 + 32);
  compressed[1] = 0x39;
  compressed[24] = 0x22;
  EXPECT_TRUE(refused(with_key(compressed, p256), unsupported));
}

/// Parts of an RSA SubjectPublicKeyInfo, for a test to spoil.
struct RsaKey {
  ByteVector algorithm = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                          0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
  ByteVector modulus;  // contents of INTEGERs
  ByteVector exponent = {1, 0, 1};
  ByteVector unused_bits = {0};
  ByteVector after_exponent, after_key, after_info, after;
  explicit RsaKey(std::size_t bits) {
    modulus = ByteVector(bits / 8 + 1, 0xff);
    modulus[0] = static_cast<unsigned char>((1u << bits % 8) - 1);
    if (bits % 8 != 0 && modulus[0] >= 0x80) modulus.insert(modulus.begin(), 0);
  }
  ByteVector encode() const {
    using test::der;
    using test::join;
    const auto key = der(0x30, join({der(2, modulus), der(2, exponent), after_exponent}));
    return join(
        {der(0x30, join({algorithm, der(3, join({unused_bits, key, after_key})), after_info})),
         after});
  }
};

TEST_P(ProofTest, RsaKeysHaveOneShapeOnly) {
  const auto reason = [&](const ByteVector& public_key, unsigned scheme = 0x0804) {
    const SigningKey forger = {public_key, scheme, [](auto&) { return ByteVector(384, 1); }};
    return std::string(
        check(test::sign(Handshake::normal(kNonce, forger, GetParam()), forger)).reason);
  };
  const std::string supported = "signature does not verify";
  const std::string unsupported = "unsupported public key";
  for (const std::size_t bits : {3072U, 3073U, 3079U, 4096U, 8191U, 8192U}) {
    EXPECT_EQ(reason(RsaKey(bits).encode()), supported) << bits;
  }
  for (const std::size_t bits : {512U, 1024U, 2048U, 3064U, 3071U, 8193U, 16384U}) {
    EXPECT_EQ(reason(RsaKey(bits).encode()), unsupported) << bits;
  }
  for (const unsigned scheme : {0x0804u, 0x0805u, 0x0806u}) {
    EXPECT_EQ(reason(RsaKey(3072).encode(), scheme), supported);
  }
  // PKCS #1 v1.5, rsa_pss_pss_*, and those of other kinds of key.
  for (const unsigned scheme : {0x0401u, 0x0501u, 0x0809u, 0x080au, 0x0807u, 0x0403u, 0u}) {
    EXPECT_EQ(reason(RsaKey(3072).encode(), scheme), "signature scheme does not fit the key");
  }
  for (const ByteVector& exponent :
       {ByteVector{3}, {0x11}, {0, 0x81}, {0, 0xff, 0xff, 0xff, 0xff}}) {
    RsaKey key(3072);
    key.exponent = exponent;
    EXPECT_EQ(reason(key.encode()), supported);
  }
  const std::function<void(RsaKey&)> spoils[] = {
      [](auto& k) { k.exponent = {}; },
      [](auto& k) { k.exponent = {0}; },
      [](auto& k) { k.exponent = {1}; },
      [](auto& k) { k.exponent = {2}; },
      [](auto& k) { k.exponent = {4}; },
      [](auto& k) { k.exponent = {0x81}; },  // negative
      [](auto& k) {
        k.exponent = {0, 3};
      },  // not the shortest
      [](auto& k) {
        k.exponent = {1, 0, 0, 0, 1};
      },  // 33 bits
      [](auto& k) { k.exponent = ByteVector(300, 1); },
      [](auto& k) { k.modulus.back() = 0xfe; },             // even
      [](auto& k) { k.modulus.erase(k.modulus.begin()); },  // negative
      [](auto& k) { k.modulus.insert(k.modulus.begin(), 0); },
      [](auto& k) { k.modulus = {}; },
      [](auto& k) { k.unused_bits = {1}; },
      [](auto& k) { k.unused_bits = {}; },
      [](auto& k) { k.after_exponent = {0}; },
      [](auto& k) { k.after_key = {0}; },
      [](auto& k) {
        k.after_exponent = {2, 1, 1};
      },
      [](auto& k) { k.after_info = {0}; },
      [](auto& k) { k.after = {0}; },
      [](auto& k) { k.algorithm.back() = 1; },
      [](auto& k) { k.algorithm = {}; },
      [](auto& k) { k.algorithm[12] = 0x0a; },  // id-RSASSA-PSS
      [](auto& k) {                             // no parameters
        k.algorithm.resize(13);
        k.algorithm[1] = 0x0b;
      },
  };
  int number = 0;
  for (const auto& spoil : spoils) {
    RsaKey key(3072);
    spoil(key);
    EXPECT_EQ(reason(key.encode()), unsupported) << number++;
  }
  // Lengths longer than need be, and tags of other types.
  const ByteVector good = RsaKey(3072).encode();
  for (std::size_t at = 0; at < 40; ++at) {
    ByteVector spoiled = good;
    if (good[at] == 0x82) {
      spoiled[at] = 0x83;
      spoiled.insert(spoiled.begin() + static_cast<std::ptrdiff_t>(at) + 1, 0);
    } else {
      spoiled[at] ^= 0x20;
    }
    // The first bytes of the modulus may hold anything.
    const bool in_modulus = at > 31;
    EXPECT_EQ(reason(spoiled), in_modulus ? supported : unsupported) << at;
  }
}

TEST(Nonce, IsFresh) {
  std::set<Nonce> seen;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(seen.insert(fresh_nonce()).second);
  // Every byte of it is random.
  for (std::size_t i = 0; i < 32; ++i) {
    std::set<std::uint8_t> values;
    for (const auto& nonce : seen) values.insert(nonce[i]);
    EXPECT_GT(values.size(), 128u) << i;
  }
}

}  // namespace
}  // namespace mandos::monitor
