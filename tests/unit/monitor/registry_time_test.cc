// SPDX-License-Identifier: GPL-3.0-or-later
// The registry on virtual time: what it logs and signals when it is asked too much, and what it
// makes of time in which the process did not run.
#include <gmock/gmock.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "monitor/merge.h"
#include "tests/support/client_settings.h"
#include "tests/support/monitor_fixture.h"

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
      test::own(entry.client).interval = seconds(100);
      test::own(entry.client).timeout = seconds(250);
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

TEST_F(RegistryTimeTest, AClientsFateIsLogged) {
  const auto by_bus = [this](const Event& event) {
    clients_->change(
        "good", event, [](const Status&) {}, "bus-agent: user alice (1000)");
  };
  const auto fate = [this] {
    std::vector<std::string> found;
    for (auto& line : lines()) {
      if (line.starts_with("audit: event=")) found.push_back(line.substr(13));
    }
    return found;
  };
  const std::string good = " client=\"good\" by=\"bus-agent: user alice (1000)\"";
  const std::string checker = " client=\"good\" by=\"checker\"";
  using Lines = std::vector<std::string>;
  const auto finish = [this](int wait_status) {
    pass(seconds(100));
    ASSERT_FALSE(started_.empty());
    clients_->checker_finished(started_.back(), wait_status);
  };
  EXPECT_EQ(fate(), Lines());
  by_bus(Set{Property::kTimeout, Milliseconds(seconds(3600))});
  EXPECT_EQ(fate(), Lines{"changed" + good + " setting=timeout from=\"0:04:10\" to=\"1:00:00\""});
  by_bus(Set{Property::kTimeout, Milliseconds(seconds(3600))});
  EXPECT_EQ(fate(), Lines()) << "nothing has changed";
  // The first failure and the first answer of each row.
  finish(127 << 8);
  EXPECT_EQ(fate(),
            Lines{"failing" + checker +
                  " status=\"exit status 127: the program or its interpreter was not found\""
                  " failed_checks=1 last_answer=\"never\""});
  finish(126 << 8);
  finish(9);
  EXPECT_EQ(fate(), Lines());
  // Of the client this is the fourth, of its program the first.
  finish(126 << 8);
  EXPECT_EQ(fate(), Lines{"failing" + checker +
                          " status=\"exit status 126: the program could not be executed\""
                          " failed_checks=4 last_answer=\"never\""});
  finish(0);
  EXPECT_EQ(fate(), Lines{"answering" + checker + " failed_checks=4 last_answer=\"never\""});
  // One that does not end, and one that cannot begin.
  pass(seconds(100));
  pass(seconds(100));
  auto stuck = fate();
  ASSERT_EQ(stuck.size(), 1U);
  EXPECT_TRUE(stuck[0].starts_with("failing" + checker +
                                   " status=\"still running\" failed_checks=1 last_answer=\"2027-"))
      << stuck[0];
  clients_->checker_finished(started_.back(), 0);
  EXPECT_EQ(fate().size(), 1U);
  by_bus(Set{Property::kChecker, std::string("%(unknown)s")});
  fate();
  pass(seconds(100));
  stuck = fate();
  ASSERT_EQ(stuck.size(), 1U);
  EXPECT_TRUE(stuck[0].starts_with("failing" + checker +
                                   " status=\"not started\" failed_checks=1 last_answer=\"2027-"))
      << stuck[0];
  by_bus(Set{Property::kChecker, std::string("true")});
  finish(0);
  fate();
  finish(9);
  EXPECT_THAT(fate(), testing::ElementsAre(testing::MatchesRegex(
                          "failing" + checker +
                          " status=\"killed by signal 9\" failed_checks=1 "
                          "last_answer=\"2027-01-15 0[0-9]:[0-9][0-9]:[0-9][0-9]Z\"")));
  by_bus(CheckedOk{});
  EXPECT_EQ(fate().size(), 1U) << "bumped, and no word of a checker";
  by_bus(Set{Property::kSecret, std::make_shared<const Secret>(as_bytes("other"))});
  EXPECT_EQ(fate(),
            Lines{"changed" + good + " setting=secret from=\"not shown\" to=\"not shown\""});
  // Waiting, approved, denied.
  by_bus(Set{Property::kApprovalDelay, Milliseconds(seconds(300))});
  by_bus(Set{Property::kApprovedByDefault, false});
  fate();
  ask(good_key_, 1);
  ask(good_key_, 2);
  EXPECT_EQ(fate(), Lines{"waiting client=\"good\" by=\"2001:db8::1\" delay=\"0:05:00\" "
                          "approved_by_default=False"});
  by_bus(Approve{true});
  EXPECT_EQ(fate(), Lines{"approved" + good + " waiting=2 duration=\"0:00:01\""});
  pass(seconds(2));
  ask(good_key_, 3);
  fate();
  by_bus(Approve{false});
  EXPECT_EQ(fate(), Lines{"denied" + good + " waiting=1 duration=\"0:00:01\""});
  // The last that waits hangs up.
  pass(seconds(2));
  ask(good_key_, 4);
  ask(good_key_, 5);
  fate();
  clients_->hung_up(4, asked_[4]);
  EXPECT_EQ(fate(), Lines());
  clients_->hung_up(5, asked_[5]);
  EXPECT_EQ(fate(), Lines{"gone client=\"good\" by=\"2001:db8::1\""});
  // Disabled by somebody, enabled, disabled by nobody.
  by_bus(Set{Property::kEnabled, false});
  by_bus(Set{Property::kEnabled, true});
  auto two = fate();
  ASSERT_EQ(two.size(), 2U);
  EXPECT_TRUE(two[0].starts_with("disabled" + good + " failed_checks=0 last_answer=\"2027-"));
  EXPECT_EQ(two[1], "enabled" + good);
  // By hand, since the first check comes at any time within an interval.
  by_bus(Set{Property::kCheckerRunning, true});
  clients_->checker_finished(started_.back(), 1 << 8);
  pass(seconds(250));
  two = fate();
  ASSERT_EQ(two.size(), 2U);
  EXPECT_TRUE(two[1].starts_with(
      "disabled client=\"good\" by=\"timeout\" failed_checks=1 last_answer=\"2027-"))
      << two[1];
  clients_->remove(
      "good", [](const Status&) {}, "bus-agent: user alice (1000)");
  EXPECT_EQ(fate(), Lines{"removed" + good});
}

TEST_F(RegistryTimeTest, AReloadsDoingIsTheFilesAndATimeoutsIsNot) {
  auto settings = test::in_force(good());
  clients_->reload({{"good", settings}, {"new", settings}}, merge);
  auto logged = lines();
  EXPECT_EQ(count(logged, "audit: event=removed client=\"disabled\" by=\"clients.conf\""), 1);
  EXPECT_EQ(count(logged, "audit: event=added client=\"new\" by=\"clients.conf\""), 1);
  EXPECT_EQ(count(logged, "audit: event="), 2);
  settings.enabled = false;
  clients_->reload(
      {{"good", test::in_force(good())}, {"new", test::in_force(good())}, {"off", settings}},
      merge);
  EXPECT_EQ(count(lines(), "event=added client=\"off\" by=\"clients.conf\" enabled=False"), 1);
  settings.enabled = true;
  clients_->reload({{"good", settings}, {"new", settings}}, merge);
  EXPECT_EQ(count(lines(), "audit: event=removed client=\"off\""), 1);
  // The expiry has passed, but its timer has not run yet when the files are read again.
  virtual_now += seconds(1);
  settings.host = "elsewhere";
  virtual_now = *good().expires;
  clients_->reload({{"good", settings}, {"new", settings}}, merge);
  EXPECT_FALSE(good().enabled());
  logged = lines();
  EXPECT_EQ(count(logged, "audit: event=disabled client=\"good\" by=\"timeout\""), 1);
  EXPECT_EQ(count(logged,
                  "audit: event=changed client=\"good\" by=\"clients.conf\" setting=host "
                  "from=\"\" to=\"elsewhere\""),
            1);
}

// A callback that blocks, such as one that waits for a frozen file system, or a stop in the middle
// of a round of the loop: what was in the same round is served next, at a time that nobody was
// awake.
TEST_F(RegistryTimeTest, WhatABlockedRoundHoldsIsHeldAgainstNobody) {
  pass(seconds(100));
  ASSERT_FALSE(started_.empty());
  clients_->checker_finished(started_.back(), 0);
  pass(seconds(100));
  std::array<int, 2> blocks{}, answer{};
  ASSERT_EQ(pipe(blocks.data()), 0);
  ASSERT_EQ(pipe(answer.data()), 0);
  loop_.watch(blocks[0], EPOLLIN, [&](std::uint32_t) {
    virtual_now += seconds(600);
    loop_.unwatch(blocks[0]);
  });
  loop_.watch(answer[0], EPOLLIN, [&](std::uint32_t) {
    clients_->checker_finished(started_.back(), 0);
    loop_.unwatch(answer[0]);
  });
  ASSERT_EQ(write(blocks[1], "x", 1), 1);
  ASSERT_EQ(write(answer[1], "x", 1), 1);
  loop_.run_once(Milliseconds(0));
  EXPECT_TRUE(good().enabled());
  EXPECT_EQ(good().expires, virtual_now + seconds(250));
  for (const int fd : {blocks[0], blocks[1], answer[0], answer[1]}) close(fd);
}

TEST_F(RegistryTimeTest, WhoExpiresIsDisabledOnDiskAtOnce) {
  Registry::Entry entry;
  entry.client = good();
  entry.client.last_checker_status = 1;
  entry.client.unjudged = false;
  entry.client.expires = virtual_now + seconds(10);
  for (int i = 0; i < 1000; ++i) {
    entry.client.name = concat("client ", i);
    test::own(entry.client).key_id.reset();
    clients_->add(Registry::Entry{.client = entry.client, .file = nullptr});
  }
  clients_->start();
  pass(seconds(9));
  pass(seconds(0));
  const auto before = clients_disk_.begun;
  pass(seconds(2));
  int disabled = 0;
  for (const auto& [name, saved] : clients_disk_.kept) {
    disabled += name.starts_with("client ") && !saved.client.current().enabled() ? 1 : 0;
  }
  EXPECT_EQ(disabled, 1000);
  // All together, as far as a transaction goes.
  EXPECT_LE(clients_disk_.begun - before, 1000 / Saver::kMost + 2);
}

TEST_F(RegistryTimeTest, AnAnswerIsOnDiskBeforeItIsConfirmed) {
  int confirmed = 0;
  clients_disk_.automatic = false;
  clients_->change("good", Approve{false},
                   [&](const Status& saved) { confirmed += saved ? 1 : 2; });
  pass(seconds(1));
  ASSERT_TRUE(clients_disk_.busy());
  EXPECT_EQ(confirmed, 0);
  clients_disk_.finish();
  EXPECT_EQ(confirmed, 1);
  EXPECT_TRUE(clients_disk_.kept.at("good").client.has_decided_until());
}

TEST_F(RegistryTimeTest, WhoBeginsToWaitAgainAndAgainDoesNotFillTheLog) {
  clients_->change("good", Set{Property::kApprovalDelay, Milliseconds(seconds(300))},
                   [](const Status&) {});
  lines();
  for (ConnectionId id = 0; id < 1000; ++id) {
    ask(good_key_, id);
    clients_->hung_up(id, asked_[id]);
  }
  EXPECT_EQ(count(lines(), "audit: event="), 20);
  pass(seconds(11));
  EXPECT_EQ(count(lines(), "audit: 1980 lines were suppressed of client=\"good\""), 1);
}

TEST_F(RegistryTimeTest, ItIsSaidWhenEveryCheckOfEveryClientFails) {
  clients_->reload({{"good", test::in_force(good())},
                    {"disabled", test::in_force(clients_->find("disabled")->client)},
                    {"third", test::in_force(good())}},
                   merge);
  for (const char* name : {"good", "third"}) {
    clients_->change(name, Set{Property::kTimeout, Milliseconds(seconds(100000))},
                     [](const Status&) {});
  }
  const auto finish = [this](std::map<std::uint32_t, int> status_by_client) {
    started_.clear();
    pass(seconds(100));
    for (const auto id : std::exchange(started_, {})) {
      clients_->checker_finished(id, status_by_client[static_cast<std::uint32_t>(id >> 32)]);
    }
  };
  const auto good_number = good().number;
  const auto third_number = clients_->find("third")->client.number;
  EXPECT_EQ(clients_->summary(), "2 enabled, 1 disabled, 0 waiting; 0 checks failing");
  finish({{good_number, 256}, {third_number, 0}});
  EXPECT_EQ(clients_->summary(), "2 enabled, 1 disabled, 0 waiting; 1 checks failing");
  EXPECT_EQ(count(lines(), "every check"), 0);
  finish({{good_number, 256}, {third_number, 256}});
  EXPECT_EQ(clients_->summary(), "2 enabled, 1 disabled, 0 waiting; 2 checks failing");
  clients_->summary();
  EXPECT_EQ(count(lines(), "every check of every client fails"), 1) << "once";
  finish({{good_number, 0}, {third_number, 256}});
  clients_->summary();
  EXPECT_EQ(count(lines(), "checks of clients succeed again"), 1);
  // What failed before an administrator enabled them again says nothing of now.
  finish({{good_number, 256}, {third_number, 256}});
  clients_->summary();
  EXPECT_EQ(count(lines(), "every check of every client fails"), 1);
  finish({{good_number, 0}, {third_number, 0}});
  clients_->summary();
  finish({{good_number, 256}, {third_number, 0}});
  for (const bool enabled : {false, true}) {
    for (const char* name : {"good", "third"}) {
      clients_->change(name, Set{Property::kEnabled, enabled}, [](const Status&) {});
    }
  }
  lines();
  EXPECT_EQ(clients_->summary(), "2 enabled, 1 disabled, 0 waiting; 0 checks failing");
  EXPECT_EQ(count(lines(), "every check"), 0);
}

TEST_F(RegistryTimeTest, TimeInWhichWeDidNotRunIsNotServedAndNoOtherIsLeftOut) {
  pass(seconds(20));
  const Instant due = *good().next_check;
  stop(seconds(3600));
  EXPECT_EQ(clients_->time_served(), due) << "from then on it was too late";
}

TEST_F(RegistryTimeTest, TimersThatAreMovedLeaveNothingBehind) {
  const auto move = [this](int count) {
    for (int i = 0; i < count; ++i) {
      clients_->change("good", Set{Property::kInterval, Milliseconds(90'000 + i % 1000)},
                       [](const Status&) {});
      lines();
      loop_.run_once(Milliseconds(0));  // the disk confirms, so that nobody waits for it any more
    }
  };
  // Also what malloc got from the kernel in a mapping of its own.
  const auto allocated = [] { return mallinfo2().uordblks + mallinfo2().hblkhd; };
  move(100);
  const std::size_t before = allocated();
  move(20'000);
  EXPECT_LT(allocated(), before + 256 * 1024);
}

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
  EXPECT_EQ(count(logged, "audit: verdict=refused client=\"\" key_id="), 100);
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
      test::own(entry.client).interval = seconds(100);
      test::own(entry.client).timeout = seconds(250);
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

TEST_F(RegistryTimeTest, SaysWhomAReloadDisablesAtOnceAndDisablesThoseAndNoOthers) {
  std::map<std::string, ClientSettings> file;
  for (int i = 0; i < 30; ++i) {
    file[concat("client ", i)].interval = seconds(100);
    file[concat("client ", i)].timeout = seconds(1000);
  }
  clients_->reload(file, merge);
  for (const auto& [name, settings] : file) {
    clients_->change(name, CheckedOk{}, [](const Status&) {});
  }
  EXPECT_TRUE(clients_->disabled_by(file, merge).empty());
  pass(seconds(200));
  for (const int disabled : {9, 10, 11}) {
    auto next = file;
    for (int i = 0; i < disabled; ++i) next[concat("client ", i)].timeout = seconds(200);
    next["client 20"].timeout = seconds(201);
    next["client 21"].timeout = seconds(9000);
    const auto said = clients_->disabled_by(next, merge);
    ASSERT_EQ(said.size(), disabled);
    EXPECT_EQ(said[0].find("client client 0: disabled at once by this reload: timeout 0:03:20"), 0U)
        << said[0];
    next["client 0"].enabled = false;
    EXPECT_EQ(clients_->disabled_by(next, merge)[0],
              "client client 0: disabled at once by this reload: enabled = no");
  }
  auto next = file;
  for (int i = 0; i < 10; ++i) next[concat("client ", i)].timeout = seconds(200);
  const auto said = clients_->disabled_by(next, merge);
  for (const auto& [name, settings] : file) EXPECT_TRUE(clients_->find(name)->client.enabled());
  clients_->reload(next, merge);
  for (const auto& [name, settings] : file) {
    const bool foretold = std::ranges::any_of(said, [&name = name](const auto& line) {
      return line.starts_with(concat("client ", name, ": "));
    });
    EXPECT_EQ(clients_->find(name)->client.enabled(), !foretold) << name;
  }
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
