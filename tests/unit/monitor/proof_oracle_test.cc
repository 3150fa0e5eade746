// SPDX-License-Identifier: GPL-3.0-or-later
// The proof against GnuTLS: real handshakes of every key type, and signatures on which GnuTLS and
// nettle must agree.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "monitor/proof.h"
#include "tests/support/memory_handshake.h"
#include "tests/support/reference_verifier.h"

namespace mandos::monitor {
namespace {

using test::ByteVector;
using test::Handshake;
using test::KeyPair;
using test::SigningKey;
using Verdict = ProofResult::Verdict;

struct KeyType {
  const char* name;
  unsigned scheme;
  gnutls_sign_algorithm_t algorithm;
};
constexpr KeyType kKeyTypes[] = {
    {"ed25519", 0x0807, GNUTLS_SIGN_EDDSA_ED25519},
    {"ed448", 0x0808, GNUTLS_SIGN_EDDSA_ED448},
    {"p256", 0x0403, GNUTLS_SIGN_ECDSA_SECP256R1_SHA256},
    {"p384", 0x0503, GNUTLS_SIGN_ECDSA_SECP384R1_SHA384},
    {"p521", 0x0603, GNUTLS_SIGN_ECDSA_SECP521R1_SHA512},
    {"rsa3072", 0x0804, GNUTLS_SIGN_RSA_PSS_RSAE_SHA256},
    {"rsa3072", 0x0805, GNUTLS_SIGN_RSA_PSS_RSAE_SHA384},
    {"rsa3072", 0x0806, GNUTLS_SIGN_RSA_PSS_RSAE_SHA512},
};

/// A key of each type, made once.
const KeyPair& key_of(std::string_view type) {
  static std::map<std::string, KeyPair, std::less<>> keys;
  auto key = keys.find(type);
  if (key == keys.end()) {
    auto made = test::generate_key(type);
    EXPECT_TRUE(made) << made.error();
    key = keys.emplace(type, *made).first;
  }
  return key->second;
}

SigningKey signer(const KeyType& type) {
  auto key = test::signing_key(key_of(type.name), type.scheme, type.algorithm);
  EXPECT_TRUE(key) << key.error();
  return *key;
}

bool anyone(const KeyId&) { return true; }

ByteVector vector_of(const Nonce& nonce) { return {nonce.begin(), nonce.end()}; }

/// The monitor's verdict, on which GnuTLS must agree.
bool both_accept(const ByteVector& transcript, const Nonce& nonce) {
  const bool monitor = check_proof(transcript, nonce, anyone).verdict == Verdict::kProven;
  EXPECT_EQ(monitor, test::reference_accepts(transcript, vector_of(nonce)));
  return monitor;
}

class Oracle : public testing::TestWithParam<std::tuple<KeyType, bool>> {
 protected:
  const KeyType type_ = std::get<0>(GetParam());
  const bool retry_ = std::get<1>(GetParam());
  const Nonce nonce_ = fresh_nonce();

  /// What a Mandos client with this key says in a handshake.
  ByteVector recorded(test::MemoryHandshake options = {}) const {
    options.nonce = vector_of(nonce_);
    options.force_retry = retry_;
    // An RSA key signs by the first scheme that both ends like.
    static const std::map<unsigned, std::string> kRsaSchemes = {{0x0804, "RSA-PSS-RSAE-SHA256"},
                                                                {0x0805, "RSA-PSS-RSAE-SHA384"},
                                                                {0x0806, "RSA-PSS-RSAE-SHA512"}};
    if (const auto rsa = kRsaSchemes.find(type_.scheme); rsa != kRsaSchemes.end()) {
      options.mandos_server += ":-SIGN-ALL:+SIGN-" + rsa->second;
    }
    auto transcript = test::run_handshake(key_of(type_.name), options);
    EXPECT_TRUE(transcript) << transcript.error();
    return transcript ? *transcript : ByteVector();
  }
  /// A transcript of our own making, spoiled before the genuine key signs it.
  ByteVector signed_by(const SigningKey& key) const {
    return test::sign(Handshake::normal(nonce_, key, retry_), key);
  }
};
INSTANTIATE_TEST_SUITE_P(Keys, Oracle,
                         testing::Combine(testing::ValuesIn(kKeyTypes), testing::Bool()),
                         [](const auto& flavour) {
                           const auto& type = std::get<0>(flavour.param);
                           return concat(type.name, "_", type.scheme,
                                         std::get<1>(flavour.param) ? "_WithRetry" : "");
                         });

TEST_P(Oracle, ARealHandshakeIsAProof) {
  const auto transcript = recorded();
  const KeyId expected = *KeyId::parse(key_of(type_.name).key_id);
  int asked = 0;
  const auto result = check_proof(transcript, nonce_, [&](const KeyId& id) {
    ++asked;
    return id == expected;
  });
  EXPECT_EQ(result.verdict, Verdict::kProven) << result.reason;
  EXPECT_EQ(result.key_id, expected);
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(test::reference_accepts(transcript, vector_of(nonce_)));
  // The scheme that was wanted and the retry that was forced did come about.
  Transcript parsed;
  ASSERT_EQ(parse_transcript(transcript, nonce_, parsed), nullptr);
  EXPECT_EQ(parsed.scheme, type_.scheme);
  EXPECT_EQ(parsed.retried_hello.empty(), !retry_);
}

TEST_P(Oracle, EverySuiteIsAProof) {
  const std::pair<std::string_view, unsigned> suites[] = {{"AES-128-GCM", 0x1301},
                                                          {"AES-256-GCM", 0x1302},
                                                          {"CHACHA20-POLY1305", 0x1303},
                                                          {"AES-128-CCM", 0x1304}};
  for (const auto& [cipher, suite] : suites) {
    test::MemoryHandshake options;
    const std::string only = concat(":-CIPHER-ALL:+", cipher);
    options.mandos_server = concat(test::kMandosPriority, ":+CIPHER-ALL", only);
    options.mandos_client = options.mandos_server;
    const auto transcript = recorded(options);
    EXPECT_TRUE(both_accept(transcript, nonce_)) << cipher;
    Transcript parsed;
    ASSERT_EQ(parse_transcript(transcript, nonce_, parsed), nullptr);
    EXPECT_EQ(parsed.hash, suite == 0x1302 ? &nettle_sha384 : &nettle_sha256) << cipher;
    const auto wire = test::number(suite, 2);
    EXPECT_NE(std::search(transcript.begin(), transcript.end(), wire.begin(), wire.end()),
              transcript.end());
  }
}

TEST_P(Oracle, EveryFlippedBitIsRefused) {
  auto transcript = recorded();
  Transcript parsed;
  ASSERT_EQ(parse_transcript(transcript, nonce_, parsed), nullptr);
  const auto key_start = 8 * static_cast<std::size_t>(parsed.public_key.data() - transcript.data());
  const bool slow = type_.scheme == 0x0503 || type_.scheme == 0x0603 || type_.scheme == 0x0808;
  for (std::size_t bit = 0; bit < 8 * transcript.size(); ++bit) {
    // Before its key, what a slow type says is like what the others say.
    if (slow && bit < key_start && bit % 7 != 0) continue;
    const auto mask = static_cast<unsigned char>(1u << bit % 8);
    transcript[bit / 8] ^= mask;
    // Any key is known, so that a spoiled key is looked at, too.
    const auto verdict = check_proof(transcript, nonce_, anyone).verdict;
    EXPECT_EQ(verdict, Verdict::kRefused) << "bit " << bit << " of " << 8 * transcript.size();
    transcript[bit / 8] ^= mask;
  }
  EXPECT_EQ(check_proof(transcript, nonce_, anyone).verdict, Verdict::kProven);
}

TEST_P(Oracle, EveryTruncationIsRefused) {
  const auto transcript = recorded();
  for (std::size_t size = 0; size < transcript.size(); ++size) {
    EXPECT_EQ(check_proof(Bytes(transcript).first(size), nonce_, anyone).verdict, Verdict::kRefused)
        << size;
  }
}

TEST_P(Oracle, AnotherNonceIsRefused) {
  const auto transcript = recorded();
  EXPECT_STREQ(check_proof(transcript, fresh_nonce(), anyone).reason, "nonce not found");
  Nonce nearly = nonce_;
  nearly[0] ^= 0x80;
  EXPECT_STREQ(check_proof(transcript, nearly, anyone).reason, "nonce not found");
  // An old transcript into which the new nonce was put.
  auto forged = transcript;
  std::ranges::copy(nearly, forged.begin() + 6);
  if (retry_) {
    EXPECT_STREQ(check_proof(forged, nearly, anyone).reason, "nonce not found");
    const auto second = std::search(forged.begin(), forged.end(), nonce_.begin(), nonce_.end());
    ASSERT_NE(second, forged.end());
    std::ranges::copy(nearly, second);
  }
  EXPECT_STREQ(check_proof(forged, nearly, anyone).reason, "signature does not verify");
}

TEST_P(Oracle, AnotherKeyIsRefused) {
  const auto other = test::generate_key(type_.name);
  ASSERT_TRUE(other);
  auto other_signer = test::signing_key(*other, type_.scheme, type_.algorithm);
  ASSERT_TRUE(other_signer);
  SigningKey thief = signer(type_);
  thief.sign = other_signer->sign;
  const auto transcript = signed_by(thief);
  EXPECT_STREQ(check_proof(transcript, nonce_, anyone).reason, "signature does not verify");
  EXPECT_FALSE(both_accept(transcript, nonce_));
}

TEST_P(Oracle, AStrangersKeyIsToldApart) {
  const auto transcript = recorded();
  const auto result = check_proof(transcript, nonce_, [](const KeyId&) { return false; });
  EXPECT_EQ(result.verdict, Verdict::kUnknownKey);
  EXPECT_EQ(result.key_id.text(), key_of(type_.name).key_id);
}

TEST_P(Oracle, BothAgreeOnWhatIsSigned) {
  const SigningKey key = signer(type_);
  EXPECT_TRUE(both_accept(signed_by(key), nonce_));
  const auto messages = Handshake::normal(nonce_, key, retry_).messages();
  EXPECT_FALSE(both_accept(
      test::sign(messages, key, retry_, nettle_sha256, "TLS 1.3, client CertificateVerify"),
      nonce_));
  EXPECT_FALSE(both_accept(test::sign(messages, key, retry_, nettle_sha384), nonce_));
  EXPECT_FALSE(both_accept(test::sign(messages, key, !retry_), nonce_));
}

TEST_P(Oracle, AKeyGoesWithItsOwnSchemes) {
  const bool is_rsa = std::string_view(type_.name) == "rsa3072";
  for (const KeyType& other : kKeyTypes) {
    if (other.scheme == type_.scheme) continue;
    SigningKey liar = signer(type_);
    liar.scheme = other.scheme;
    const auto transcript = signed_by(liar);
    const bool other_is_rsa = std::string_view(other.name) == "rsa3072";
    EXPECT_STREQ(check_proof(transcript, nonce_, anyone).reason,
                 is_rsa && other_is_rsa ? "signature does not verify"
                                        : "signature scheme does not fit the key");
    EXPECT_FALSE(both_accept(transcript, nonce_));
  }
}

TEST_P(Oracle, BothAgreeOnSpoiledSignatures) {
  const SigningKey key = signer(type_);
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    SigningKey spoiler = key;
    spoiler.sign = [&](const ByteVector& content) {
      auto signature = key.sign(content);
      const auto at = random() % signature.size();
      switch (round % 4) {
        case 0:
          signature[at] ^= static_cast<unsigned char>(1u << random() % 8);
          break;
        case 1:
          signature.resize(at);
          break;
        case 2:
          signature[at] = static_cast<unsigned char>(random());
          break;
        default:
          break;  // as it is
      }
      return signature;
    };
    const auto transcript = signed_by(spoiler);
    const bool accepted = both_accept(transcript, nonce_);
    EXPECT_TRUE(accepted || round % 4 != 3);
  }
}

TEST(OracleRsa, TooShortAKeyIsRefused) {
  for (const auto& [scheme, algorithm] : {std::pair(0x0804u, GNUTLS_SIGN_RSA_PSS_RSAE_SHA256),
                                          std::pair(0x0806u, GNUTLS_SIGN_RSA_PSS_RSAE_SHA512)}) {
    auto key = test::signing_key(key_of("rsa2048"), scheme, algorithm);
    ASSERT_TRUE(key);
    const Nonce nonce = fresh_nonce();
    const auto transcript = test::sign(Handshake::normal(nonce, *key, false), *key);
    EXPECT_STREQ(check_proof(transcript, nonce, anyone).reason, "unsupported public key");
    // The signature itself is good.
    const auto proof = test::reference_parse(transcript, vector_of(nonce));
    ASSERT_TRUE(proof);
    EXPECT_TRUE(
        test::gnutls_accepts(proof->public_key, proof->scheme, proof->content, proof->signature));
  }
}

TEST(OracleRsa, ASignatureIsAsLongAsTheKey) {
  const auto key = test::signing_key(key_of("rsa3072"), 0x0804, GNUTLS_SIGN_RSA_PSS_RSAE_SHA256);
  ASSERT_TRUE(key);
  SigningKey longer = *key;
  longer.sign = [&](const ByteVector& content) { return test::join({{0}, key->sign(content)}); };
  const Nonce nonce = fresh_nonce();
  EXPECT_TRUE(both_accept(test::sign(Handshake::normal(nonce, *key, false), *key), nonce));
  EXPECT_FALSE(both_accept(test::sign(Handshake::normal(nonce, longer, false), longer), nonce));
}

TEST(OracleRsa, Pkcs1SignaturesAreRefused) {
  const std::pair<unsigned, gnutls_sign_algorithm_t> schemes[] = {{0x0401, GNUTLS_SIGN_RSA_SHA256},
                                                                  {0x0804, GNUTLS_SIGN_RSA_SHA256}};
  for (const auto& [scheme, algorithm] : schemes) {
    auto key = test::signing_key(key_of("rsa3072"), scheme, algorithm);
    ASSERT_TRUE(key);
    const Nonce nonce = fresh_nonce();
    EXPECT_FALSE(both_accept(test::sign(Handshake::normal(nonce, *key, false), *key), nonce));
  }
}

// Prints what a verification costs in CPU time, beside GnuTLS's; fails only where a client would
// notice.
TEST_P(Oracle, AVerificationIsQuick) {
  const auto transcript = recorded();
  const auto proof = test::reference_parse(transcript, vector_of(nonce_));
  ASSERT_TRUE(proof);
  const auto microseconds = [](const std::function<bool()>& act) {
    constexpr int kRounds = 100;
    const auto start = std::clock();
    for (int i = 0; i < kRounds; ++i) EXPECT_TRUE(act());
    return 1e6 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC / kRounds;
  };
  const auto verdict = [&](bool known) {
    return check_proof(transcript, nonce_, [&](const KeyId&) { return known; }).verdict;
  };
  const double monitor = microseconds([&] { return verdict(true) == Verdict::kProven; });
  const double stranger = microseconds([&] { return verdict(false) == Verdict::kUnknownKey; });
  const double gnutls = microseconds([&] {
    return test::gnutls_accepts(proof->public_key, proof->scheme, proof->content, proof->signature);
  });
  std::cout << type_.name << ", " << transcript.size() << " bytes: " << monitor
            << " microseconds, GnuTLS " << gnutls << ", a stranger's key " << stranger << '\n';
  EXPECT_LT(monitor, 50'000);
}

}  // namespace
}  // namespace mandos::monitor
