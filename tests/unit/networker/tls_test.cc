// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "monitor/proof.h"
#include "tests/unit/networker/peer.h"

namespace mandos::networker {
namespace {

using test::Peer;
using testing::HasSubstr;
using Step = TlsSession::Step;
using Types = std::vector<int>;

constexpr char kPriority[] =
    "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA";

std::unique_ptr<Tls> tls() {
  auto made = Tls::make(kPriority);
  EXPECT_TRUE(made);
  return *std::move(made);
}

test::KeyPair key(std::string_view type) {
  auto made = test::generate_key(type);
  EXPECT_TRUE(made);
  return *made;
}

const monitor::Nonce kNonce = [] {
  monitor::Nonce nonce{};
  for (std::size_t i = 0; i < nonce.size(); ++i) nonce[i] = static_cast<unsigned char>(0x80 + i);
  return nonce;
}();

std::string take_output(Tls& tls) {
  std::string text(tls.output.begin(), tls.output.end());
  tls.output.clear();
  return text;
}

/// Both halves until neither has anything to say; `piece`: most bytes that reach us at a time.
Step shake_hands(Tls& tls, TlsSession& session, Peer& peer, std::size_t piece = 1 << 20) {
  Step step = session.handshake({});
  for (;;) {
    std::string answer = peer.step(take_output(tls));
    if (answer.empty() || step != Step::kMore) return step;
    while (!answer.empty() && step == Step::kMore) {
      const std::string some = answer.substr(0, piece);
      answer.erase(0, some.size());
      step = session.handshake(as_bytes(some));
    }
  }
}

Types types_of(std::string_view transcript) {
  Types types;
  while (transcript.size() >= 4) {
    const auto bytes = as_bytes(transcript);
    types.push_back(bytes[0]);
    const std::size_t size =
        4 + (std::size_t{bytes[1]} << 16 | std::size_t{bytes[2]} << 8 | bytes[3]);
    EXPECT_LE(size, transcript.size());
    transcript.remove_prefix(std::min(size, transcript.size()));
  }
  EXPECT_TRUE(transcript.empty());
  return types;
}

/// The monitor's own judgement.
bool proves(const std::string& transcript, const test::KeyPair& key) {
  const auto wanted = monitor::KeyId::parse(key.key_id);
  EXPECT_TRUE(wanted);
  const auto result = monitor::check_proof(as_bytes(transcript), kNonce,
                                           [&](const monitor::KeyId& id) { return id == *wanted; });
  return result.verdict == monitor::ProofResult::Verdict::kProven;
}

class TranscriptTest : public testing::TestWithParam<std::tuple<const char*, std::size_t>> {};

TEST_P(TranscriptTest, IsWhatTheMonitorAccepts) {
  const auto [type, piece] = GetParam();
  const auto shared = tls();
  const auto pair = key(type);
  TlsSession session(*shared, kNonce);
  Peer peer(pair, test::client_priority());
  ASSERT_EQ(shake_hands(*shared, session, peer, piece), Step::kDone) << session.problem();
  EXPECT_TRUE(peer.ready());
  const std::string transcript = session.take_transcript();
  EXPECT_EQ(types_of(transcript), (Types{1, 2, 8, 11, 15}));
  EXPECT_TRUE(proves(transcript, pair));
}

TEST_P(TranscriptTest, HoldsBothHellosAfterARetry) {
  const auto [type, piece] = GetParam();
  const auto shared = tls();
  const auto pair = key(type);
  TlsSession session(*shared, kNonce);
  Peer peer(pair, test::client_priority("SECP521R1"));
  ASSERT_EQ(shake_hands(*shared, session, peer, piece), Step::kDone) << session.problem();
  EXPECT_TRUE(peer.ready());
  const std::string transcript = session.take_transcript();
  EXPECT_EQ(types_of(transcript), (Types{1, 2, 1, 2, 8, 11, 15}));
  EXPECT_TRUE(proves(transcript, pair));
}

INSTANTIATE_TEST_SUITE_P(Keys, TranscriptTest,
                         testing::Combine(testing::Values("ed25519", "ed448", "p256", "p384",
                                                          "p521", "rsa3072"),
                                          testing::Values(1 << 20, 7, 1)));

TEST(Tls, BlobAndGoodbyeArrive) {
  const auto shared = tls();
  TlsSession session(*shared, kNonce);
  Peer peer(key("ed25519"), test::client_priority());
  ASSERT_EQ(shake_hands(*shared, session, peer), Step::kDone);
  const std::string blob(100000, 'b');
  ASSERT_TRUE(session.send(as_bytes(blob)));
  session.say_goodbye();
  peer.step(take_output(*shared));
  EXPECT_EQ(peer.blob(), blob);
  EXPECT_TRUE(peer.goodbye());
}

TEST(Tls, RefusesTheWrongPeers) {
  const auto shared = tls();
  const auto pair = key("ed25519");
  struct Case {
    const char* version;
    const char* type;
  };
  for (const auto& [version, type] : {Case{"TLS1.2", "RAWPK"}, Case{"TLS1.3", "X.509"}}) {
    TlsSession session(*shared, kNonce);
    Peer peer(pair, test::client_priority({}, version, type));
    const Step step = shake_hands(*shared, session, peer);
    EXPECT_TRUE(step == Step::kFailed || peer.failed()) << version << type;
    EXPECT_FALSE(peer.ready());
  }
}

TEST(Tls, ACertificateRequestStandsInTheTranscript) {
  const auto shared = tls();
  const auto pair = key("ed25519");
  TlsSession session(*shared, kNonce);
  Peer peer(pair, test::client_priority(), true);
  ASSERT_EQ(shake_hands(*shared, session, peer), Step::kDone) << session.problem();
  const std::string transcript = session.take_transcript();
  EXPECT_EQ(types_of(transcript), (Types{1, 2, 8, 13, 11, 15}));
  EXPECT_FALSE(proves(transcript, pair));
}

TEST(Tls, JunkEndsTheHandshakeWithAnAlert) {
  const auto shared = tls();
  TlsSession session(*shared, kNonce);
  ASSERT_EQ(session.handshake({}), Step::kMore);
  shared->output.clear();
  EXPECT_EQ(session.handshake(as_bytes("HTTP/1.1 400 Bad Request\r\n\r\n")), Step::kFailed);
  EXPECT_FALSE(shared->output.empty());
  EXPECT_FALSE(session.problem().empty());
}

TEST(Tls, PriorityMustBeTls13AndRawKeysOnly) {
  EXPECT_TRUE(Tls::make(kPriority));
  EXPECT_TRUE(Tls::make("SECURE256:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3"));
  struct Case {
    const char* priority;
    const char* says;
  };
  for (const auto& [priority, says] : {
           Case{"", "priority string"},
           Case{"NONSENSE", "priority string \"NONSENSE\""},
           Case{"NORMAL:+NOSUCHTHING", "+NOSUCHTHING"},
           Case{"NORMAL", "TLS 1.3 and no other version"},
           Case{"NORMAL:!CTYPE-X.509:+CTYPE-RAWPK", "but allows TLS1.3, TLS1.2"},
           Case{"NORMAL:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.2", "but allows TLS1.2"},
           Case{"NORMAL:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL", "insufficient priorities"},
           Case{"NORMAL:!VERS-ALL:+VERS-TLS1.3", "but allows X.509"},
           Case{"NORMAL:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3", "raw public keys"},
           Case{"NORMAL:!CTYPE-ALL:!VERS-ALL:+VERS-TLS1.3", "but allows nothing"},
           Case{"NORMAL:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3:!GROUP-ALL", "nothing"},
           Case{"NORMAL:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3:!SIGN-ALL", "insuff"},
           Case{"NORMAL:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3:!CIPHER-ALL", "insuff"},
       }) {
    const auto made = Tls::make(priority);
    ASSERT_FALSE(made) << priority;
    EXPECT_THAT(made.error(), HasSubstr(says)) << priority;
  }
}

TEST(Transcript, StopsAtCertificateVerify) {
  Transcript transcript;
  const std::array<unsigned char, 3> body{7, 8, 9};
  EXPECT_TRUE(transcript.record(GNUTLS_HANDSHAKE_CLIENT_HELLO, body));
  EXPECT_TRUE(transcript.record(GNUTLS_HANDSHAKE_CHANGE_CIPHER_SPEC, body));
  EXPECT_TRUE(transcript.record(GNUTLS_HANDSHAKE_HELLO_RETRY_REQUEST, {}));
  EXPECT_FALSE(transcript.complete());
  EXPECT_TRUE(transcript.record(GNUTLS_HANDSHAKE_CERTIFICATE_VERIFY, body));
  EXPECT_TRUE(transcript.complete());
  EXPECT_TRUE(transcript.record(GNUTLS_HANDSHAKE_FINISHED, body));
  EXPECT_EQ(transcript.take(),
            std::string("\x01\0\0\x03\7\x08\x09\x02\0\0\0\x0f\0\0\x03\7\x08\x09", 18));
}

TEST(Transcript, IsBounded) {
  Transcript transcript;
  const std::vector<unsigned char> body(Transcript::kLimit - 4);
  EXPECT_FALSE(Transcript().record(1, std::vector<unsigned char>(body.size() + 1)));
  EXPECT_TRUE(transcript.record(1, body));
  EXPECT_FALSE(transcript.record(2, {}));
  EXPECT_FALSE(Transcript().record(0x101, {}));
}

}  // namespace
}  // namespace mandos::networker
