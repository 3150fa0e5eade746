// SPDX-License-Identifier: GPL-3.0-or-later
// A checker-runner that was taken over, at the monitor's door.
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "monitor/doors/checker_runner.h"
#include "tests/support/monitor_fixture.h"

namespace mandos::monitor::test {
namespace {

using door::checker_runner::ToCheckerRunner;
using door::checker_runner::ToMonitor;

class CheckerRunnerDoorTest : public MonitorFixture {
 protected:
  CheckerRunnerDoorTest() {
    auto pair = make_door();
    EXPECT_TRUE(pair);
    runner_ = std::move(pair->second);
    monitor_ = std::make_unique<CheckerRunnerDoor>(
        loop_, registry_, std::move(pair->first), LogLevel::kWarning, false,
        [this](const std::string& why) { broken_.push_back(why); }, [this] { ++alive_; });
  }

  void finished(CheckerId checker, std::optional<int> status) {
    ToMonitor message;
    message.mutable_finished()->set_checker(checker);
    if (status) message.mutable_finished()->set_wait_status(*status);
    const std::string bytes = message.SerializeAsString();
    ASSERT_GT(::send(runner_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
  }

  /// Has the good client's checker started and returns its number.
  CheckerId start() {
    EXPECT_TRUE(change("good", Set{Property::kEnabled, false}));
    EXPECT_TRUE(change("good", Set{Property::kEnabled, true}));
    EXPECT_TRUE(change("good", Set{Property::kCheckerRunning, true}));
    EXPECT_FALSE(started_.empty());
    monitor_->run(started_.back(), "true");
    return started_.back();
  }

  void expect_broken(const std::string& why) {
    EXPECT_TRUE(run_until([this] { return !broken_.empty(); }));
    ASSERT_FALSE(broken_.empty());
    EXPECT_EQ(broken_.front(), why);
  }

  UniqueFd runner_;
  std::unique_ptr<CheckerRunnerDoor> monitor_;
  std::vector<std::string> broken_;
  int alive_ = 0;
};

TEST_F(CheckerRunnerDoorTest, ACheckerFinishesOnce) {
  const CheckerId checker = start();
  finished(checker, 0);
  EXPECT_TRUE(run_until([this] { return !registry_.find("good")->client.checker; }));
  EXPECT_EQ(registry_.find("good")->client.last_checker_status, 0);
  finished(checker, 0);
  expect_broken("not allowed in this state");
}

TEST_F(CheckerRunnerDoorTest, ACheckerThatNeverRanBreaksTheDoor) {
  for (const CheckerId checker : {CheckerId{0}, CheckerId{1} << 32, ~CheckerId{0}}) {
    broken_.clear();
    finished(checker, 0);
    expect_broken("not allowed in this state");
  }
}

TEST_F(CheckerRunnerDoorTest, ACheckerThatCouldNotBeStartedSaysNothingOfItsClient) {
  finished(start(), 256);
  ASSERT_TRUE(run_until([this] { return !registry_.find("good")->client.checker; }));
  const auto& good = registry_.find("good")->client;
  const auto answered = good.last_checked_ok;
  const CheckerId checker = start();
  finished(checker, std::nullopt);
  ASSERT_TRUE(run_until([this] { return !registry_.find("good")->client.checker; }));
  EXPECT_EQ(good.last_checker_status, 1);
  EXPECT_EQ(good.last_checked_ok, answered);
  finished(checker, std::nullopt);
  expect_broken("not allowed in this state");
}

TEST_F(CheckerRunnerDoorTest, JunkBreaksTheDoor) {
  ASSERT_GT(::send(runner_.get(), "\xff\xff", 2, MSG_NOSIGNAL), 0);
  expect_broken("not a message of this door");
}

TEST_F(CheckerRunnerDoorTest, ALongDatagramBreaksTheDoor) {
  const std::string bytes(65, 'x');
  ASSERT_GT(::send(runner_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
  expect_broken("a message longer than allowed");
}

TEST_F(CheckerRunnerDoorTest, APongAnswersOnePing) {
  ToMonitor message;
  message.mutable_pong();
  const std::string bytes = message.SerializeAsString();
  const auto send_pong = [&] {
    ASSERT_GT(::send(runner_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
  };
  // The first Ping may come while it starts.
  for (const int patience : {5, 3}) {
    for (int tick = 0; tick < patience; ++tick) EXPECT_TRUE(monitor_->ask_alive()) << tick;
    EXPECT_FALSE(monitor_->ask_alive());
    send_pong();
    loop_.run_once(Milliseconds(10));
    EXPECT_TRUE(broken_.empty());
    EXPECT_EQ(alive_, 1);
  }
  send_pong();
  expect_broken("not allowed in this state");
}

TEST_F(CheckerRunnerDoorTest, AnyWaitStatusIsTakenForWhatItIs) {
  for (const int status : {-1, 0x7fffffff, 9, 0x137f, 0xff00}) {
    const CheckerId checker = start();
    finished(checker, status);
    ASSERT_TRUE(run_until([this] { return !registry_.find("good")->client.checker; }));
    EXPECT_NE(registry_.find("good")->client.last_checker_status, 0) << status;
  }
  EXPECT_TRUE(broken_.empty());
}

TEST_F(CheckerRunnerDoorTest, DyingLosesEveryCheckerThatRanAndSaysNothingOfItsClient) {
  finished(start(), 0);
  ASSERT_TRUE(run_until([this] { return !registry_.find("good")->client.checker; }));
  start();
  monitor_.reset();
  EXPECT_FALSE(registry_.find("good")->client.checker);
  EXPECT_EQ(registry_.find("good")->client.last_checker_status, 0);
}

TEST_F(CheckerRunnerDoorTest, OneThatNeverReadsIsGivenUp) {
  const std::string command(60000, 'x');
  for (CheckerId checker = 1; checker < 2000 && broken_.empty(); ++checker) {
    monitor_->run(checker << 32, command);
    loop_.run_once(Milliseconds(0));
  }
  expect_broken("the peer does not read or is gone");
}

}  // namespace
}  // namespace mandos::monitor::test
