// SPDX-License-Identifier: GPL-3.0-or-later
// A bus-agent that was taken over, at the monitor's door. Whatever it does, it reads no secret.
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "monitor/doors/bus_agent.h"
#include "tests/support/client_settings.h"
#include "tests/support/monitor_fixture.h"
#include "tests/support/sanitized.h"

namespace mandos::monitor::test {
namespace {

using door::bus_agent::ToBusAgent;
using door::bus_agent::ToMonitor;

enum Kind { kGreeting, kSecretPart, kRequest, kWithdrawn, kPong, kKinds };

class BusAgentDoorTest : public MonitorFixture {
 protected:
  BusAgentDoorTest() { open_door(true); }

  void open_door(bool greet) {
    monitor_.reset();
    auto pair = make_door();
    EXPECT_TRUE(pair);
    agent_ = std::move(pair->second);
    broken_.clear();
    withdrawn_ = 0;
    monitor_ = std::make_unique<BusAgentDoor>(
        loop_, registry_, std::move(pair->first),
        BusAgentDoor::Options{
            .settings = {},
            .on_greeting = [] {},
            .on_withdrawn = [this] { ++withdrawn_; },
            .on_broken = [this](const std::string& why) { broken_.push_back(why); }});
    // Settings, both clients, Complete.
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(receive());
    if (greet) send(message_of(kGreeting));
  }

  static ToMonitor message_of(Kind kind) {
    ToMonitor message;
    if (kind == kGreeting) message.mutable_greeting();
    if (kind == kSecretPart) message.mutable_secret_part();
    if (kind == kSecretPart) message.set_part("part of a secret");
    if (kind == kRequest) message = request("good", 7);
    if (kind == kWithdrawn) message.mutable_withdrawn();
    if (kind == kPong) message.mutable_pong();
    return message;
  }
  static ToMonitor request(const std::string& name, std::uint64_t serial) {
    ToMonitor message;
    message.mutable_request()->set_name(name);
    message.mutable_request()->set_serial(serial);
    message.mutable_request()->set_enabled(true);
    return message;
  }

  void send_bytes(std::string_view bytes) {
    ASSERT_EQ(::send(agent_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void send(const ToMonitor& message) { send_bytes(message.SerializeAsString()); }

  /// The next message of the monitor, or nothing within a few rounds. None holds a secret.
  std::optional<ToBusAgent> receive() {
    std::vector<char> buffer(256 * 1024);
    for (int round = 0; round < 20; ++round) {
      const ssize_t size = recv(agent_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size > 0) {
        const std::string_view bytes(buffer.data(), static_cast<std::size_t>(size));
        for (const auto& secret : secrets_) EXPECT_EQ(bytes.find(secret), bytes.npos);
        ToBusAgent message;
        EXPECT_TRUE(message.ParseFromArray(buffer.data(), static_cast<int>(size)));
        return message;
      }
      loop_.run_once(Milliseconds(1));
    }
    return std::nullopt;
  }
  /// The error of the reply to the request `serial`; empty: done.
  std::string reply(std::uint64_t serial) {
    while (const auto message = receive()) {
      if (message->has_reply() && message->reply().serial() == serial) {
        return message->reply().error();
      }
    }
    return "no reply";
  }

  void expect_broken(const std::string& why) {
    EXPECT_TRUE(run_until([this] { return !broken_.empty(); }));
    ASSERT_FALSE(broken_.empty());
    EXPECT_EQ(broken_.front(), why);
    EXPECT_EQ(broken_.size(), 1U);
    while (receive()) {
    }
    expect_served_afresh();
  }
  /// The next bus-agent finds a monitor that works, with the same clients.
  void expect_served_afresh() {
    open_door(true);
    send(request("good", 99));
    EXPECT_EQ(reply(99), "");
    EXPECT_TRUE(broken_.empty());
  }

  // Under AddressSanitizer what was freed stays for a while: there the bound says nothing.
  static std::size_t resident_kib() {
#ifdef MANDOS_SANITIZED
    return 0;
#endif
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
      if (word == "VmRSS:") return status >> word, std::stoul(word);
    }
    return 0;
  }

  void told(const Client& client, std::span<const Effect> effects) override {
    if (wired_) monitor_->effects(client, effects);
  }

  bool wired_ = false;  // what happens to clients is told to the bus-agent
  std::vector<std::string> secrets_{kSecretText};
  UniqueFd agent_;
  std::unique_ptr<BusAgentDoor> monitor_;
  std::vector<std::string> broken_;
  int withdrawn_ = 0;
};

TEST_F(BusAgentDoorTest, APongAnswersOnePing) {
  // The first Ping may come while it starts.
  for (const int patience : {5, 3}) {
    for (int tick = 0; tick < patience; ++tick) EXPECT_TRUE(monitor_->ask_alive()) << tick;
    EXPECT_FALSE(monitor_->ask_alive());
    const auto ping = receive();
    EXPECT_TRUE(ping && ping->has_ping());
    send(message_of(kPong));
    loop_.run_once(Milliseconds(10));
    EXPECT_TRUE(broken_.empty());
  }
  send(message_of(kPong));
  expect_broken("not allowed in this state");
}

TEST_F(BusAgentDoorTest, NothingBeforeTheGreeting) {
  for (const Kind kind : {kSecretPart, kRequest, kWithdrawn, kPong}) {
    open_door(false);
    send(message_of(kind));
    expect_broken("not allowed in this state");
  }
}

TEST_F(BusAgentDoorTest, OneGreetingAndNoMore) {
  send(message_of(kGreeting));
  expect_broken("not allowed in this state");
}

// It ends the server.
TEST_F(BusAgentDoorTest, AnAnnouncementIsWithdrawnOnlyWhenAskedFor) {
  send(message_of(kWithdrawn));
  expect_broken("not allowed in this state");
  EXPECT_EQ(withdrawn_, 0);
  open_door(true);
  ASSERT_FALSE(receive());
  monitor_->withdraw();
  send(message_of(kSecretPart));
  send(message_of(kRequest));
  EXPECT_EQ(reply(7), "");
  send(message_of(kWithdrawn));
  EXPECT_TRUE(run_until([this] { return withdrawn_ == 1; }));
  EXPECT_TRUE(broken_.empty());
}

TEST_F(BusAgentDoorTest, WhatIsNoMessageBreaksTheDoor) {
  send_bytes("\xff\xff\xff\xff");
  expect_broken("not a message of this door");
  open_door(true);
  send_bytes("\x7a\x01x");  // a part and no message
  expect_broken("a message that is not in the table");
}

TEST_F(BusAgentDoorTest, HalfMessagesDoNoHarm) {
  ToMonitor whole = request("good", 1);
  whole.mutable_request()->set_host("a host");
  const std::string bytes = whole.SerializeAsString();
  for (std::size_t size = 1; size < bytes.size(); ++size) {
    open_door(true);
    send_bytes(std::string_view(bytes).substr(0, size));
    receive();
    for (const auto& why : broken_) EXPECT_EQ(why, "not a message of this door");
    EXPECT_NE(registry_.find("good")->client.settings->host, "a host");
  }
  expect_served_afresh();
}

TEST_F(BusAgentDoorTest, WhatIsTooLongBreaksTheDoor) {
  constexpr std::array<std::size_t, kKinds> kMost = {16, 32 * 1024 + 16, 64 * 1024 + 4096, 16, 16};
  for (int kind = 0; kind < kKinds; ++kind) {
    open_door(kind != kGreeting);
    ToMonitor message = message_of(static_cast<Kind>(kind));
    message.set_part(std::string(kMost.at(static_cast<std::size_t>(kind)), 'x'));
    send(message);
    expect_broken(kind == kRequest ? "a message longer than allowed"
                                   : "longer than this message may be");
  }
}

TEST_F(BusAgentDoorTest, AForeignDescriptorBreaksTheDoor) {
  const std::string bytes = message_of(kRequest).SerializeAsString();
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
  const int fd = agent_.get();
  std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  ASSERT_GT(sendmsg(agent_.get(), &header, MSG_NOSIGNAL), 0);
  expect_broken("descriptors that nobody asked for");
}

TEST_F(BusAgentDoorTest, EveryChangeOfAClientThatIsNotThereIsAnError) {
  using Request = ToMonitor::Request;
  const std::vector<std::function<void(Request&)>> changes{
      [](Request& r) { r.set_approval_delay(~0ULL); },
      [](Request& r) { r.set_approval_duration(1); },
      [](Request& r) { r.set_extended_timeout(1); },
      [](Request& r) { r.set_interval(1); },
      [](Request& r) { r.set_timeout(~0ULL); },
      [](Request& r) { r.set_approved_by_default(true); },
      [](Request& r) { r.set_checker_running(true); },
      [](Request& r) { r.set_enabled(false); },
      [](Request& r) { r.set_checker("%(x"); },
      [](Request& r) { r.set_host(std::string(64 * 1024, '\n')); },
      [](Request& r) { r.set_secret(true); },
      [](Request& r) { r.set_approve(true); },
      [](Request& r) { r.set_checked_ok(true); },
      [](Request& r) { r.set_remove(true); },
      [](Request&) {}};
  std::uint64_t serial = 0;
  for (const std::string& name : {std::string("nobody"), std::string(), std::string(60000, 'x'),
                                  std::string("good\0", 5), std::string("../good")}) {
    for (const auto& change : changes) {
      ToMonitor message = request(name, ++serial);
      message.mutable_request()->clear_change();
      change(*message.mutable_request());
      if (message.ByteSizeLong() > 64 * 1024 + 4096) continue;
      send(message);
      const std::string error = reply(serial);
      EXPECT_NE(error, "");
      EXPECT_NE(error, "no reply");
    }
  }
  EXPECT_TRUE(broken_.empty());
  EXPECT_NE(registry_.find("good"), nullptr);
}

TEST_F(BusAgentDoorTest, DurationsBeyondReasonAreRefused) {
  for (const std::uint64_t value : {~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    ToMonitor message = request("good", value);
    message.mutable_request()->set_timeout(value);
    send(message);
    EXPECT_EQ(reply(value), "longer than 90 years");
  }
}

TEST_F(BusAgentDoorTest, EveryChangeDoesWhatItSaysAndNothingElse) {
  using Request = ToMonitor::Request;
  struct Case {
    const char* name;
    std::function<void(Request&)> fill;
    std::function<void(ClientSettings&)> expected;
  };
  using std::chrono::hours;
  const auto ms = [](auto duration) {
    return static_cast<std::uint64_t>(Milliseconds(duration).count());
  };
  const std::vector<Case> cases{
      {"timeout", [&](Request& r) { r.set_timeout(ms(hours(31))); },
       [](ClientSettings& s) { s.timeout = hours(31); }},
      {"extended_timeout", [&](Request& r) { r.set_extended_timeout(ms(hours(32))); },
       [](ClientSettings& s) { s.extended_timeout = hours(32); }},
      {"interval", [&](Request& r) { r.set_interval(ms(hours(33))); },
       [](ClientSettings& s) { s.interval = hours(33); }},
      {"approval_delay", [&](Request& r) { r.set_approval_delay(ms(hours(34))); },
       [](ClientSettings& s) { s.approval_delay = hours(34); }},
      {"approval_duration", [&](Request& r) { r.set_approval_duration(ms(hours(35))); },
       [](ClientSettings& s) { s.approval_duration = hours(35); }},
      {"approved_by_default", [](Request& r) { r.set_approved_by_default(false); },
       [](ClientSettings& s) { s.approved_by_default = false; }},
      {"host", [](Request& r) { r.set_host("new host"); },
       [](ClientSettings& s) { s.host = "new host"; }},
      {"checker", [](Request& r) { r.set_checker("new checker"); },
       [](ClientSettings& s) { s.checker = "new checker"; }},
      {"disabled", [](Request& r) { r.set_enabled(false); },
       [](ClientSettings& s) { s.enabled = false; }},
      {"enabled", [](Request& r) { r.set_enabled(true); },
       [](ClientSettings& s) { s.enabled = true; }},
  };
  std::uint64_t serial = 100;
  for (const auto& each : cases) {
    ClientSettings expected = test::in_force(registry_.find("good")->client);
    each.expected(expected);
    ToMonitor message = request("good", ++serial);
    each.fill(*message.mutable_request());
    send(message);
    EXPECT_EQ(reply(serial), "") << each.name;
    EXPECT_TRUE(same_settings(test::in_force(registry_.find("good")->client), expected))
        << each.name;
    EXPECT_FALSE(registry_.find("disabled")->client.enabled()) << each.name;
  }
}

TEST_F(BusAgentDoorTest, DecisionsAndChecksReachTheClient) {
  const Client& good = registry_.find("good")->client;
  std::uint64_t serial = 100;
  const auto ask = [&](const std::function<void(ToMonitor::Request&)>& fill) {
    ToMonitor message = request("good", ++serial);
    fill(*message.mutable_request());
    send(message);
    EXPECT_EQ(reply(serial), "");
  };
  for (const bool approved : {true, false}) {
    ask([approved](auto& r) { r.set_approve(approved); });
    ASSERT_TRUE(good.decision);
    EXPECT_EQ(good.decision->approved, approved);
  }
  EXPECT_FALSE(good.last_checked_ok);
  ask([](auto& r) { r.set_checked_ok(true); });
  EXPECT_TRUE(good.last_checked_ok);
  ask([](auto& r) { r.set_checker_running(true); });
  EXPECT_TRUE(good.checker_running());
  ask([](auto& r) { r.set_checker_running(false); });
  EXPECT_FALSE(good.checker_running());
  ask([](auto& r) { r.set_remove(true); });
  EXPECT_EQ(registry_.find("good"), nullptr);
}

TEST_F(BusAgentDoorTest, WhoAskedIsLoggedAsTheAgentsClaimEscapedAndCut) {
  auto pair = make_door();
  ASSERT_TRUE(pair);
  Log log = Log::to_socket(pair->first.get(), LogLevel::kCritical);
  Registry registry(loop_, log, disk_, outlets_);
  Registry::Entry entry;
  entry.client.name = "a\nforged";
  registry.add(std::move(entry));
  auto door = make_door();
  ASSERT_TRUE(door);
  agent_ = std::move(door->second);
  monitor_ = std::make_unique<BusAgentDoor>(
      loop_, registry, std::move(door->first),
      BusAgentDoor::Options{.settings = {},
                            .on_greeting = [] {},
                            .on_withdrawn = [] {},
                            .on_broken = [](const std::string& why) { ADD_FAILURE() << why; }});
  send(message_of(kGreeting));
  const std::string long_text(1000, 'x');
  ToMonitor message = request("a\nforged", 7);
  message.mutable_request()->set_who("user \"r\"\n(0), process 4711" + long_text);
  message.mutable_request()->set_host(long_text);
  send(message);
  reply(7);
  std::array<char, 2048> line{};
  const ssize_t size = recv(pair->second.get(), line.data(), line.size(), MSG_DONTWAIT);
  ASSERT_GT(size, 0);
  const std::string text(line.data(), static_cast<std::size_t>(size));
  EXPECT_TRUE(
      text.starts_with("6audit: event=changed client=\"a\\x0aforged\" by=\"bus-agent: user "
                       "\\x22r\\x22\\x0a(0), process 4711xxx"))
      << text;
  EXPECT_NE(text.find("\" setting=host from=\"\" to=\"xxx"), text.npos) << text;
  EXPECT_LT(text.size(), 500);
  monitor_.reset();
}

TEST_F(BusAgentDoorTest, ARefusalIsToldBeforeWhatItChangesAndTheRestAfter) {
  const Client& good = registry_.find("good")->client;
  const std::vector<Effect> effects{Decided{1, Verdict::kDenied}, GotSecret{},
                                    Changed{Properties().set()}};
  monitor_->effects(good, effects);
  auto message = receive();
  ASSERT_TRUE(message && message->has_signal());
  EXPECT_EQ(message->signal().rejected(), "Denied");
  message = receive();
  EXPECT_TRUE(message && message->has_changed());
  message = receive();
  ASSERT_TRUE(message && message->has_signal());
  EXPECT_TRUE(message->signal().got_secret());
}

#ifndef MANDOS_SANITIZED  // which has memory that cannot be read, and quarantines what is freed
TEST_F(BusAgentDoorTest, ANewSecretLeavesNoTraceOutsideSecretMemory) {
  // Never whole in this process but in the pieces that are looked for: "secret of NUMBER".
  const auto spoiled = [](std::string text) {
    for (char& c : text) c = static_cast<char>(c ^ 0x55);
    return text;
  };
  const std::string hidden = spoiled("a secret that must not stay anywhere");
  {
    // As the kernel hands it over, wiped here at once.
    ToMonitor message;
    message.mutable_secret_part();
    std::string bytes = message.SerializeAsString();
    std::string part = spoiled(hidden);
    const auto field = static_cast<char>(ToMonitor::kPartFieldNumber << 3 | 2);
    std::string datagram(bytes);
    datagram += field;
    datagram += static_cast<char>(part.size());
    datagram.reserve(datagram.size() + part.size());
    datagram += part;
    send_bytes(datagram);
    explicit_bzero(part.data(), part.size());
    explicit_bzero(datagram.data(), datagram.size());
  }
  ToMonitor message = request("good", 3);
  message.mutable_request()->set_secret(true);
  send(message);
  EXPECT_EQ(reply(3), "");
  const auto held = registry_.find("good")->client.settings->secret->bytes();
  EXPECT_EQ(held.size(), hidden.size());
  const auto* const home = reinterpret_cast<const char*>(held.data());
  // Its end, since what is read next overwrites its beginning.
  constexpr std::size_t kTail = 16;
  std::size_t traces = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0;
    unsigned long end = 0;
    char writable = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx r%c", &begin, &end, &writable) != 3 || writable != 'w') {
      continue;
    }
    const auto* const first = reinterpret_cast<const char*>(begin);
    const auto* const last = reinterpret_cast<const char*>(end);
    if (line.find("[vvar]") != line.npos || (first <= home && home < last)) continue;
    for (const char* at = first; at + kTail <= last; ++at) {
      std::size_t same = 0;
      const std::size_t from = hidden.size() - kTail;
      while (same < kTail && at[same] == static_cast<char>(hidden[from + same] ^ 0x55)) ++same;
      traces += same == kTail ? 1 : 0;
    }
  }
  EXPECT_EQ(traces, 0U);
}
#endif

TEST_F(BusAgentDoorTest, AFloodOfRequestsBreaksTheDoor) {
  const std::string bytes = request("nobody", 1).SerializeAsString();
  const Instant begin = BootClock::now();
  int answered = 0;
  for (int i = 0; i < 60000 && broken_.empty(); ++i) {
    // As many as the monitor takes in a round.
    for (int each = 0; each < 16; ++each) {
      static_cast<void>(::send(agent_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT));
    }
    loop_.run_once(Milliseconds(0));
    std::array<char, 4096> answer{};
    while (recv(agent_.get(), answer.data(), answer.size(), MSG_DONTWAIT) > 0) ++answered;
  }
  // Of SECURITY.md, and twice as many at once.
  const std::chrono::duration<double> took = BootClock::now() - begin;
  EXPECT_LE(answered, 5000 * (2 + took.count()));
  expect_broken("more often than allowed");
}

TEST_F(BusAgentDoorTest, ASecretWithoutEndTakesNoMoreMemoryThanOneMayHave) {
  const std::size_t before = resident_kib();
  ToMonitor message;
  message.mutable_secret_part();
  message.set_part(std::string(32 * 1024, 's'));
  for (int i = 0; i < 3000; ++i) {  // some 94 MiB
    send(message);
    loop_.run_once(Milliseconds(0));
  }
  EXPECT_LT(resident_kib(), before + 16 * 1024) << "while it is held";
  message = request("good", 5);
  message.mutable_request()->set_secret(true);
  send(message);
  EXPECT_EQ(reply(5), "a secret longer than 1 MiB");
  EXPECT_TRUE(broken_.empty());
  EXPECT_LT(resident_kib(), before + 16 * 1024);
}

TEST_F(BusAgentDoorTest, ANewSecretGoesInAndNeverOut) {
  secrets_.emplace_back("the new secret of the good client");
  ToMonitor message;
  message.mutable_secret_part();
  message.set_part(secrets_.back().substr(0, 9));
  send(message);
  message.set_part(secrets_.back().substr(9));
  send(message);
  message = request("good", 1);
  message.mutable_request()->set_secret(true);
  send(message);
  EXPECT_EQ(reply(1), "");
  const auto bytes = registry_.find("good")->client.settings->secret->bytes();
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), secrets_.back());
  // What is told of a client, and again to the next bus-agent: receive() looks at each message.
  monitor_->added(registry_.find("good")->client);
  EXPECT_TRUE(receive());
  const std::vector<Effect> effects{Changed{Properties().set()}, GotSecret{}};
  monitor_->effects(registry_.find("good")->client, effects);
  const auto changed = receive();
  ASSERT_TRUE(changed && changed->has_changed());
  EXPECT_TRUE(changed->changed().secret());
  EXPECT_TRUE(receive());
  expect_served_afresh();
}

// Of a secret its form is told, which the lengths in it say, and nothing else.
TEST_F(BusAgentDoorTest, TheFormOfASecretIsToldWithTheClientAndWithEachNewSecret) {
  const std::string whole = std::string("\x8c\x0d\x04\x09\x03\x02", 6) + std::string(8, 'x') +
                            "\xff\xd2\x0a\x01" + std::string(9, 'y');
  const Client& good = registry_.find("good")->client;
  std::uint64_t serial = 0;
  for (const auto& [secret, form] :
       {std::pair(whole, 0U), {whole.substr(0, whole.size() - 1), 1U}, {"a password", 2U}}) {
    ToMonitor message;
    message.mutable_secret_part();
    message.set_part(secret);
    send(message);
    message = request("good", ++serial);
    message.mutable_request()->set_secret(true);
    send(message);
    EXPECT_EQ(reply(serial), "");
    monitor_->added(good);
    auto told = receive();
    ASSERT_TRUE(told && told->has_added());
    EXPECT_EQ(told->added().secret_form(), form);
    const std::vector<Effect> changed{
        Changed{Properties().set(static_cast<std::size_t>(Property::kSecret))}};
    monitor_->effects(good, changed);
    told = receive();
    ASSERT_TRUE(told && told->has_changed());
    EXPECT_TRUE(told->changed().has_secret_form());
    EXPECT_EQ(told->changed().secret_form(), form);
    // Nothing of it goes with another change.
    const std::vector<Effect> other{
        Changed{Properties().set(static_cast<std::size_t>(Property::kHost))}};
    monitor_->effects(good, other);
    told = receive();
    ASSERT_TRUE(told && told->has_changed());
    EXPECT_FALSE(told->changed().has_secret_form());
  }
}

TEST_F(BusAgentDoorTest, RestartsAreTold) {
  google::protobuf::RepeatedField<std::uint32_t> counts;
  for (const std::uint32_t count : {3U, 2U, 1U, 0U}) counts.Add(count);
  monitor_->restarts(counts);
  const auto told = receive();
  ASSERT_TRUE(told && told->has_restarts());
  EXPECT_EQ(std::vector<std::uint32_t>(told->restarts().counts().begin(),
                                       told->restarts().counts().end()),
            (std::vector<std::uint32_t>{3, 2, 1, 0}));
}

TEST_F(BusAgentDoorTest, ASecretIsGoodForOneRequest) {
  send(message_of(kSecretPart));
  ToMonitor message = request("disabled", 1);
  message.mutable_request()->set_secret(true);
  send(message);
  EXPECT_EQ(reply(1), "");
  EXPECT_EQ(registry_.find("disabled")->client.settings->secret->bytes().size(),
            message_of(kSecretPart).part().size());
  // Nothing of it is left for another, nor after a request that was for something else.
  send(message_of(kSecretPart));
  send(request("good", 2));
  EXPECT_EQ(reply(2), "");
  message = request("good", 3);
  message.mutable_request()->set_secret(true);
  send(message);
  reply(3);
  EXPECT_EQ(registry_.find("good")->client.settings->secret->bytes().size(), 0U);
}

TEST_F(BusAgentDoorTest, DyingWithHalfASecretLeavesNothingOfIt) {
  send(message_of(kSecretPart));
  loop_.run_once(Milliseconds(1));
  agent_.reset();
  EXPECT_TRUE(run_until([this] { return !broken_.empty(); }));
  EXPECT_EQ(broken_.front(), "closed by the peer");
  open_door(true);
  ToMonitor message = request("good", 1);
  message.mutable_request()->set_secret(true);
  send(message);
  reply(1);
  for (const unsigned char byte : registry_.find("good")->client.settings->secret->bytes()) {
    ADD_FAILURE() << "a byte of the last one: " << byte;
  }
}

TEST_F(BusAgentDoorTest, DyingAtAnyPointLeavesTheOthersAlone) {
  for (int point = 0; point < kKinds + 1; ++point) {
    open_door(point > 0);
    for (int kind = kSecretPart; kind < point; ++kind) send(message_of(static_cast<Kind>(kind)));
    agent_.reset();
    EXPECT_TRUE(run_until([this] { return !broken_.empty(); }));
    monitor_.reset();
    EXPECT_TRUE(change("good", Set{Property::kHost, std::string("other")}));
    expect_served_afresh();
  }
}

// A disk that hangs keeps every answer back.
TEST_F(BusAgentDoorTest, SoManyRequestsMayBeUnansweredAndNoMore) {
  disk_.automatic = false;
  for (std::uint64_t serial = 1; serial <= 128; ++serial) {
    ToMonitor message = request("good", serial);
    message.mutable_request()->set_host("host " + std::to_string(serial));
    send(message);
    loop_.run_once(Milliseconds(1));
  }
  EXPECT_TRUE(broken_.empty());
  // All of them are answered when it goes on, and as many may follow.
  disk_.automatic = true;
  disk_.finish();
  for (std::uint64_t serial = 1; serial <= 128; ++serial) EXPECT_EQ(reply(serial), "") << serial;
  disk_.automatic = false;
  for (std::uint64_t serial = 1; serial <= 129; ++serial) {
    ToMonitor message = request("good", serial);
    message.mutable_request()->set_host("host " + std::to_string(serial) + " again");
    send(message);
    loop_.run_once(Milliseconds(1));
  }
  EXPECT_TRUE(run_until([this] { return !broken_.empty(); }));
  ASSERT_EQ(broken_, std::vector<std::string>{"not allowed in this state"});
  EXPECT_EQ(registry_.find("good")->client.settings->host, "host 128 again");
  // Neither that disk nor its late answers concern the next bus-agent.
  open_door(true);
  disk_.automatic = true;
  disk_.finish();
  send(request("good", 99));
  EXPECT_EQ(reply(99), "");
  EXPECT_TRUE(broken_.empty());
}

TEST_F(BusAgentDoorTest, AThousandClientsWithLongTextsAreToldAsTheAgentReads) {
  const std::string text(64 * 1024, 'x');
  for (int i = 0; i < 1000; ++i) {
    Registry::Entry entry;
    entry.client.name = "client " + std::to_string(i);
    auto& settings = test::own(entry.client);
    settings.host = settings.checker = text;
    registry_.add(std::move(entry));
  }
  monitor_.reset();
  auto pair = make_door();
  ASSERT_TRUE(pair);
  agent_ = std::move(pair->second);
  monitor_ = std::make_unique<BusAgentDoor>(
      loop_, registry_, std::move(pair->first),
      BusAgentDoor::Options{
          .settings = {},
          .on_greeting = [] {},
          .on_withdrawn = [] {},
          .on_broken = [this](const std::string& why) { broken_.push_back(why); }});
  wired_ = true;
  EXPECT_TRUE(monitor_->ask_alive());
  std::set<std::string> added;
  std::optional<ToBusAgent> message;
  for (message = receive(); message && !message->has_complete(); message = receive()) {
    if (!message->has_added()) continue;
    EXPECT_TRUE(added.insert(message->added().name()).second);
    if (message->added().name().starts_with("client")) {
      EXPECT_EQ(message->added().checker(), text);
    }
    // What changes meanwhile is told of those that are on the bus, and of the others with the rest.
    if (added.size() == 10) {
      EXPECT_TRUE(change("client 0", Set{Property::kHost, std::string("first")}));
      EXPECT_TRUE(change("client 999", Set{Property::kHost, std::string("last")}));
      registry_.remove("client 500", [](const Status&) {});
    }
  }
  ASSERT_TRUE(message) << added.size();
  EXPECT_EQ(added.size(), 1001U);
  EXPECT_FALSE(added.contains("client 500"));
  // All change at once while it does not read: of each, what it is in the end.
  std::map<std::string, std::string> hosts;
  for (const char* word : {"one", "three"}) {
    for (const auto& name : added) {
      registry_.change(name, Set{Property::kHost, word + text.substr(10)}, [](const Status&) {});
      registry_.change(name, Set{Property::kCheckerRunning, true}, [](const Status&) {});
    }
  }
  while ((message = receive())) {
    if (message->has_changed() && message->changed().has_host()) {
      hosts[message->changed().name()] = message->changed().host().substr(0, 5);
    }
  }
  EXPECT_EQ(hosts.size(), added.size());
  for (const auto& [name, host] : hosts) EXPECT_EQ(host, "three") << name;
  EXPECT_TRUE(broken_.empty());
}

TEST_F(BusAgentDoorTest, OneThatNeverReadsIsGivenUp) {
  const std::size_t before = resident_kib();
  ASSERT_TRUE(change("good", Set{Property::kHost, std::string(60000, 'x')}));
  ASSERT_TRUE(change("good", Set{Property::kChecker, std::string(60000, 'x')}));
  const Client& big = registry_.find("good")->client;
  const std::vector<Effect> effects{StartChecker{1, std::string(60000, 'x')},
                                    Changed{Properties().set()}};
  for (int i = 0; i < 2000; ++i) {
    monitor_->added(big);
    monitor_->effects(big, effects);
    monitor_->not_found(KeyId{}, "::1");
    loop_.run_once(Milliseconds(0));
  }
  EXPECT_LT(resident_kib(), before + 64 * 1024);
  EXPECT_TRUE(broken_.empty());
  int ticks = 1;
  while (monitor_->ask_alive() && ticks < 10) ++ticks;
  EXPECT_EQ(ticks, 6);
  // What it must be told fills the queue in the end.
  Client gone;
  gone.name = std::string(60000, 'x');
  for (int i = 0; i < 2000 && broken_.empty(); ++i) {
    monitor_->removed(gone);
    loop_.run_once(Milliseconds(0));
  }
  EXPECT_LT(resident_kib(), before + 64 * 1024);
  expect_broken("the peer does not read or is gone");
}

}  // namespace
}  // namespace mandos::monitor::test
