// SPDX-License-Identifier: GPL-3.0-or-later
// The registry on virtual time: what it logs and signals when it is asked too much, and what it
// makes of time in which the process did not run.
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "monitor/merge.h"
#include "tests/hostile/monitor_fixture.h"

namespace mandos {
namespace {

Instant virtual_now{std::chrono::hours(1)};

}  // namespace

BootClock::time_point BootClock::now() noexcept { return virtual_now; }
Moment Moment::now() noexcept {
  return {virtual_now, WallTime(std::chrono::floor<WallTime::duration>(
                           virtual_now.time_since_epoch() + std::chrono::hours(500000)))};
}

namespace monitor::test {
namespace {

using std::chrono::seconds;

class RegistryTimeTest : public MonitorFixture {
 protected:
  RegistryTimeTest() {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, log_ends_.data()), 0);
    log_ = Log::to_socket(log_ends_[0], LogLevel::kInfo);
    outlets_.effects = [this](const Client&, std::span<const Effect> effects) {
      for (const auto& effect : effects) {
        const auto* decided = std::get_if<Decided>(&effect);
        if (decided != nullptr && decided->shown && !granted(decided->verdict)) ++rejected_;
      }
    };
    outlets_.not_found = [this](const KeyId&, const std::string&) { ++not_found_; };
    clients_.emplace(loop_, log_, clients_disk_, outlets_);
    for (const char* name : {"good", "disabled"}) {
      Registry::Entry entry;
      entry.client = registry_.find(name)->client;
      entry.client.settings.interval = seconds(100);
      entry.client.settings.timeout = seconds(250);
      clients_->add(std::move(entry));
    }
    clients_->start();
  }
  ~RegistryTimeTest() override {
    close(log_ends_[0]);
    close(log_ends_[1]);
  }

  const Proven* waiting(ConnectionId id) override {
    const auto found = asked_.find(id);
    return found == asked_.end() ? nullptr : &found->second;
  }
  void granted(ConnectionId id, SecretPtr) override {
    asked_.erase(id);
    ++granted_;
  }
  void refused(ConnectionId id) override {
    asked_.erase(id);
    ++refused_;
  }
  static bool granted(Verdict verdict) { return monitor::granted(verdict); }

  void ask(const SigningKey& key, ConnectionId id) {
    asked_[id] = {key_id(key), "2001:db8::1"};
    clients_->request(id, asked_[id]);
  }
  /// Time in which the loop runs.
  void pass(seconds time) {
    for (const Instant end = virtual_now + time; virtual_now < end;) {
      virtual_now += Milliseconds(500);
      loop_.run_once(Milliseconds(0));
    }
  }
  /// Time in which it does not; then one round.
  void stop(seconds time) {
    virtual_now += time;
    loop_.run_once(Milliseconds(0));
  }
  std::vector<std::string> lines() {
    std::vector<std::string> all;
    std::array<char, 2048> line{};
    for (ssize_t size = 0;
         (size = recv(log_ends_[1], line.data(), line.size(), MSG_DONTWAIT)) > 0;) {
      all.emplace_back(line.data() + 1, static_cast<std::size_t>(size - 1));
    }
    return all;
  }
  static std::size_t count(const std::vector<std::string>& lines, std::string_view word) {
    std::size_t found = 0;
    for (const auto& line : lines) found += line.find(word) != line.npos ? 1 : 0;
    return found;
  }
  const Client& good() { return clients_->find("good")->client; }

  std::array<int, 2> log_ends_{};
  MemoryDisk clients_disk_{loop_};
  std::optional<Registry> clients_;
  std::map<ConnectionId, Proven> asked_;
  int granted_ = 0;
  int refused_ = 0;
  int rejected_ = 0;
  int not_found_ = 0;
};

TEST_F(RegistryTimeTest, TheKeyOfADisabledClientFillsNeitherLogNorBus) {
  for (ConnectionId id = 0; id < 1000; ++id) ask(disabled_key_, id);
  EXPECT_EQ(refused_, 1000);
  EXPECT_EQ(rejected_, 20);
  EXPECT_EQ(count(lines(), "verdict=refused client=\"disabled\""), 20);
  // Another client's refusals are not hidden by them, and a granted secret never.
  for (ConnectionId id = 0; id < 100; ++id) ask(good_key_, id);
  EXPECT_EQ(granted_, 100);
  EXPECT_EQ(count(lines(), "verdict=granted client=\"good\""), 100);
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "audit: 980 lines were suppressed of client=\"disabled\""), 1);
  pass(seconds(30));
  EXPECT_EQ(count(lines(), "suppressed"), 0) << "the count is logged once";
  ask(disabled_key_, 1);
  EXPECT_EQ(rejected_, 21);
  EXPECT_EQ(count(lines(), "verdict=refused client=\"disabled\""), 1);
}

TEST_F(RegistryTimeTest, WhatWasSuppressedOfAClientIsToldWhenItIsRemoved) {
  for (ConnectionId id = 0; id < 1000; ++id) ask(disabled_key_, id);
  EXPECT_EQ(count(lines(), "verdict=refused client=\"disabled\""), 20);
  clients_->remove("disabled", [](const Status&) {});
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "audit: 980 lines were suppressed"), 1);
}

TEST_F(RegistryTimeTest, SecretsThatAreNotSentToTheirEndFillNoLog) {
  Proven proven{key_id(good_key_), "2001:db8::1"};
  clients_->request(1, proven);
  clients_->change("good", Set{Property::kEnabled, false}, [](const Status&) {});
  lines();
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(clients_->may_go_on(proven, nullptr));
  EXPECT_EQ(count(lines(), "Revoked while it was sent"), 20);
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "audit: 980 lines were suppressed of client=\"good\""), 1);
  // Nobody's, too.
  clients_->remove("good", [](const Status&) {});
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(clients_->may_go_on(proven, nullptr));
  EXPECT_EQ(count(lines(), "Revoked while it was sent"), 100);
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "audit: 900 lines were suppressed"), 1);
}

TEST_F(RegistryTimeTest, RequestsOverTheBusDoNotFillTheLog) {
  int told = 0;
  for (int i = 0; i < 1000; ++i) told += clients_->may_tell_request() ? 1 : 0;
  EXPECT_EQ(told, 100);
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "bus: 900 lines were suppressed"), 1);
  // Below that level there is nothing to count.
  log_.set_level(LogLevel::kWarning);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(clients_->may_tell_request());
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "suppressed"), 0);
}

// What nonces are judged by, NetworkerDoor::proof().
TEST_F(RegistryTimeTest, TheTimeServedIsThatInWhichWeRan) {
  std::function<void()> tick = [&] { loop_.after(seconds(1), tick); };
  tick();
  const Instant begin = clients_->time_served();
  seconds ran{0};
  for (int i = 0; i < 30; ++i) {
    pass(seconds(1));
    const Instant before = clients_->time_served();
    stop(seconds(40));
    EXPECT_GE(clients_->time_served(), before);
    ran += seconds(1);
  }
  EXPECT_GE(clients_->time_served() - begin, ran);
  EXPECT_LE(clients_->time_served() - begin, ran * 2)
      << "a stop is noticed by a timer that is late";
}

TEST_F(RegistryTimeTest, StrangersFillNeitherLogNorBus) {
  for (int i = 0; i < 1000; ++i) clients_->not_found(key_id(unknown_key_), "2001:db8::1");
  for (int i = 0; i < 1000; ++i) clients_->proof_refused("2001:db8::1", "nonsense");
  EXPECT_EQ(not_found_, 100);
  const auto logged = lines();
  EXPECT_EQ(count(logged, "Unknown key"), 100);
  EXPECT_EQ(count(logged, "No proof"), 0);
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "audit: 1900 lines were suppressed"), 1);
}

TEST_F(RegistryTimeTest, AStopCostsACheckedClientNothing) {
  clients_->change("good", CheckedOk{}, [](const Status&) {});
  stop(seconds(3600));
  EXPECT_TRUE(good().enabled());
  EXPECT_GE(*good().expires, virtual_now + seconds(250));
  EXPECT_GE(count(lines(), "did not run"), 1);
  pass(seconds(101));
  EXPECT_EQ(started_.size(), 1) << "a check decides";
}

TEST_F(RegistryTimeTest, AStopCostsWhoWasNotCheckedYetNothing) {
  stop(seconds(3600));
  ASSERT_TRUE(good().enabled());
  EXPECT_GE(*good().expires, virtual_now + seconds(250));
  // A check from before it was enabled says nothing.
  clients_->change("disabled", CheckedOk{}, [](const Status&) {});
  clients_->change("good", Set{Property::kEnabled, false}, [](const Status&) {});
  clients_->change("good", Set{Property::kEnabled, true}, [](const Status&) {});
  stop(seconds(3600));
  EXPECT_TRUE(good().enabled());
}

TEST_F(RegistryTimeTest, ALostFirstCheckCostsTheClientNothing) {
  pass(seconds(101));
  ASSERT_EQ(started_.size(), 1);
  clients_->checker_lost(started_[0]);
  pass(seconds(101));
  EXPECT_EQ(started_.size(), 2) << "the check that decides";
  EXPECT_TRUE(good().enabled());
  clients_->checker_finished(started_.back(), 256);
  pass(seconds(101));
  EXPECT_FALSE(good().enabled());
}

// Or a monitor that ends again and again would give one each time.
TEST_F(RegistryTimeTest, AGraceOfTheStartThatCannotBeSavedIsTakenBack) {
  for (const bool writable : {true, false}) {
    for (const seconds left : {seconds(-10), seconds(20)}) {
      EventLoop loop;
      MemoryDisk disk(loop);
      if (!writable) disk.failure = "read-only";
      Registry clients(loop, log_, disk, outlets_);
      Registry::Entry entry;
      entry.client = registry_.find("good")->client;
      entry.client.settings.interval = seconds(100);
      entry.client.settings.timeout = seconds(250);
      entry.client.last_checked_ok = Moment::now().wall;
      entry.client.last_checker_status = 0;
      const Instant expires = virtual_now + left;
      entry.client.expires = expires;
      clients.add(std::move(entry));
      clients.start();
      EXPECT_GT(clients.find("good")->client.expires, expires) << "a grace";
      for (int i = 0; i < 5; ++i) loop.run_once(Milliseconds(0));
      const Client& client = clients.find("good")->client;
      EXPECT_EQ(client.enabled(), writable || left > seconds(0));
      if (client.enabled()) {
        EXPECT_EQ(client.expires > expires, writable);
      }
      // What was missed later is made good: the count is in memory.
      if (client.enabled()) {
        virtual_now += seconds(3600);
        for (int i = 0; i < 5; ++i) loop.run_once(Milliseconds(0));
        EXPECT_TRUE(client.enabled());
      }
    }
  }
}

TEST_F(RegistryTimeTest, AGraceThatIsNotSavedTakesNothingElseBack) {
  EventLoop loop;
  MemoryDisk disk(loop);
  disk.automatic = false;
  Registry clients(loop, log_, disk, outlets_);
  Registry::Entry entry;
  entry.client = registry_.find("good")->client;
  entry.client.last_checked_ok = Moment::now().wall;
  entry.client.last_checker_status = 0;
  entry.client.expires = virtual_now - seconds(10);
  clients.add(std::move(entry));
  clients.start();
  loop.run_once(Milliseconds(0));
  clients.change("good", CheckedOk{}, [](const Status&) {});
  const auto expires = clients.find("good")->client.expires;
  ASSERT_TRUE(disk.busy());
  disk.fail("no space");
  EXPECT_TRUE(clients.find("good")->client.enabled());
  EXPECT_EQ(clients.find("good")->client.expires, expires);
}

TEST_F(RegistryTimeTest, ChecksAreAsSpreadAfterAStopAsBefore) {
  std::map<std::string, ClientSettings> file;
  for (int i = 0; i < 200; ++i) {
    auto& settings = file[std::to_string(i)];
    settings.interval = seconds(100);
    settings.timeout = seconds(250);
  }
  clients_->reload(file, merge);
  pass(seconds(1));
  for (const auto& [name, settings] : file) {
    clients_->change(name, CheckedOk{}, [](const Status&) {});
  }
  started_.clear();
  stop(seconds(3600));
  EXPECT_LT(started_.size(), 20);
  pass(seconds(103));
  for (const auto& [name, settings] : file) {
    EXPECT_TRUE(clients_->find(name)->client.checker) << "each is checked within its interval";
  }
}

TEST_F(RegistryTimeTest, WhoWaitsForApprovalWaitsLongerForAStop) {
  clients_->change("good", CheckedOk{}, [](const Status&) {});
  clients_->change("good", Set{Property::kApprovalDelay, Milliseconds(seconds(10))},
                   [](const Status&) {});
  clients_->change("good", Set{Property::kApprovedByDefault, false}, [](const Status&) {});
  pass(seconds(1));
  ask(good_key_, 1);
  pass(seconds(5));
  stop(seconds(600));
  EXPECT_TRUE(good().approval_pending());
  clients_->change("good", Approve{true}, [](const Status&) {});
  EXPECT_EQ(granted_, 1);
}

TEST_F(RegistryTimeTest, TheKeyIsLookedAtAgainAtTheMomentOfGranting) {
  clients_->change("good", Set{Property::kApprovalDelay, Milliseconds(seconds(10))},
                   [](const Status&) {});
  ask(good_key_, 1);
  asked_[1].key = key_id(unknown_key_);
  clients_->change("good", Approve{true}, [](const Status&) {});
  EXPECT_EQ(std::pair(granted_, refused_), std::pair(0, 1));
  EXPECT_EQ(count(lines(), "verdict=refused client=\"good\""), 1);
}

TEST_F(RegistryTimeTest, NoTimerOutlivesItsClient) {
  ask(good_key_, 1);
  clients_->change("good", Approve{true}, [](const Status&) {});
  clients_->change("good", Set{Property::kApprovalDelay, Milliseconds(seconds(10))},
                   [](const Status&) {});
  pass(seconds(2));
  ask(good_key_, 2);
  clients_->remove("good", [](const Status&) {});
  EXPECT_EQ(refused_, 1);
  clients_->reload({}, merge);
  EXPECT_EQ(clients_->find("disabled"), nullptr);
  started_.clear();
  pass(seconds(1000));
  EXPECT_TRUE(started_.empty());
}

}  // namespace
}  // namespace monitor::test
}  // namespace mandos
