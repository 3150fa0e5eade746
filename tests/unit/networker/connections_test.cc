// SPDX-License-Identifier: GPL-3.0-or-later
// All connections of a networker, over real sockets and on virtual time: this file defines the
// clock that they read, and plays the monitor and the peers.
#include "networker/connections.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/datagram.h"
#include "tests/support/log_lines.h"
#include "tests/support/virtual_clock.h"
#include "tests/unit/networker/peer.h"

#include "networker.pb.h"

namespace mandos::networker {
namespace {

using door::networker::ToMonitor;
using door::networker::ToNetworker;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr unsigned kThreshold = 20;
constexpr Milliseconds kGrace = seconds(15);
constexpr Milliseconds kPenalty = seconds(10);
constexpr char kHttp[] = "GET /health HTTP/1.1\r\nHost: mandos\r\n\r\n";

/// A peer on the other end of a TCP connection.
struct Client {
  UniqueFd fd;
  std::unique_ptr<test::Peer> tls;
  /// Ended by the server.
  bool closed = false;

  Client(UniqueFd socket, const test::KeyPair& key)
      : fd(std::move(socket)), tls(std::make_unique<test::Peer>(key, test::client_priority())) {}
  void say(std::string_view text) const {
    static_cast<void>(!send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
  }
  void read_all(bool answer) {
    std::string some(1 << 16, '\0');
    for (;;) {
      const ssize_t size = recv(fd.get(), some.data(), some.size(), MSG_DONTWAIT);
      if (size == 0 || (size < 0 && errno != EAGAIN)) closed = true;
      if (size <= 0) return;
      if (answer) say(tls->step(std::string_view(some.data(), static_cast<std::size_t>(size))));
    }
  }
};

class ConnectionsTest : public testing::Test {
 protected:
  ConnectionsTest() {
    auto door = make_door();
    monitor_ = std::move(door->second);
    door_.emplace(
        loop_, std::move(door->first), Channel::Limits{.receive = 65536, .queue = 1 << 24},
        [this](const Channel::Datagram& datagram) { from_monitor(datagram.bytes); },
        [](const std::string& why) { ADD_FAILURE() << why; });
    tls_ = *Tls::make(
        "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA");
    policy_.admission = {.connections = 200, .per_source = 64, .grace = kGrace};
    policy_.penalties = {.time = kPenalty, .threshold = kThreshold};
  }

  void start() {
    UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t size = sizeof address;
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(listen(listener.get(), 4096), 0);
    getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = address.sin_port;
    std::vector<UniqueFd> listeners;
    listeners.push_back(std::move(listener));
    connections_.emplace(loop_, log_.log(), *door_, *tls_, note_, policy_, std::move(listeners));
  }

  Client connect(const char* source, std::string_view text = {}) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, source, &address.sin_addr);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    address.sin_port = port_;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    Client client(std::move(fd), key_);
    client.say(text);
    return client;
  }

  void round() {
    loop_.run_once(Milliseconds(0));
    play_monitor();
  }
  void settle() {
    for (int i = 0; i < 30; ++i) round();
  }
  /// Rounds, each with a wait for what the kernel still has to carry.
  template <class Predicate>
  bool until(Predicate done) {
    for (int i = 0; i < 3000; ++i) {
      if (done()) return true;
      loop_.run_once(Milliseconds(1));
      play_monitor();
    }
    return false;
  }
  /// Time in which the networker runs.
  void pass(std::chrono::nanoseconds time) {
    const Instant end = virtual_now + time;
    while (virtual_now < end) {
      virtual_now = std::min<Instant>(end, virtual_now + EventLoop::kGap / 2);
      for (int i = 0; i < 3; ++i) round();
    }
    settle();
  }
  /// Time in which it does not.
  void stand_still(std::chrono::nanoseconds time) {
    virtual_now += time;
    settle();
  }

  void from_monitor(std::string_view bytes) {
    ToNetworker message;
    ASSERT_TRUE(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    if (message.has_nonce()) {
      ASSERT_TRUE(connections_->nonce(message.connection(), as_bytes(message.nonce().nonce())));
    } else if (message.has_part()) {
      ASSERT_TRUE(connections_->part(message.connection(), as_bytes(message.blob()),
                                     message.part().last()));
    } else {
      ASSERT_TRUE(connections_->refused(message.connection()));
    }
  }
  void play_monitor() {
    std::vector<char> buffer(1 << 18);
    for (;;) {
      const ssize_t size = recv(monitor_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size <= 0) return;
      const auto messages =
          test::messages_of(std::string_view(buffer.data(), static_cast<std::size_t>(size)));
      ASSERT_TRUE(messages);
      for (const auto& each : *messages) {
        if (each.has_open() || each.has_proof()) asked_.push_back(each);
        if (each.has_next_part()) ++next_parts_;
        if (each.has_closed()) (each.closed().delivered() ? delivered_ : undelivered_) += 1;
      }
      if (!holds_back_) answer();
    }
  }
  void answer() {
    for (const auto& each : std::exchange(asked_, {})) {
      ToNetworker message;
      message.set_connection(each.connection());
      if (each.has_open()) {
        message.mutable_nonce()->set_nonce(std::string(32, 'n'));
      } else if (refuses_) {
        message.mutable_refused();
      } else {
        message.mutable_part()->set_last(true);
        message.set_blob(blob_);
      }
      const std::string bytes = message.SerializeAsString();
      ASSERT_EQ(::send(monitor_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(bytes.size()));
    }
  }

  /// Whether a client from `source` gets its secret, all at one moment.
  bool is_served(const char* source) {
    Client client = connect(source, "1\r\n");
    return is_served(client);
  }
  bool is_served(Client& client) {
    return until([&] {
             client.read_all(true);
             return client.closed || client.tls->goodbye();
           }) &&
           client.tls->blob() == blob_;
  }
  bool ends(Client& client) {
    return until([&] {
      client.read_all(false);
      return client.closed;
    });
  }
  /// A peer says `text` and is closed for it, or was refused.
  void offend(const char* source, std::string_view text = kHttp) {
    Client client = connect(source, text);
    ASSERT_TRUE(ends(client));
  }

  /// A networker before this one did, while it handled `source`.
  void died_of(const char* source) {
    sockaddr_storage address{};
    sockaddr_in ipv4{};
    ipv4.sin_family = AF_INET;
    inet_pton(AF_INET, source, &ipv4.sin_addr);
    std::memcpy(&address, &ipv4, sizeof ipv4);
    CrashNote before(memory_.get());
    // Never destroyed, as in a process that dies.
    alignas(CrashNote::Handling) std::array<std::byte, sizeof(CrashNote::Handling)> room;
    new (room.data()) CrashNote::Handling(before, source_of(address));
  }

  std::vector<std::string> log_lines() { return log_.take(); }

  EventLoop loop_;
  UniqueFd monitor_;
  test::LogLines log_;
  std::optional<Door> door_;
  std::unique_ptr<Tls> tls_;
  UniqueFd memory_{memfd_create("crash note", MFD_CLOEXEC)};
  CrashNote note_{memory_.get()};
  Connections::Policy policy_;
  std::optional<Connections> connections_;
  in_port_t port_ = 0;
  test::KeyPair key_ = *test::generate_key("ed25519");
  std::string blob_ = "the blob";
  bool holds_back_ = false;
  bool refuses_ = false;
  std::vector<ToMonitor> asked_;
  int delivered_ = 0;
  int undelivered_ = 0;
  int next_parts_ = 0;
};

// ---------------------------------------------------------------- one bad peer, many good ones

TEST_F(ConnectionsTest, ABadPeerAtAnyBearableRateKeepsNobodyBehindItsAddressOut) {
  start();
  for (const auto pause : {milliseconds(9900), milliseconds(1000), milliseconds(250)}) {
    for (int i = 0; i < 50; ++i) {
      offend("127.4.0.1");
      pass(pause / 2);
      ASSERT_TRUE(is_served("127.4.0.1")) << i << " at " << pause.count() << " ms";
      pass(pause / 2);
    }
  }
  EXPECT_THAT(log_lines(), IsEmpty());
}

TEST_F(ConnectionsTest, HealthChecksThatOnlyConnectAreNoOffense) {
  policy_.penalties.threshold = 1;
  start();
  for (int i = 0; i < 200; ++i) connect("127.4.0.1");  // and closes at once
  settle();
  std::vector<Client> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(connect("127.4.0.1"));
  settle();
  pass(kGrace);
  for (auto& each : silent) EXPECT_TRUE(ends(each));
  EXPECT_TRUE(is_served("127.4.0.1"));
  EXPECT_THAT(log_lines(), IsEmpty());
}

TEST_F(ConnectionsTest, AFloodOfViolationsIsRefusedAndTheLogSaysSo) {
  start();
  for (unsigned i = 0; i < kThreshold - 1; ++i) offend("127.4.0.1");
  EXPECT_THAT(log_lines(), IsEmpty());
  EXPECT_TRUE(is_served("127.4.0.9"));
  offend("127.4.0.1");
  EXPECT_THAT(log_lines(), ElementsAre(AllOf(HasSubstr("4refusing 127.4.0.1 for 10 s"),
                                             HasSubstr("no version line that we understand"),
                                             HasSubstr("source_penalty_threshold"),
                                             HasSubstr("source_penalty_exempt"))));
  for (int i = 0; i < 30; ++i) EXPECT_FALSE(is_served("127.4.0.1"));
  EXPECT_TRUE(is_served("127.4.0.2"));
  EXPECT_THAT(log_lines(), ElementsAre(AllOf(HasSubstr("under a penalty"), HasSubstr("times: 1"),
                                             HasSubstr("127.4.0.1"))));
  pass(kPenalty);
  EXPECT_TRUE(is_served("127.4.0.1"));
  pass(seconds(60));
  EXPECT_THAT(log_lines(), ElementsAre(HasSubstr("times: 29")));
  pass(seconds(60));
  EXPECT_THAT(log_lines(), IsEmpty());
}

TEST_F(ConnectionsTest, ManyOffendersCannotFillTheLog) {
  policy_.penalties.threshold = 1;
  start();
  for (int i = 1; i <= 100; ++i) offend(concat("127.4.1.", i).c_str());
  auto logged = log_lines();
  ASSERT_THAT(logged, SizeIs(6));
  EXPECT_THAT(logged.back(), AllOf(HasSubstr("more sources are refused"), HasSubstr("times: 1")));
  // The number is told although nobody offends again.
  pass(seconds(60));
  EXPECT_THAT(log_lines(), ElementsAre(AllOf(HasSubstr("times: 94"), HasSubstr("127.4.1.100"))));
  pass(seconds(60));
  EXPECT_THAT(log_lines(), IsEmpty());
  offend("127.4.2.1");
  EXPECT_THAT(log_lines(), ElementsAre(HasSubstr("refusing 127.4.2.1")));
}

TEST_F(ConnectionsTest, EachViolationCounts) {
  policy_.penalties.threshold = 1;
  start();
  const std::string endless(300, 'x');
  // An alert of the peer, as of one that has no TLS 1.3 or no raw public key.
  const std::string alert("1\r\n\x15\x03\x03\x00\x02\x02\x46", 10);
  unsigned last = 0;
  for (const std::string& text : {std::string(kHttp), std::string("\x16\x03\x01\n"), endless,
                                  std::string("1\r\nthis is no TLS at all"), alert}) {
    const std::string source = concat("127.5.0.", ++last);
    offend(source.c_str(), text);
    EXPECT_FALSE(is_served(source.c_str())) << text;
  }
  refuses_ = true;  // an unknown key, or one of a disabled client
  EXPECT_FALSE(is_served("127.5.0.200"));
  refuses_ = false;
  EXPECT_TRUE(is_served("127.5.0.200"));
}

TEST_F(ConnectionsTest, AMissedDeadlineIsAQuarterOfAViolation) {
  policy_.penalties.threshold = 1;
  start();
  const auto stall = [this] {
    Client half_line = connect("127.4.0.1", "1");
    settle();
    pass(kGrace);
    return ends(half_line);
  };
  EXPECT_TRUE(stall());
  EXPECT_TRUE(is_served("127.4.0.1"));
  std::vector<Client> stalled;
  for (int i = 0; i < 4; ++i) stalled.push_back(connect("127.4.0.3", i % 2 == 0 ? "1" : "1\r\n"));
  settle();
  pass(kGrace);
  for (auto& each : stalled) EXPECT_TRUE(ends(each));
  EXPECT_FALSE(is_served("127.4.0.3"));
  EXPECT_THAT(log_lines(), testing::Contains(HasSubstr("no handshake within its time")));
}

TEST_F(ConnectionsTest, ExemptNetworksAreNeverRefused) {
  policy_.penalties.threshold = 1;
  policy_.exempt = Exemptions(
      {{.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 6, 0, 0}, .bits = 96 + 16}});
  start();
  for (int i = 0; i < 100; ++i) offend("127.6.0.1");
  EXPECT_TRUE(is_served("127.6.0.1"));
  EXPECT_THAT(log_lines(), IsEmpty());
  offend("127.7.0.1");
  EXPECT_FALSE(is_served("127.7.0.1"));
}

TEST_F(ConnectionsTest, WhereAKeyWasProvedAFloodDoesNotKeepOthersOut) {
  start();
  EXPECT_TRUE(is_served("127.4.0.1"));
  for (unsigned i = 0; i < kThreshold; ++i) offend("127.4.0.1");
  EXPECT_THAT(log_lines(), ElementsAre(HasSubstr("refusing 127.4.0.1")));
  for (int i = 0; i < Penalties::kAllowance; ++i) ASSERT_TRUE(is_served("127.4.0.1")) << i;
  EXPECT_FALSE(is_served("127.4.0.1")) << "the allowance has an end";
  pass(milliseconds(100));
  EXPECT_TRUE(is_served("127.4.0.1"));
}

TEST_F(ConnectionsTest, WhatAKeyWasProvedForOutlivesTheNetworker) {
  start();
  EXPECT_TRUE(is_served("127.4.0.1"));
  connections_.reset();
  start();
  for (unsigned i = 0; i < kThreshold; ++i) offend("127.4.0.1");
  for (unsigned i = 0; i < kThreshold; ++i) offend("127.4.0.2");
  EXPECT_THAT(log_lines(), SizeIs(2));
  EXPECT_TRUE(is_served("127.4.0.1"));
  EXPECT_FALSE(is_served("127.4.0.2"));
  // For as long as before.
  connections_.reset();
  virtual_now += Penalties::kProofRemembered;
  start();
  for (unsigned i = 0; i < kThreshold; ++i) offend("127.4.0.1");
  EXPECT_FALSE(is_served("127.4.0.1"));
}

TEST_F(ConnectionsTest, WhoseBytesANetworkerDiedOfIsRefused) {
  died_of("127.4.0.1");
  start();
  EXPECT_THAT(log_lines(), ElementsAre(AllOf(HasSubstr("died while it handled what 127.4.0.1 sent"),
                                             HasSubstr("refused for 10 s"))));
  EXPECT_FALSE(is_served("127.4.0.1"));
  EXPECT_TRUE(is_served("127.4.0.2"));
  pass(kPenalty);
  EXPECT_TRUE(is_served("127.4.0.1"));
}

TEST_F(ConnectionsTest, WhoseBytesANetworkerDiedOfIsOnlyNamedWhenExempt) {
  died_of("127.4.0.1");
  policy_.exempt =
      Exemptions({{.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127}, .bits = 96 + 8}});
  start();
  EXPECT_THAT(log_lines(), ElementsAre(AllOf(HasSubstr("died while it handled what 127.4.0.1 sent"),
                                             testing::Not(HasSubstr("refused")))));
  EXPECT_TRUE(is_served("127.4.0.1"));
}

TEST_F(ConnectionsTest, ASourceThatHasAllItsPlacesIsNamed) {
  policy_.admission.per_source = 2;
  start();
  std::vector<Client> silent;
  for (int i = 0; i < 5; ++i) silent.push_back(connect("127.4.0.1"));
  settle();
  EXPECT_THAT(log_lines(), ElementsAre(AllOf(HasSubstr("max_connections_per_source"),
                                             HasSubstr("times: 1, latest: 127.4.0.1"))));
  EXPECT_TRUE(is_served("127.4.0.2"));
  pass(seconds(60));
  EXPECT_THAT(log_lines(), ElementsAre(HasSubstr("times: 2, latest: 127.4.0.1")));
}

// ---------------------------------------------------------------- deadlines

TEST_F(ConnectionsTest, TheGraceTimeEndsWhoDoesNotAnswer) {
  start();
  Client silent = connect("127.4.0.1");
  Client spoke = connect("127.4.0.2", "1\r\n");
  settle();
  pass(kGrace - milliseconds(1));
  for (auto* each : {&silent, &spoke}) {
    each->read_all(false);
    EXPECT_FALSE(each->closed);
  }
  pass(milliseconds(1));
  EXPECT_TRUE(ends(silent));
  EXPECT_TRUE(ends(spoke));
}

/// A client that reads no more after its handshake: its blob is more than the kernel takes.
class NoReaderTest : public ConnectionsTest {
 protected:
  void fill(Client& reader) {
    blob_.assign(32768, 'b');
    // Its handshake, and then it reads no more: the blob is more than the kernel takes.
    holds_back_ = true;
    ASSERT_TRUE(until([&] {
      reader.read_all(true);
      if (!asked_.empty() && asked_.front().has_open()) answer();
      return !asked_.empty() && asked_.front().has_proof();
    }));
    for (int part = 0; part < 400; ++part) {
      ToNetworker message;
      message.set_connection(asked_.front().connection());
      message.mutable_part();
      message.set_blob(blob_);
      const std::string bytes = message.SerializeAsString();
      ASSERT_GT(::send(monitor_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
      std::vector<char> next(1 << 18);
      bool asked = false;
      for (int i = 0; i < 50 && !asked; ++i) {
        loop_.run_once(Milliseconds(1));
        asked = recv(monitor_.get(), next.data(), next.size(), MSG_DONTWAIT) > 0;
      }
      if (!asked) break;
      ASSERT_LT(part, 399) << "the kernel takes everything";
    }
  }
};

TEST_F(NoReaderTest, IsEndedAfterAMinute) {
  start();
  Client reader = connect("127.4.0.1", "1\r\n");
  fill(reader);
  pass(seconds(60) - milliseconds(1));
  EXPECT_EQ(undelivered_, 0);
  pass(milliseconds(1));
  pass(milliseconds(10));  // until the monitor hears of it
  EXPECT_EQ(undelivered_, 1);
}

TEST_F(NoReaderTest, IsNotEndedWhenItReadsAgain) {
  start();
  Client reader = connect("127.4.0.1", "1\r\n");
  fill(reader);
  pass(seconds(59));
  std::string some(1 << 20, '\0');
  bool asked = false;
  ASSERT_TRUE(until([&] {
    static_cast<void>(recv(reader.fd.get(), some.data(), some.size(), MSG_DONTWAIT));
    asked |= next_parts_ > 0;
    return asked;
  }));
  pass(seconds(120));
  EXPECT_EQ(undelivered_, 0);
}

TEST_F(NoReaderTest, IsNotEndedForTheTimeInWhichWeDidNotRun) {
  start();
  Client reader = connect("127.4.0.1", "1\r\n");
  fill(reader);
  pass(seconds(30));
  stand_still(std::chrono::hours(1));
  pass(seconds(60) - milliseconds(1));
  EXPECT_EQ(undelivered_, 0);
  pass(milliseconds(1));
  pass(milliseconds(10));  // until the monitor hears of it
  EXPECT_EQ(undelivered_, 1);
}

TEST_F(ConnectionsTest, WithoutDescriptorsItWaitsATenthOfASecond) {
  start();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd next(dup(0));  // the next that is free
  Client first = connect("127.4.0.1", "1\r\n");
  const rlimit none{static_cast<rlim_t>(next.get()), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  settle();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(log_lines(), ElementsAre(HasSubstr("no descriptor or memory")));
  pass(milliseconds(99));
  EXPECT_TRUE(asked_.empty() && delivered_ == 0);
  first.read_all(true);
  EXPECT_EQ(first.tls->blob(), "");
  virtual_now += milliseconds(1);
  EXPECT_TRUE(is_served(first));
}

TEST_F(ConnectionsTest, AMonitorThatIsBehindGetsNobodyNewAndIsLookedAtEveryTenMilliseconds) {
  start();
  settle();
  ToMonitor pong;
  pong.mutable_pong();
  door::networker::Datagram many;
  for (int i = 0; i < 100; ++i) many.add_messages(pong.SerializeAsString());
  while (door_->drained()) door_->send(many);
  Client first = connect("127.4.0.1", "1\r\n");
  for (int i = 0; i < 5; ++i) loop_.run_once(Milliseconds(0));  // and the monitor does nothing
  settle();
  EXPECT_TRUE(door_->drained());
  pass(milliseconds(9));
  first.read_all(true);
  EXPECT_EQ(first.tls->blob(), "");
  EXPECT_EQ(delivered_, 0);
  virtual_now += milliseconds(1);
  EXPECT_TRUE(is_served(first));
}

// ---------------------------------------------------------------- time that stops

class GapTest : public ConnectionsTest {
 protected:
  GapTest() {
    policy_.penalties.threshold = 1;
    policy_.admission.grace = seconds(1);
  }
};

TEST_F(GapTest, NobodyIsEndedOrPunishedForTheTimeInWhichWeDidNotRun) {
  start();
  for (const auto gap : std::initializer_list<std::chrono::nanoseconds>{seconds(3), seconds(90),
                                                                        std::chrono::hours(9)}) {
    Client silent = connect("127.4.0.1");
    Client half_line = connect("127.4.0.1", "1");
    Client greeted = connect("127.4.0.1", "1\r\n");  // our ClientHello lies in its socket
    settle();
    holds_back_ = true;
    Client unanswered = connect("127.4.0.1", "1\r\n");  // the monitor was asked for a nonce
    settle();
    stand_still(gap);
    // Nobody has said a word meanwhile: each has its time from now on.
    holds_back_ = false;
    answer();
    pass(milliseconds(999));
    half_line.say("\r\n");
    silent.say("1\r\n");
    for (auto* each : {&silent, &half_line, &greeted, &unanswered}) {
      EXPECT_TRUE(is_served(*each)) << gap.count();
    }
    EXPECT_THAT(log_lines(), IsEmpty());
  }
}

TEST_F(GapTest, AfterItTheTimeRunsAgain) {
  start();
  Client half_line = connect("127.4.0.1", "1");
  settle();
  stand_still(seconds(90));
  half_line.read_all(false);
  EXPECT_FALSE(half_line.closed);
  pass(seconds(1));
  EXPECT_TRUE(ends(half_line));
}

TEST_F(GapTest, WhoWaitsForASlowMonitorHasNoDeadline) {
  start();
  holds_back_ = true;
  Client client = connect("127.4.0.1", "1\r\n");
  settle();
  pass(seconds(200));
  answer();
  ASSERT_TRUE(until([&] {
    client.read_all(true);
    return !asked_.empty() && asked_.front().has_proof();
  }));
  pass(seconds(200));
  holds_back_ = false;
  answer();
  EXPECT_TRUE(is_served(client));
  EXPECT_THAT(log_lines(), IsEmpty());
}

}  // namespace
}  // namespace mandos::networker
