// SPDX-License-Identifier: GPL-3.0-or-later
// One connection over a socket pair: no clock, no loop, no network.
#include "networker/connection.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "networker/version_line.h"
#include "tests/unit/networker/peer.h"

namespace mandos::networker {
namespace {

using Event = Connection::Event;

class ConnectionTest : public testing::Test {
 protected:
  ConnectionTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    peer_.reset(ends[1]);
    connection_.emplace(UniqueFd(ends[0]));
    tls_ = *Tls::make("SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3");
  }

  Event readable() { return connection_->ready(EPOLLIN, *tls_); }
  Event after(std::string_view said) {
    EXPECT_EQ(send(peer_.get(), said.data(), said.size(), 0), static_cast<ssize_t>(said.size()));
    return readable();
  }
  std::string received() {
    std::string some(1 << 20, '\0');
    const ssize_t size = recv(peer_.get(), some.data(), some.size(), 0);
    some.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return some;
  }
  Event give_nonce() { return connection_->nonce(std::vector<unsigned char>(32, 5), *tls_); }
  /// Up to the verdict.
  void prove(test::Peer& peer) {
    ASSERT_EQ(after("1\r\n"), Event::kSpoke);
    ASSERT_EQ(give_nonce(), Event::kAnswered);
    Event event = Event::kNone;
    for (int i = 0; i < 5 && event == Event::kNone; ++i) event = after(peer.step(received()));
    ASSERT_EQ(event, Event::kProved);
    ASSERT_FALSE(connection_->take_transcript().empty());
    ASSERT_EQ(peer.step(received()), "");
    ASSERT_TRUE(peer.ready());
    ASSERT_TRUE(connection_->wants_part());
  }

  UniqueFd peer_;
  std::unique_ptr<Tls> tls_;
  std::optional<Connection> connection_;
  test::KeyPair key_ = *test::generate_key("ed25519");
};

TEST_F(ConnectionTest, SilenceIsNoEvent) {
  EXPECT_EQ(readable(), Event::kNone);
  EXPECT_FALSE(connection_->wants_nonce());
}

TEST_F(ConnectionTest, TheVersionLineMayComeInPieces) {
  EXPECT_EQ(after("1"), Event::kNone);
  EXPECT_EQ(after("\r"), Event::kNone);
  EXPECT_EQ(after("\n"), Event::kSpoke);
  EXPECT_TRUE(connection_->wants_nonce());
}

TEST_F(ConnectionTest, AWrongVersionLineIsBroken) { EXPECT_EQ(after("2\r\n"), Event::kBroken); }

TEST_F(ConnectionTest, TheLongestVersionLine) {
  EXPECT_EQ(after("1" + std::string(kMaxVersionLine - 2, ' ') + "\n"), Event::kSpoke);
}

TEST_F(ConnectionTest, ALineWithoutEndIsBroken) {
  EXPECT_EQ(after(std::string(kMaxVersionLine - 1, '1')), Event::kNone);
  EXPECT_EQ(after("1"), Event::kBroken);
}

TEST_F(ConnectionTest, HangingUpIsNoticedInEveryState) {
  test::Peer peer(key_, test::client_priority());
  prove(peer);
  EXPECT_EQ(connection_->ready(EPOLLIN | EPOLLRDHUP, *tls_), Event::kGone);
  EXPECT_EQ(connection_->ready(EPOLLHUP, *tls_), Event::kGone);
  EXPECT_EQ(connection_->ready(EPOLLERR, *tls_), Event::kGone);
}

TEST_F(ConnectionTest, AnEndedStreamIsGone) {
  peer_.reset();
  EXPECT_EQ(readable(), Event::kGone);
}

TEST_F(ConnectionTest, AVersionLineWithAHangUpIsGoneButABadOneIsBroken) {
  EXPECT_EQ(send(peer_.get(), "1\n", 2, 0), 2);
  EXPECT_EQ(connection_->ready(EPOLLIN | EPOLLRDHUP, *tls_), Event::kGone);
}

TEST_F(ConnectionTest, ABadVersionLineIsBrokenAlsoWithAHangUp) {
  EXPECT_EQ(send(peer_.get(), "x\n", 2, 0), 2);
  EXPECT_EQ(connection_->ready(EPOLLIN | EPOLLRDHUP, *tls_), Event::kBroken);
}

TEST_F(ConnectionTest, WhatIsSaidBeforeTheNonceIsKeptWithinBounds) {
  ASSERT_EQ(after("1\n"), Event::kSpoke);
  EXPECT_EQ(after(std::string(kMaxVersionLine, 'x')), Event::kNone);
  EXPECT_EQ(after("x"), Event::kBroken);
}

TEST_F(ConnectionTest, WhatFollowsTheVersionLineGoesIntoTls) {
  // A record of an alert: handshake_failure, fatal.
  EXPECT_EQ(after(std::string_view("1\n\x15\x03\x03\x00\x02\x02\x28", 9)), Event::kSpoke);
  EXPECT_EQ(give_nonce(), Event::kBroken);
  EXPECT_NE(connection_->problem().find("the peer says"), std::string::npos)
      << connection_->problem();
}

TEST_F(ConnectionTest, EachClientHelloIsAnAnswerAndPartOfAFlightIsNone) {
  test::Peer peer(key_, test::client_priority("SECP521R1"));  // of which no key was offered
  ASSERT_EQ(after("1\r\n"), Event::kSpoke);
  ASSERT_EQ(give_nonce(), Event::kAnswered);
  EXPECT_EQ(after(peer.step(received())), Event::kAnswered) << "to its HelloRetryRequest";
  const std::string flight = peer.step(received());
  EXPECT_EQ(after(flight.substr(0, 100)), Event::kNone);
  EXPECT_EQ(after(flight.substr(100)), Event::kProved);
}

TEST_F(ConnectionTest, DeliversABlob) {
  test::Peer peer(key_, test::client_priority());
  prove(peer);
  EXPECT_EQ(connection_->part(as_bytes("the blob"), true, *tls_), Event::kDelivered);
  peer.step(received());
  EXPECT_EQ(peer.blob(), "the blob");
  EXPECT_TRUE(peer.goodbye());
}

TEST_F(ConnectionTest, DeliversABlobInPartsToASlowReader) {
  const int small = 1;
  setsockopt(connection_->fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  test::Peer peer(key_, test::client_priority());
  prove(peer);
  const std::string part(32768, 'p');
  for (int i = 0; i < 4; ++i) {
    const bool last = i == 3;
    ASSERT_TRUE(connection_->wants_part());
    Event event = connection_->part(as_bytes(part), last, *tls_);
    ASSERT_EQ(event, Event::kNone);
    ASSERT_TRUE(connection_->wants_write());
    ASSERT_FALSE(connection_->wants_part());
    while (event == Event::kNone) {
      peer.step(received());
      event = connection_->ready(EPOLLOUT, *tls_);
    }
    ASSERT_EQ(event, last ? Event::kDelivered : Event::kWritten);
    ASSERT_FALSE(connection_->wants_write());
  }
  for (std::string some = received(); !some.empty(); some = received()) peer.step(some);
  EXPECT_EQ(peer.blob(), part + part + part + part);
  EXPECT_TRUE(peer.goodbye());
}

TEST_F(ConnectionTest, ThePartFollowsWhatIsLeftOfTheHandshake) {
  test::Peer peer(key_, test::client_priority());
  ASSERT_EQ(after("1\r\n"), Event::kSpoke);
  ASSERT_EQ(give_nonce(), Event::kAnswered);
  const std::string flight = peer.step(received());
  // No room for the end of the handshake.
  const std::string some(4096, 'x');
  std::size_t ahead = 0;
  for (ssize_t sent = 0; sent >= 0;) {
    sent = send(connection_->fd(), some.data(), some.size(), 0);
    if (sent > 0) ahead += static_cast<std::size_t>(sent);
  }
  ASSERT_EQ(after(flight), Event::kProved);
  ASSERT_TRUE(connection_->wants_write());
  Event event = connection_->part(as_bytes("the blob"), true, *tls_);
  ASSERT_EQ(event, Event::kNone);
  std::string all;
  for (int i = 0; i < 1000 && event == Event::kNone; ++i) {
    all += received();
    event = connection_->ready(EPOLLOUT, *tls_);
  }
  ASSERT_EQ(event, Event::kDelivered);
  all += received();
  peer.step(std::string_view(all).substr(ahead));
  EXPECT_EQ(peer.blob(), "the blob");
  EXPECT_TRUE(peer.goodbye());
}

TEST_F(ConnectionTest, AnEmptyLastPartIsDeliveredToo) {
  test::Peer peer(key_, test::client_priority());
  prove(peer);
  EXPECT_EQ(connection_->part(as_bytes("all"), false, *tls_), Event::kWritten);
  EXPECT_EQ(connection_->part({}, false, *tls_), Event::kWritten);
  EXPECT_EQ(connection_->part({}, true, *tls_), Event::kDelivered);
  peer.step(received());
  EXPECT_EQ(peer.blob(), "all");
  EXPECT_TRUE(peer.goodbye());
}

TEST_F(ConnectionTest, APeerThatTalksWhileItWaitsIsHeardWithinBounds) {
  test::Peer peer(key_, test::client_priority());
  prove(peer);
  EXPECT_EQ(after(peer.say(std::string(10000, 't'))), Event::kNone);
  EXPECT_EQ(after(peer.say(std::string(10000, 't'))), Event::kBroken);
}

TEST_F(ConnectionTest, APeerThatIsGoneCannotBeGivenAnything) {
  test::Peer peer(key_, test::client_priority());
  prove(peer);
  peer_.reset();
  EXPECT_EQ(connection_->part(as_bytes("the blob"), true, *tls_), Event::kGone);
  EXPECT_TRUE(tls_->output.empty());
}

}  // namespace
}  // namespace mandos::networker
