// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/door_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/datagram.h"

namespace mandos::networker {
namespace {

using door::networker::ToMonitor;
using testing::IsEmpty;
using testing::SizeIs;

class DoorProtocolTest : public testing::Test {
 protected:
  DoorProtocolTest() {
    auto pair = make_door();
    EXPECT_TRUE(pair);
    monitor_.emplace(std::move(pair->second), Channel::Limits{65536, 65536});
    door_.emplace(
        loop_, std::move(pair->first), Channel::Limits{65536, 1 << 24},
        [this](const auto&) { ++answers_; }, [](const std::string& why) { ADD_FAILURE() << why; });
    protocol_.emplace(loop_, *door_);
  }

  /// The messages of the next datagram; none when there is none.
  std::vector<ToMonitor> heard() {
    const auto datagram = monitor_->receive();
    if (!datagram || !*datagram) return {};
    return test::messages_of((*datagram)->bytes).value_or(std::vector<ToMonitor>());
  }
  void answer() {
    door::networker::ToNetworker ping;
    ping.mutable_ping();
    ASSERT_TRUE(monitor_->send(ping));
  }
  /// How often a connection is handled before the monitor's answer is.
  int until_answered() {
    answer();
    for (int i = 1; i <= 1000; ++i) {
      protocol_->let_speak();
      if (std::exchange(answers_, 0) > 0) return i;
    }
    return 0;
  }

  EventLoop loop_;
  std::optional<Channel> monitor_;
  std::optional<Door> door_;
  std::optional<DoorProtocol> protocol_;
  int answers_ = 0;
};

TEST_F(DoorProtocolTest, SaysWhatIsMeant) {
  protocol_->open(5);
  auto messages = heard();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_TRUE(messages[0].has_open());
  EXPECT_EQ(messages[0].connection(), 5U);

  protocol_->prove(5, "transcript", "192.0.2.1", std::nullopt);
  messages = heard();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].connection(), 5U);
  EXPECT_EQ(messages[0].proof().transcript(), "transcript");
  EXPECT_EQ(messages[0].proof().address(), "192.0.2.1");

  protocol_->next_part(5);
  messages = heard();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].connection(), 5U);
  EXPECT_TRUE(messages[0].has_next_part());
}

TEST_F(DoorProtocolTest, ANonceForAPeerToComeIsRequestedInTheDatagramOfTheProof) {
  protocol_->prove(5, "transcript", "192.0.2.1", 9);
  const auto messages = heard();
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_TRUE(messages[0].has_proof());
  EXPECT_EQ(messages[0].connection(), 5U);
  EXPECT_TRUE(messages[1].has_open());
  EXPECT_EQ(messages[1].connection(), 9U);
}

TEST_F(DoorProtocolTest, AnEndGoesWithTheNextMessage) {
  protocol_->closed(5, true);
  protocol_->closed(6, false);
  EXPECT_THAT(heard(), IsEmpty());
  protocol_->open(7);
  const auto messages = heard();
  ASSERT_THAT(messages, SizeIs(3));
  EXPECT_EQ(messages[0].connection(), 5U);
  EXPECT_TRUE(messages[0].closed().delivered());
  EXPECT_EQ(messages[1].connection(), 6U);
  ASSERT_TRUE(messages[1].has_closed());
  EXPECT_FALSE(messages[1].closed().delivered());
}

TEST_F(DoorProtocolTest, AnswersAreHandledAfterEightRequestsOr256Connections) {
  EXPECT_EQ(until_answered(), 256);
  EXPECT_EQ(until_answered(), 256);
  for (unsigned number = 0; number < 7; ++number) protocol_->open(number);
  EXPECT_EQ(until_answered(), 256);
  for (unsigned number = 0; number < 4; ++number) protocol_->open(number);
  for (unsigned number = 4; number < 8; ++number) protocol_->prove(number, "", "", number + 100);
  EXPECT_EQ(until_answered(), 1);
  EXPECT_EQ(until_answered(), 256);
}

TEST_F(DoorProtocolTest, KnowsWhenTheMonitorIsBehind) {
  EXPECT_FALSE(protocol_->is_behind());
  while (!protocol_->is_behind()) protocol_->open(1);
  while (!heard().empty()) continue;
  loop_.run_once(Milliseconds(1000));
  while (!heard().empty()) continue;
  EXPECT_FALSE(protocol_->is_behind());
}

}  // namespace
}  // namespace mandos::networker
