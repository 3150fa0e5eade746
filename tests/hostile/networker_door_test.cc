// SPDX-License-Identifier: GPL-3.0-or-later
// A networker that was taken over, at the monitor's door.
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "monitor/doors/networker.h"
#include "monitor/merge.h"
#include "tests/support/client_settings.h"
#include "tests/support/datagram.h"
#include "tests/support/monitor_fixture.h"

namespace mandos {
namespace {

std::chrono::nanoseconds skipped{};  // by which the clock is ahead of the machine's

}  // namespace

BootClock::time_point BootClock::now() noexcept {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return time_point(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec) + skipped);
}
Moment Moment::now() noexcept {
  return {BootClock::now(), std::chrono::time_point_cast<std::chrono::microseconds>(
                                std::chrono::system_clock::now())};
}

}  // namespace mandos

namespace mandos::monitor::test {
namespace {

using door::networker::ToMonitor;
using door::networker::ToNetworker;

constexpr std::uint32_t kMaxConnections = 8;

class NetworkerDoorTest : public MonitorFixture {
 protected:
  NetworkerDoorTest() { open_door(true); }

  void open_door(bool greet, std::uint32_t grace_ms = 10000) {
    monitor_.reset();
    auto pair = make_door();
    EXPECT_TRUE(pair);
    networker_ = std::move(pair->second);
    broken_.clear();
    NetworkerDoor::Options options;
    options.index = 0;
    options.settings.set_max_connections(kMaxConnections);
    options.settings.set_login_grace_ms(grace_ms);
    options.on_greeting = [](const std::string&) {};
    options.on_alive = [this] { ++alive_; };
    options.on_broken = [this](const std::string& why) { broken_.push_back(why); };
    monitor_ = std::make_unique<NetworkerDoor>(loop_, registry_, std::move(pair->first), options);
    const auto settings = receive();
    EXPECT_TRUE(settings && settings->has_settings());
    if (greet) {
      ToMonitor greeting;
      greeting.mutable_greeting();
      send(greeting);
    }
  }

  const Proven* waiting(ConnectionId id) override { return monitor_->waiting(id); }
  void granted(ConnectionId id, SecretPtr secret) override {
    monitor_->grant(id, std::move(secret));
  }
  void refused(ConnectionId id) override { monitor_->refuse(id); }

  void send_bytes(std::string_view bytes) {
    ASSERT_EQ(::send(networker_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void send(const ToMonitor& message) { send_bytes(mandos::test::datagram_of({message})); }

  /// The next message of the monitor, or nothing within a tenth of a second of rounds.
  std::optional<ToNetworker> receive() {
    std::vector<char> buffer(256 * 1024);
    for (int round = 0; round < 20; ++round) {
      const ssize_t size = recv(networker_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size > 0) {
        ToNetworker message;
        EXPECT_TRUE(message.ParseFromArray(buffer.data(), static_cast<int>(size)));
        return message;
      }
      loop_.run_once(Milliseconds(5));
    }
    return std::nullopt;
  }

  /// Everything that the monitor has to say; the door must hold.
  void expect_broken(const std::string& why) {
    EXPECT_TRUE(run_until([this] { return !broken_.empty(); }));
    ASSERT_FALSE(broken_.empty());
    EXPECT_EQ(broken_.front(), why);
    while (const auto message = receive()) EXPECT_TRUE(message->blob().empty());
  }

  ToMonitor about(std::uint32_t connection) {
    ToMonitor message;
    message.set_connection(connection);
    return message;
  }

  Nonce open(std::uint32_t connection) {
    ToMonitor message = about(connection);
    message.mutable_open();
    send(message);
    const auto answer = receive();
    Nonce nonce{};
    EXPECT_TRUE(answer && answer->has_nonce() && answer->connection() == connection);
    if (answer) std::copy_n(answer->nonce().nonce().begin(), nonce.size(), nonce.begin());
    return nonce;
  }

  ToMonitor proof(std::uint32_t connection, const ByteVector& transcript) {
    ToMonitor message = about(connection);
    message.mutable_proof()->set_transcript(transcript.data(), transcript.size());
    message.mutable_proof()->set_address("2001:db8::1");
    return message;
  }

  std::optional<ToNetworker> prove(std::uint32_t connection, const ByteVector& transcript) {
    send(proof(connection, transcript));
    return receive();
  }

  ByteVector transcript(const Nonce& nonce, const SigningKey& key, bool retry = false) {
    return sign(Handshake::normal(nonce, key, retry), key);
  }

  void told(const Client&, std::span<const Effect> effects) override {
    for (const auto& effect : effects) delivered_ += std::holds_alternative<GotSecret>(effect);
  }

  void stranger(const KeyId& key_id, const std::string& address) override {
    strangers_.emplace_back(key_id, address);
  }

  ToMonitor closed(std::uint32_t connection) {
    ToMonitor message = about(connection);
    message.mutable_closed();
    return message;
  }

  const Client& client(const std::string& name) { return registry_.find(name)->client; }
  /// clients.conf says `good` of that client, and nothing of others.
  void reload(const ClientSettings& good) { registry_.reload({{"good", good}}, merge); }

  UniqueFd networker_;
  std::unique_ptr<NetworkerDoor> monitor_;
  int delivered_ = 0;
  std::vector<std::pair<KeyId, std::string>> strangers_;
  std::vector<std::string> broken_;
  int alive_ = 0;
};

ToMonitor pong() {
  ToMonitor message;
  message.mutable_pong();
  return message;
}

TEST_F(NetworkerDoorTest, APongAnswersOnePing) {
  for (const bool greeted : {false, true}) {
    open_door(greeted);
    alive_ = 0;
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(monitor_->ask_alive());
      const auto ping = receive();
      EXPECT_TRUE(ping && ping->has_ping());
      send(pong());
      loop_.run_once(Milliseconds(10));
      EXPECT_TRUE(broken_.empty());
      EXPECT_EQ(alive_, 1);
    }
    send(pong());
    expect_broken("not allowed in this state");
  }
}

TEST_F(NetworkerDoorTest, OneThatHangsIsAskedOnceAndGivenUp) {
  // The first Ping may come while it starts.
  for (const int patience : {5, 3}) {
    for (int tick = 0; tick < patience; ++tick) EXPECT_TRUE(monitor_->ask_alive()) << tick;
    EXPECT_FALSE(monitor_->ask_alive());
    EXPECT_TRUE(receive());
    EXPECT_FALSE(receive());
    send(pong());
    loop_.run_once(Milliseconds(10));
  }
  EXPECT_TRUE(broken_.empty());
}

TEST_F(NetworkerDoorTest, APingDoesNotWaitBehindWhatIsNotRead) {
  open(1);
  // Nonces, until the socket is full.
  for (std::uint32_t number = 2; number < kMaxConnections; ++number) {
    for (int i = 0; i < 300; ++i) {
      ToMonitor message = about(number);
      message.mutable_open();
      send(message);
      message.mutable_closed();
      send(message);
      loop_.run_once(Milliseconds(0));
    }
  }
  ASSERT_TRUE(broken_.empty());
  EXPECT_TRUE(monitor_->ask_alive());
  int waiting = 0;
  std::array<char, 256> buffer{};
  while (recv(networker_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) ++waiting;
  EXPECT_LT(waiting, 1800);  // more are to come, and the Ping before them
  const auto next = receive();
  EXPECT_TRUE(next && next->has_ping());
}

TEST_F(NetworkerDoorTest, AProofEarnsTheSecretOnce) {
  for (const bool retry : {false, true}) {
    const auto answer = prove(1, transcript(open(1), good_key_, retry));
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->has_part() && answer->part().last());
    EXPECT_EQ(answer->blob(), kSecretText);
    ToMonitor closed = about(1);
    closed.mutable_closed()->set_delivered(true);
    send(closed);
  }
  EXPECT_FALSE(receive());
  EXPECT_TRUE(broken_.empty());
}

TEST_F(NetworkerDoorTest, EveryFlippedBitOfATranscriptIsRefused) {
  std::uint32_t connection = 0;
  const std::size_t size = transcript(Nonce{}, good_key_).size();
  // The door's own rate is part of the door: stay below it.
  for (std::size_t bit = 0; bit < size * 8; ++bit) {
    auto bytes = transcript(open(++connection), good_key_);
    ASSERT_EQ(bytes.size(), size);
    bytes[bit / 8] ^= static_cast<unsigned char>(1U << bit % 8);
    const auto answer = prove(connection, bytes);
    ASSERT_TRUE(answer && answer->has_refused()) << "bit " << bit;
    ASSERT_TRUE(answer->blob().empty());
    ToMonitor closed = about(connection);
    closed.mutable_closed();
    send(closed);
  }
  EXPECT_TRUE(broken_.empty());
}

TEST_F(NetworkerDoorTest, NoNonceButTheConnectionsOwn) {
  const Nonce first = open(1);
  const Nonce second = open(2);
  EXPECT_NE(first, second);
  auto answer = prove(2, transcript(first, good_key_));
  EXPECT_TRUE(answer && answer->has_refused());
  // And the one that it refused is used up, as is one that was made up.
  ToMonitor closed = about(2);
  closed.mutable_closed();
  send(closed);
  open(2);
  answer = prove(2, transcript(second, good_key_));
  EXPECT_TRUE(answer && answer->has_refused());
  answer = prove(1, transcript(Nonce{}, good_key_));
  EXPECT_TRUE(answer && answer->has_refused());
}

TEST_F(NetworkerDoorTest, AnAddressMayBeAnyBytes) {
  testing::internal::CaptureStderr();
  for (const std::string& address :
       {std::string("\xff\n\""), std::string(100, 'a'), std::string()}) {
    ToMonitor message = proof(1, transcript(open(1), good_key_));
    message.mutable_proof()->set_address(address);
    send(message);
    const auto answer = receive();
    EXPECT_TRUE(answer && answer->has_part());
    message = about(1);
    message.mutable_closed();
    send(message);
  }
  EXPECT_FALSE(receive());
  EXPECT_TRUE(broken_.empty());
  // A library that complains there would write past the log's limits.
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(NetworkerDoorTest, ANonceGrowsOld) {
  struct Case {
    std::chrono::seconds grace;
    std::chrono::seconds lifetime;
  };
  // A networker that was stopped for a minute finds its peers' nonces good, however short the
  // grace.
  for (const auto& [grace, lifetime] :
       {Case{std::chrono::seconds(1), std::chrono::seconds(75)},
        Case{std::chrono::seconds(60), std::chrono::seconds(300)}}) {
    open_door(true, static_cast<std::uint32_t>(Milliseconds(grace).count()));
    const Nonce first = open(1);
    const Nonce second = open(2);
    skipped += lifetime - std::chrono::seconds(30);
    auto answer = prove(1, transcript(first, good_key_));
    EXPECT_TRUE(answer && !answer->has_refused());
    skipped += std::chrono::seconds(31);
    answer = prove(2, transcript(second, good_key_));
    EXPECT_TRUE(answer && answer->has_refused());
  }
}

TEST_F(NetworkerDoorTest, OtherKeysGetNothing) {
  auto answer = prove(1, transcript(open(1), unknown_key_));
  EXPECT_TRUE(answer && answer->has_refused());
  answer = prove(2, transcript(open(2), disabled_key_));
  EXPECT_TRUE(answer && answer->has_refused());
  // Naming the good client's key, signing with another.
  SigningKey forged = unknown_key_;
  forged.public_key = good_key_.public_key;
  answer = prove(3, transcript(open(3), forged));
  EXPECT_TRUE(answer && answer->has_refused());
}

TEST_F(NetworkerDoorTest, AStrangerIsToldApartAndItsAddressIsCut) {
  ToMonitor message = proof(1, transcript(open(1), unknown_key_));
  message.mutable_proof()->set_address(std::string(100, 'a'));
  send(message);
  const auto answer = receive();
  EXPECT_TRUE(answer && answer->has_refused());
  const auto digest = mandos::test::hash_with(nettle_sha256, unknown_key_.public_key);
  ASSERT_EQ(strangers_.size(), 1U);
  EXPECT_TRUE(std::ranges::equal(strangers_[0].first.bytes, digest));
  EXPECT_EQ(strangers_[0].second, std::string(64, 'a'));
  // A key that is known and a proof that is none are told otherwise.
  open(2);
  prove(2, transcript(Nonce{}, good_key_));
  prove(3, transcript(open(3), good_key_));
  EXPECT_EQ(strangers_.size(), 1U);
}

TEST_F(NetworkerDoorTest, ASecondProofBreaksTheDoor) {
  prove(1, transcript(open(1), unknown_key_));
  ToMonitor again = about(1);
  again.mutable_proof()->set_transcript("x");
  send(again);
  expect_broken("not allowed in this state");
}

TEST_F(NetworkerDoorTest, NothingBeforeTheGreeting) {
  for (int kind = 0; kind < 4; ++kind) {
    open_door(false);
    ToMonitor message = about(1);
    if (kind == 0) message.mutable_open();
    if (kind == 1) message.mutable_proof();
    if (kind == 2) message.mutable_next_part();
    if (kind == 3) message.mutable_closed();
    send(message);
    expect_broken("not allowed in this state");
  }
}

// Every state of a connection and every message: what is allowed is a row of this table.
TEST_F(NetworkerDoorTest, EveryMessageInEveryState) {
  enum Kind { kGreeting, kOpen, kProof, kNextPart, kClosed, kDelivered, kKinds };
  enum State { kNone, kNonce, kWaiting, kSending, kSent, kRefused, kStates };
  const std::set<std::pair<State, Kind>> allowed = {
      {kNone, kOpen},        {kNonce, kProof},       {kNonce, kClosed},   {kNonce, kDelivered},
      {kWaiting, kClosed},   {kWaiting, kDelivered}, {kSending, kClosed}, {kSending, kDelivered},
      {kSending, kNextPart}, {kSent, kClosed},       {kSent, kDelivered}, {kRefused, kClosed},
      {kRefused, kDelivered}};
  const auto make = [this](Kind kind) {
    ToMonitor message = about(7);
    if (kind == kGreeting) message.mutable_greeting();
    if (kind == kOpen) message.mutable_open();
    if (kind == kProof) message.mutable_proof()->set_transcript("x");
    if (kind == kNextPart) message.mutable_next_part();
    if (kind >= kClosed) message.mutable_closed()->set_delivered(kind == kDelivered);
    return message;
  };
  ASSERT_TRUE(change("good", Set{Property::kExtendedTimeout, Milliseconds(360000000)}));
  for (int state = kNone; state < kStates; ++state) {
    const Milliseconds delay(state == kWaiting ? 3600000 : 0);
    ASSERT_TRUE(change("good", Set{Property::kApprovalDelay, delay}));
    // Of two parts, so that one is left.
    const std::string text(state == kSending ? 40000 : 10, 's');
    ASSERT_TRUE(change(
        "good", Set{Property::kSecret, SecretPtr(std::make_shared<const Secret>(as_bytes(text)))}));
    for (int kind = 0; kind < kKinds; ++kind) {
      SCOPED_TRACE(concat("state ", state, ", message ", kind));
      open_door(true);
      if (state != kNone) {
        const Nonce nonce = open(7);
        if (state == kWaiting) {
          send(proof(7, transcript(nonce, good_key_)));
          ASSERT_TRUE(run_until([&] { return client("good").approval_pending(); }));
        } else if (state != kNonce) {
          const auto answer =
              prove(7, transcript(nonce, state == kRefused ? unknown_key_ : good_key_));
          ASSERT_TRUE(answer);
          ASSERT_EQ(answer->has_refused(), state == kRefused);
          ASSERT_EQ(answer->part().last(), state == kSent);
        }
      }
      const auto expires = client("good").expires;
      send(make(static_cast<Kind>(kind)));
      if (allowed.contains({static_cast<State>(state), static_cast<Kind>(kind)})) {
        const auto answer = receive();
        EXPECT_TRUE(broken_.empty());
        EXPECT_EQ(answer.has_value(), kind < kClosed);
        EXPECT_EQ(answer && !answer->blob().empty(), state == kSending && kind == kNextPart);
      } else {
        expect_broken("not allowed in this state");
      }
      // Whatever was said: only what was sent to its end was delivered, and nobody waits who is
      // gone.
      const bool delivered = state == kSent && kind == kDelivered;
      EXPECT_EQ(client("good").expires != expires, delivered);
      EXPECT_EQ(client("good").approval_pending(),
                state == kWaiting && !(kind >= kClosed) && broken_.empty());
    }
  }
}

TEST_F(NetworkerDoorTest, WhileAnApprovalIsAwaitedOnlyAHangUpIsHeard) {
  ASSERT_TRUE(change("good", Set{Property::kApprovalDelay, Milliseconds(3600000)}));
  const auto await_approval = [this] {
    send(proof(7, transcript(open(7), good_key_)));
    ASSERT_TRUE(run_until([this] { return registry_.find("good")->client.approval_pending(); }));
  };
  for (const auto set : {+[](ToMonitor& message) { message.mutable_open(); },
                         +[](ToMonitor& message) { message.mutable_proof()->set_transcript("x"); },
                         +[](ToMonitor& message) { message.mutable_next_part(); },
                         +[](ToMonitor& message) { message.mutable_greeting(); }}) {
    open_door(true);
    await_approval();
    ToMonitor message = about(7);
    set(message);
    send(message);
    expect_broken("not allowed in this state");
  }
  open_door(true);
  await_approval();
  ToMonitor closed = about(7);
  closed.mutable_closed()->set_delivered(true);
  send(closed);
  EXPECT_TRUE(run_until([this] { return !registry_.find("good")->client.approval_pending(); }));
  EXPECT_TRUE(change("good", Approve{true}));
  EXPECT_FALSE(receive()) << "a secret for a connection that is over";
  EXPECT_TRUE(broken_.empty());
}

TEST_F(NetworkerDoorTest, WhilePartsAreLeftOnlyTheNextOneAndAHangUpAreHeard) {
  const SigningKey key = mandos::test::ed25519_key(9);
  add("big", key, true, std::string(100'000, 'b'));
  const auto take_first_part = [&] {
    const auto answer = prove(7, transcript(open(7), key));
    ASSERT_TRUE(answer && answer->has_part());
    EXPECT_FALSE(answer->part().last());
  };
  for (const auto set : {+[](ToMonitor& message) { message.mutable_open(); },
                         +[](ToMonitor& message) { message.mutable_proof()->set_transcript("x"); },
                         +[](ToMonitor& message) { message.mutable_greeting(); }}) {
    open_door(true);
    take_first_part();
    ToMonitor message = about(7);
    set(message);
    send(message);
    expect_broken("not allowed in this state");
  }
  // Nothing was delivered before the last part, whatever the networker says.
  open_door(true);
  take_first_part();
  EXPECT_EQ(delivered_, 0);
  ToMonitor closed = about(7);
  closed.mutable_closed()->set_delivered(true);
  send(closed);
  EXPECT_FALSE(receive());
  EXPECT_TRUE(broken_.empty());
  EXPECT_EQ(delivered_, 0);
}

TEST_F(NetworkerDoorTest, ASecretIsDeliveredWhenTheNetworkerSaysSoOfTheLastPart) {
  for (const bool said : {false, true}) {
    const auto answer = prove(7, transcript(open(7), good_key_));
    ASSERT_TRUE(answer && answer->has_part() && answer->part().last());
    EXPECT_EQ(delivered_, 0);
    ToMonitor closed = about(7);
    closed.mutable_closed()->set_delivered(said);
    send(closed);
    EXPECT_FALSE(receive());
    EXPECT_EQ(delivered_, said ? 1 : 0);
  }
}

TEST_F(NetworkerDoorTest, ADecisionReachesOnlyWhoWaitsForOne) {
  const auto secret = std::make_shared<const Secret>(as_bytes("a decision too many"));
  // Of no connection, of one without a proof, of one that was served, of one that was refused.
  open(1);
  ASSERT_TRUE(prove(2, transcript(open(2), good_key_)));
  ASSERT_TRUE(prove(3, transcript(open(3), unknown_key_)));
  for (const ConnectionId id : {4U, 1U, 2U, 3U}) {
    monitor_->grant(id, secret);
    monitor_->refuse(id);
    EXPECT_FALSE(receive()) << id;
  }
  EXPECT_TRUE(broken_.empty());
}

TEST_F(NetworkerDoorTest, EachNetworkerHasConnectionsOfItsOwn) {
  ASSERT_TRUE(change("good", Set{Property::kApprovalDelay, Milliseconds(3600000)}));
  send(proof(7, transcript(open(7), good_key_)));
  ASSERT_TRUE(run_until([this] { return registry_.find("good")->client.approval_pending(); }));
  // Another networker's connection of that number hangs up.
  auto pair = make_door();
  ASSERT_TRUE(pair);
  NetworkerDoor::Options options;
  options.index = 1;
  options.settings.set_max_connections(kMaxConnections);
  options.settings.set_login_grace_ms(10000);
  options.on_greeting = [](const std::string&) {};
  options.on_broken = [](const std::string& why) { ADD_FAILURE() << why; };
  const NetworkerDoor other(loop_, registry_, std::move(pair->first), options);
  ToMonitor message;
  message.mutable_greeting();
  ToMonitor opened = about(7);
  opened.mutable_open();
  const auto handshake = std::to_array({message, opened});
  for (const auto& each : handshake) {
    const std::string bytes = mandos::test::datagram_of({each});
    ASSERT_GT(::send(pair->second.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
  }
  std::string answer;
  ASSERT_TRUE(run_until([&] {
    std::array<char, 4096> buffer{};
    const ssize_t size = recv(pair->second.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    ToNetworker nonce;
    if (size <= 0 || !nonce.ParseFromArray(buffer.data(), static_cast<int>(size))) return false;
    answer = nonce.nonce().nonce();
    return nonce.has_nonce();
  }));
  Nonce nonce{};
  std::copy_n(answer.begin(), nonce.size(), nonce.begin());
  const std::string second = mandos::test::datagram_of({proof(7, transcript(nonce, good_key_))});
  ASSERT_GT(::send(pair->second.get(), second.data(), second.size(), MSG_NOSIGNAL), 0);
  ASSERT_TRUE(run_until([this] { return registry_.find("good")->client.waiting.size() == 2; }));
  ToMonitor closed = about(7);
  closed.mutable_closed();
  const std::string third = mandos::test::datagram_of({closed});
  ASSERT_GT(::send(pair->second.get(), third.data(), third.size(), MSG_NOSIGNAL), 0);
  ASSERT_TRUE(run_until([this] { return registry_.find("good")->client.waiting.size() == 1; }));
  EXPECT_EQ(NetworkerDoor::index_of(registry_.find("good")->client.waiting[0].connection), 0U);
}

TEST_F(NetworkerDoorTest, WhatIsNoMessageBreaksTheDoor) {
  for (const auto& bytes : {std::string("\xff\xff\xff\xff"), std::string("\x10\x00", 2)}) {
    open_door(true);
    send_bytes(bytes);  // the second parses, and holds no message
    expect_broken("not a datagram of this door");
  }
  open_door(true);
  send_bytes(std::string("\x0a\x02\xff\xff", 4));
  expect_broken("not a message of this door");
  open_door(true);
  send(about(7));  // a connection and no message
  expect_broken("a message that is not in the table");
}

TEST_F(NetworkerDoorTest, SeveralMessagesOfADatagramAreHeardInTheirOrder) {
  const auto answer = prove(1, transcript(open(1), good_key_));
  ASSERT_TRUE(answer && answer->has_part());
  ToMonitor closed = about(1);
  closed.mutable_closed()->set_delivered(true);
  ToMonitor next = about(1);  // a number that is free by then
  next.mutable_open();
  send_bytes(mandos::test::datagram_of({closed, proof(2, transcript(open(2), good_key_)), next}));
  const auto part = receive();
  EXPECT_TRUE(part && part->has_part() && part->connection() == 2);
  const auto nonce = receive();
  EXPECT_TRUE(nonce && nonce->has_nonce() && nonce->connection() == 1);
  EXPECT_TRUE(broken_.empty());
}

TEST_F(NetworkerDoorTest, NothingIsHeardAfterWhatBreaksTheDoor) {
  const Nonce nonce = open(1);
  ToMonitor wrong = about(7);
  wrong.mutable_next_part();
  send_bytes(mandos::test::datagram_of({wrong, proof(1, transcript(nonce, good_key_))}));
  send(proof(1, transcript(nonce, good_key_)));
  expect_broken("not allowed in this state");
  EXPECT_EQ(broken_.size(), 1U);
  ToMonitor more = about(9);
  more.mutable_open();
  send(more);
  EXPECT_FALSE(receive()) << "a nonce";
}

TEST_F(NetworkerDoorTest, ADatagramHoldsFewMessages) {
  std::vector<ToMonitor> messages;
  for (std::uint32_t number = 0; number < 5; ++number) {
    messages.push_back(about(number));
    messages.back().mutable_open();
  }
  send_bytes(mandos::test::datagram_of({messages.begin(), messages.end() - 1}));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(receive());
  EXPECT_TRUE(broken_.empty());
  open_door(true);
  send_bytes(mandos::test::datagram_of(messages));
  expect_broken("not a datagram of this door");
}

TEST_F(NetworkerDoorTest, WhatIsTooLongBreaksTheDoor) {
  open_door(false);
  ToMonitor message;
  message.mutable_greeting()->set_problem(std::string(1100, 'a'));
  send(message);
  expect_broken("longer than this message may be");
  for (const auto& [size, why] : {std::pair(4300, "longer than this message may be"),
                                  std::pair(5000, "a message longer than allowed")}) {
    open_door(true);
    open(1);
    message = about(1);
    message.mutable_proof()->set_transcript(std::string(static_cast<std::size_t>(size), 'a'));
    send(message);
    expect_broken(why);
  }
}

TEST_F(NetworkerDoorTest, MoreConnectionsThanAgreedBreakTheDoor) {
  constexpr std::uint32_t kAhead = 16;
  for (std::uint32_t number = 0; number < 3 * kMaxConnections + kAhead; ++number) open(number);
  ToMonitor message = about(1000);
  message.mutable_open();
  send(message);
  expect_broken("not allowed in this state");
}

TEST_F(NetworkerDoorTest, AFloodOfGreetingsOrClosedBreaksTheDoor) {
  for (int i = 0; i < 3; ++i) {
    ToMonitor greeting;
    greeting.mutable_greeting();
    if (broken_.empty()) send(greeting);
    loop_.run_once(Milliseconds(1));
  }
  expect_broken("not allowed in this state");
}

TEST_F(NetworkerDoorTest, AForeignDescriptorBreaksTheDoor) {
  ToMonitor message = about(1);
  message.mutable_open();
  const std::string bytes = mandos::test::datagram_of({message});
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = networker_.get();
  std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  ASSERT_GT(sendmsg(networker_.get(), &header, MSG_NOSIGNAL), 0);
  expect_broken("descriptors that nobody asked for");
}

TEST_F(NetworkerDoorTest, OneThatNeverReadsIsNotWaitedFor) {
  // Each Open is answered; the answers are bounded by the connections that may be open, so the
  // monitor neither blocks nor grows.
  std::uint32_t sent = 0;
  for (std::uint32_t round = 0; round < 20000 && broken_.empty(); ++round) {
    ToMonitor message = about(1);
    if (round % 2 == 0) {
      message.mutable_open();
    } else {
      message.mutable_closed();
    }
    const std::string bytes = mandos::test::datagram_of({message});
    if (::send(networker_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
      ++sent;
    }
    loop_.run_once(Milliseconds(0));
  }
  EXPECT_GT(sent, 1000U);
}

TEST_F(NetworkerDoorTest, ABigSecretComesInPartsOnDemand) {
  Registry::Entry entry;
  const SigningKey key = mandos::test::ed25519_key(9);
  std::string big;
  for (int i = 0; big.size() < (1 << 20); ++i) big += std::to_string(i);
  big.resize(1 << 20);
  entry.client.name = "big";
  auto& settings = test::own(entry.client);
  settings.key_id = KeyId{};
  const auto digest = mandos::test::hash_with(nettle_sha256, key.public_key);
  std::copy(digest.begin(), digest.end(), settings.key_id->bytes.begin());
  settings.secret = std::make_shared<const Secret>(as_bytes(big));
  registry_.add(std::move(entry));
  auto answer = prove(1, transcript(open(1), key));
  std::string whole;
  int parts = 0;
  while (answer && answer->has_part()) {
    whole += answer->blob();
    ++parts;
    EXPECT_LE(answer->blob().size(), 32U * 1024);
    if (answer->part().last()) break;
    EXPECT_FALSE(receive()) << "a part that nobody asked for";
    ToMonitor next = about(1);
    next.mutable_next_part();
    send(next);
    answer = receive();
  }
  EXPECT_EQ(parts, 32);
  EXPECT_TRUE(whole == big);
}

TEST_F(NetworkerDoorTest, ANewKeyEndsTheWaitOfWhoProvedTheOldOne) {
  ASSERT_TRUE(change("good", Set{Property::kApprovalDelay, Milliseconds(3600000)}));
  for (const bool has_key : {true, false}) {
    send(proof(1, transcript(open(1), good_key_)));
    ASSERT_TRUE(run_until([this] { return client("good").approval_pending(); }));
    ClientSettings file = *registry_.find("good")->file;
    const ClientSettings before = file;
    file.key_id.reset();
    if (has_key) file.key_id = KeyId{};
    file.secret = std::make_shared<const Secret>(as_bytes("for the new key"));
    reload(file);
    const auto answer = receive();
    EXPECT_TRUE(answer && answer->has_refused());
    ASSERT_TRUE(change("good", Approve{true}));
    EXPECT_FALSE(receive());
    send(closed(1));
    // The old key is a stranger's from now on.
    const auto again = prove(1, transcript(open(1), good_key_));
    EXPECT_TRUE(again && again->has_refused());
    send(closed(1));
    reload(before);
  }
}

TEST_F(NetworkerDoorTest, ASecretThatIsBeingSentIsRevoked) {
  enum Why { kNothing, kSameSecret, kDisabled, kNewKey, kNewSecret, kSecretOverTheBus, kRemoved };
  const auto secret = [](char byte) {
    return SecretPtr(std::make_shared<const Secret>(as_bytes(std::string(40000, byte))));
  };
  for (const Why why :
       {kNothing, kSameSecret, kDisabled, kNewKey, kNewSecret, kSecretOverTheBus, kRemoved}) {
    ASSERT_TRUE(change("good", Set{Property::kEnabled, true}));
    ASSERT_TRUE(change("good", Set{Property::kSecret, secret('s')}));
    ClientSettings file = test::in_force(registry_.find("good")->client);
    reload(file);
    auto answer = prove(1, transcript(open(1), good_key_));
    ASSERT_TRUE(answer && answer->has_part() && !answer->part().last());
    ClientSettings changed = file;
    if (why == kDisabled) change("good", Set{Property::kEnabled, false});
    if (why == kNewKey) changed.key_id = KeyId{};
    if (why == kSameSecret) changed.secret = secret('s');
    if (why == kNewSecret) changed.secret = secret('t');
    if (why == kSecretOverTheBus) change("good", Set{Property::kSecret, secret('t')});
    if (why == kRemoved) registry_.remove("good", [](const Status&) {});
    if (why == kSameSecret || why == kNewKey || why == kNewSecret) reload(changed);
    ToMonitor next = about(1);
    next.mutable_next_part();
    send(next);
    answer = receive();
    const bool goes_on = why == kNothing || why == kSameSecret;
    EXPECT_TRUE(answer && answer->has_part() == goes_on) << why;
    EXPECT_TRUE(answer && answer->has_refused() == !goes_on) << why;
    send(closed(1));
    if (why != kRemoved) reload(file);
  }
}

TEST_F(NetworkerDoorTest, DyingWhileAClientWaitsForgetsIt) {
  ASSERT_TRUE(change("good", Set{Property::kApprovalDelay, Milliseconds(3600000)}));
  const Nonce nonce = open(1);
  const auto bytes = transcript(nonce, good_key_);
  send(proof(1, bytes));
  ASSERT_TRUE(run_until([this] { return registry_.find("good")->client.approval_pending(); }));
  monitor_.reset();
  EXPECT_FALSE(registry_.find("good")->client.approval_pending());
  // An approval that comes too late reaches nobody.
  EXPECT_TRUE(change("good", Approve{true}));
}

TEST_F(NetworkerDoorTest, PolicyIsLookedAtAgainWhenAnApprovalIsReleased) {
  ASSERT_TRUE(change("good", Set{Property::kApprovalDelay, Milliseconds(3600000)}));
  const auto bytes = transcript(open(1), good_key_);
  send(proof(1, bytes));
  ASSERT_TRUE(run_until([this] { return registry_.find("good")->client.approval_pending(); }));
  ASSERT_TRUE(change("good", Set{Property::kEnabled, false}));
  ASSERT_TRUE(change("good", Approve{true}));
  const auto answer = receive();
  EXPECT_TRUE(answer && answer->has_refused());
  EXPECT_FALSE(receive());
}

}  // namespace
}  // namespace mandos::monitor::test
