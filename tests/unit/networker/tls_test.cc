// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <ios>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "common/channel.h"
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
           Case{"NONSENSE", "priority string 'NONSENSE'"},
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

// The keys that are offered, and what the peer then takes. RFC 8446 sections 4.1.3 and 4.2.8.
struct Chosen {
  int suite = 0;
  int group = 0;
  friend bool operator==(const Chosen&, const Chosen&) = default;
};

std::ostream& operator<<(std::ostream& out, const Chosen& chosen) {
  return out << std::hex << "suite 0x" << chosen.suite << ", group 0x" << chosen.group << std::dec;
}

/// Out of the ServerHello of a handshake without a retry.
Chosen chosen(const std::string& priority) {
  auto made = Tls::make(priority);
  if (!made) return ADD_FAILURE() << made.error(), Chosen{};
  TlsSession session(**made, kNonce);
  Peer peer(key("ed25519"), test::client_priority());
  EXPECT_EQ(shake_hands(**made, session, peer), Step::kDone) << session.problem();
  const std::string transcript = session.take_transcript();
  if (types_of(transcript) != Types{1, 2, 8, 11, 15}) return ADD_FAILURE() << priority, Chosen{};
  const auto bytes = as_bytes(transcript);
  const auto number = [&](std::size_t at) { return bytes[at] << 8 | bytes[at + 1]; };
  // Past the ClientHello, the head, version and random of the other, and its session ID.
  std::size_t at = 4 + static_cast<std::size_t>(number(2)) + 4 + 2 + 32;
  at += 1U + bytes[at];
  Chosen found{number(at), 0};
  const std::size_t end = at + 5 + static_cast<std::size_t>(number(at + 3));
  for (at += 5; at < end; at += 4 + static_cast<std::size_t>(number(at + 2))) {
    if (number(at) == 51) found.group = number(at + 4);
  }
  return found;
}

constexpr int kAes128 = 0x1301;
constexpr int kAes256 = 0x1302;
constexpr int kChaCha20 = 0x1303;
constexpr int kSecp256r1 = 0x17;
constexpr int kSecp384r1 = 0x18;
constexpr int kX25519 = 0x1d;

TEST(Tls, TheCheapestComesFirst) {
  EXPECT_EQ(chosen(kPriority), (Chosen{kChaCha20, kX25519}));
  EXPECT_EQ(chosen("NORMAL:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3"),
            (Chosen{kChaCha20, kX25519}));
}

TEST(Tls, AnOrderThatIsGivenStays) {
  const auto with = [](std::string_view more) { return chosen(concat(kPriority, more)); };
  EXPECT_EQ(with(":-GROUP-ALL:+GROUP-SECP256R1:+GROUP-X25519"), (Chosen{kChaCha20, kSecp256r1}));
  EXPECT_EQ(with(":-group-all:+group-secp256r1:+group-x25519"), (Chosen{kChaCha20, kSecp256r1}));
  EXPECT_EQ(with(":-cipher-all:+aes-256-gcm:+chacha20-poly1305"), (Chosen{kAes256, kX25519}));
  EXPECT_EQ(with(":-aes-256-gcm:+aes-256-gcm"), (Chosen{kChaCha20, kX25519}));
  EXPECT_EQ(with(":-CURVE-ALL:+CURVE-SECP256R1:+CURVE-X25519"), (Chosen{kChaCha20, kSecp256r1}));
  EXPECT_EQ(with(":-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305"), (Chosen{kAes256, kX25519}));
  EXPECT_EQ(with(":-AES-256-GCM:+AES-256-GCM"), with(":-CIPHER-ALL:+CHACHA20-POLY1305"));
  EXPECT_EQ(with(":-AES-256-GCM:-CHACHA20-POLY1305:+AES-256-GCM"), (Chosen{kAes128, kX25519}));
}

// gnutls_priority_init(3), "@KEYWORD"; the file of these names is given by the test's environment.
TEST(Tls, TheOrderOfTheSystemStays) {
  EXPECT_EQ(chosen("@MANDOS"), (Chosen{kAes256, kSecp384r1}));
  EXPECT_EQ(chosen("@NOSUCHNAME,MANDOS:+GROUP-FFDHE2048"), (Chosen{kAes256, kSecp384r1}));
}

TEST(Tls, WhatIsForbiddenStaysForbidden) {
  const auto with = [](std::string_view more) { return chosen(concat(kPriority, more)); };
  EXPECT_EQ(with(":!CHACHA20-POLY1305"), (Chosen{kAes256, kX25519}));
  EXPECT_EQ(with(":-GROUP-X25519"), (Chosen{kChaCha20, kSecp256r1}));
  EXPECT_EQ(with(":-GROUP-X25519:-CHACHA20-POLY1305"), (Chosen{kAes256, kSecp256r1}));
}

// What GnuTLS 3.7.9 logs is cumulative: from level 9 on, keys.
class TlsDebugTest : public testing::Test {
 protected:
  TlsDebugTest() {
    auto pair = make_door();
    read_ = std::move(pair->first);
    write_ = std::move(pair->second);
    const int size = 4 << 20;
    setsockopt(write_.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    log_ = Log::to_socket(write_.get(), LogLevel::kDebug);
  }
  ~TlsDebugTest() override {
    gnutls_global_set_log_level(0);
    gnutls_global_set_log_function(nullptr);
  }

  void read_log() {
    std::array<char, 4096> line{};
    for (;;) {
      const ssize_t size = recv(read_.get(), line.data(), line.size(), MSG_DONTWAIT);
      if (size <= 0) return;
      text_.append(line.data() + 1, static_cast<std::size_t>(size) - 1) += '\n';
    }
  }

  /// A whole handshake and a blob; returns the keys of both directions and all secrets, as bytes.
  std::vector<std::string> run() {
    const auto shared = tls();
    TlsSession session(*shared, kNonce);
    Peer peer(key("ed25519"), test::client_priority());
    secrets().clear();
    gnutls_session_set_keylog_function(
        peer.session(), [](gnutls_session_t, const char*, const gnutls_datum_t* secret) {
          secrets().emplace_back(reinterpret_cast<const char*>(secret->data), secret->size);
          return 0;
        });
    Step step = session.handshake({});
    for (std::string answer = "x"; !answer.empty() && step == Step::kMore;) {
      answer = peer.step(take_output(*shared));
      read_log();
      if (!answer.empty()) step = session.handshake(as_bytes(answer));
      read_log();
    }
    EXPECT_EQ(step, Step::kDone);
    session.send(as_bytes("the blob of the client"));
    peer.step(take_output(*shared));
    read_log();
    std::vector<std::string> found = secrets();
    for (const unsigned read : {0U, 1U}) {
      gnutls_datum_t mac{};
      gnutls_datum_t iv{};
      gnutls_datum_t cipher{};
      std::array<unsigned char, 8> number{};
      EXPECT_EQ(gnutls_record_get_state(peer.session(), read, &mac, &iv, &cipher, number.data()),
                0);
      found.emplace_back(reinterpret_cast<const char*>(cipher.data), cipher.size);
    }
    found.emplace_back("the blob of the client");
    return found;
  }
  static std::vector<std::string>& secrets() {
    static std::vector<std::string> all;
    return all;
  }

  /// How many of `wanted` stand in the log, as bytes or in any usual way to write them.
  std::size_t shown(const std::vector<std::string>& wanted) const {
    std::string squeezed;
    for (const char c : text_) {
      if (c != ' ' && c != ':') squeezed += static_cast<char>(std::tolower(c));
    }
    return static_cast<std::size_t>(std::ranges::count_if(wanted, [&](const std::string& bytes) {
      std::string hex;
      for (const unsigned char byte : as_bytes(bytes)) {
        hex += "0123456789abcdef"[byte >> 4];
        hex += "0123456789abcdef"[byte & 15];
      }
      // A line may be cut: half of a secret is one.
      return squeezed.find(hex.substr(0, hex.size() / 2)) != squeezed.npos ||
             text_.find(bytes) != text_.npos || text_.find(escaped(bytes)) != text_.npos;
    }));
  }

  UniqueFd read_;
  UniqueFd write_;
  Log log_ = Log::to_socket(-1, LogLevel::kDebug);
  std::string text_;
};

TEST_F(TlsDebugTest, TheMostTalkativeLevelShowsNoKey) {
  Tls::set_debug(log_, 100);
  const auto secrets = run();
  EXPECT_GE(secrets.size(), 7U) << "of the handshake, of the traffic, and the blob";
  EXPECT_THAT(text_, HasSubstr("GnuTLS 5: "));
  EXPECT_EQ(shown(secrets), 0U);
}

TEST_F(TlsDebugTest, TheNextLevelWould) {
  Tls::set_debug(log_, 100);
  gnutls_global_set_log_level(9);
  const auto secrets = run();
  EXPECT_GT(shown(secrets), 0U) << "then the test above shows nothing";
}

TEST(TranscriptRecorder, StopsAtCertificateVerify) {
  TranscriptRecorder transcript;
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

TEST(TranscriptRecorder, IsBounded) {
  TranscriptRecorder transcript;
  const std::vector<unsigned char> body(door::networker::kLongestTranscript - 4);
  EXPECT_FALSE(TranscriptRecorder().record(1, std::vector<unsigned char>(body.size() + 1)));
  EXPECT_TRUE(transcript.record(1, body));
  EXPECT_FALSE(transcript.record(2, {}));
  EXPECT_FALSE(TranscriptRecorder().record(0x101, {}));
}

}  // namespace
}  // namespace mandos::networker
