// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/outbox.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/datagram.h"

namespace mandos::networker {
namespace {

using door::networker::ToMonitor;

class OutboxTest : public testing::Test {
 protected:
  OutboxTest() {
    auto pair = make_door();
    EXPECT_TRUE(pair);
    monitor_ = std::make_unique<Channel>(std::move(pair->second), Channel::Limits{65536, 65536});
    door_ = std::make_unique<Door>(
        loop_, std::move(pair->first), Channel::Limits{65536, 65536}, [](const auto&) {},
        [](const std::string&) {});
    outbox_ = std::make_unique<Outbox>(loop_, *door_);
  }

  static ToMonitor closed(std::uint32_t connection) {
    ToMonitor message;
    message.set_connection(connection);
    message.mutable_closed();
    return message;
  }

  /// The connections that the next datagram is about; nothing when there is none.
  std::vector<std::uint32_t> heard() {
    std::vector<std::uint32_t> connections;
    const auto datagram = monitor_->receive();
    if (!datagram || !*datagram) return connections;
    const auto messages = test::messages_of((*datagram)->bytes);
    EXPECT_TRUE(messages);
    for (const auto& message : *messages) connections.push_back(message.connection());
    return connections;
  }

  using Numbers = std::vector<std::uint32_t>;
  EventLoop loop_;
  std::unique_ptr<Channel> monitor_;
  std::unique_ptr<Door> door_;
  std::unique_ptr<Outbox> outbox_;
};

TEST_F(OutboxTest, WhatIsSentGoesAtOnceAfterWhatWasAdded) {
  outbox_->send(closed(1));
  EXPECT_EQ(heard(), Numbers({1}));
  outbox_->add(closed(2));
  outbox_->add(closed(3));
  EXPECT_EQ(heard(), Numbers());
  outbox_->send(closed(4));
  EXPECT_EQ(heard(), Numbers({2, 3, 4}));
  outbox_->send(closed(5));
  EXPECT_EQ(heard(), Numbers({5}));
}

TEST_F(OutboxTest, WhatWasAddedGoesByItself) {
  for (const std::uint32_t number : {7U, 8U}) {
    const Instant start = BootClock::now();
    outbox_->add(closed(number));
    Numbers found;
    while (found.empty() && BootClock::now() < start + std::chrono::seconds(10)) {
      loop_.run_once(Milliseconds(1000));
      found = heard();
    }
    EXPECT_EQ(found, Numbers({number}));
    EXPECT_GE(BootClock::now() - start, Milliseconds(10));
  }
}

TEST_F(OutboxTest, ADatagramHoldsNoMoreThanTheMonitorTakes) {
  for (std::uint32_t number = 0; number < 40; ++number) outbox_->add(closed(number));
  outbox_->send(closed(40));
  std::uint32_t next = 0;
  for (auto found = heard(); !found.empty(); found = heard()) {
    EXPECT_LE(found.size(), 4U);
    for (const auto number : found) EXPECT_EQ(number, next++);
  }
  EXPECT_EQ(next, 41U);
}

TEST_F(OutboxTest, ATimerThatIsLeftDoesNoHarm) {
  outbox_->add(closed(1));
  outbox_.reset();
  const Instant end = BootClock::now() + Milliseconds(30);
  while (BootClock::now() < end) loop_.run_once(Milliseconds(5));
  EXPECT_EQ(heard(), Numbers());
}

}  // namespace
}  // namespace mandos::networker
