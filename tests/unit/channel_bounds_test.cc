// SPDX-License-Identifier: GPL-3.0-or-later
// A door's two ends: what one sends the other receives, within the bounds and in order.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <networker.pb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"

namespace mandos {
namespace {

using door::networker::ToNetworker;

constexpr std::uint32_t kBlob = ToNetworker::kBlobFieldNumber;

ToNetworker message_of(std::string bytes) {
  ToNetworker message;
  message.set_blob(std::move(bytes));
  return message;
}

std::string value_of(std::string_view datagram) {
  ToNetworker message;
  EXPECT_TRUE(message.ParseFromArray(datagram.data(), static_cast<int>(datagram.size())));
  return message.blob();
}

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() {
    auto pair = make_door();
    EXPECT_TRUE(pair);
    ours_ = std::move(pair->first);
    theirs_ = std::move(pair->second);
  }

  static int flags_of(int fd) { return fcntl(fd, F_GETFD); }

  UniqueFd ours_;
  UniqueFd theirs_;
};

TEST_F(ChannelTest, NeitherEndIsInheritedOrBlocks) {
  for (const int fd : {ours_.get(), theirs_.get()}) {
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  }
}

TEST_F(ChannelTest, AMessageAsLongAsAllowedAndOneByteMore) {
  const std::string longest = message_of(std::string(100, 'x')).SerializeAsString();
  Channel channel(std::move(ours_), {.receive = longest.size(), .queue = 0});
  ASSERT_GT(send(theirs_.get(), longest.data(), longest.size(), 0), 0);
  const auto received = channel.receive();
  ASSERT_TRUE(received && *received);
  EXPECT_EQ((*received)->bytes, longest);
  const std::string longer = longest + 'x';
  ASSERT_GT(send(theirs_.get(), longer.data(), longer.size(), 0), 0);
  const auto refused = channel.receive();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), "a message longer than allowed");
}

TEST_F(ChannelTest, NothingIsThereAndThePeerIsGone) {
  Channel channel(std::move(ours_), {.receive = 64, .queue = 0});
  const auto nothing = channel.receive();
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(*nothing);
  theirs_.reset();
  const auto gone = channel.receive();
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error(), "closed by the peer");
  EXPECT_FALSE(channel.send(message_of("x")));
}

TEST_F(ChannelTest, DescriptorsComeAlongAndAreNotInherited) {
  Channel sender(std::move(ours_), {.receive = 64, .queue = 64});
  Channel receiver(std::move(theirs_), {.receive = 64, .queue = 64, .descriptors = 2});
  const std::array<int, 2> sent{STDIN_FILENO, STDOUT_FILENO};
  ASSERT_TRUE(sender.send(message_of("x"), sent));
  const auto received = receiver.receive();
  ASSERT_TRUE(received && *received);
  ASSERT_EQ((*received)->descriptors.size(), 2U);
  for (const auto& fd : (*received)->descriptors) EXPECT_NE(flags_of(fd.get()) & FD_CLOEXEC, 0);
}

TEST_F(ChannelTest, MoreDescriptorsThanAllowedAreRefused) {
  const std::array<int, 3> three{STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
  Channel sender(std::move(ours_), {.receive = 64, .queue = 64});
  Channel receiver(std::move(theirs_), {.receive = 64, .queue = 64, .descriptors = 2});
  ASSERT_TRUE(sender.send(message_of("x"), three));
  const auto received = receiver.receive();
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error(), "descriptors that nobody asked for");
}

TEST_F(ChannelTest, NoDescriptorWhereNoneIsWanted) {
  const std::array<int, 1> one{STDIN_FILENO};
  Channel sender(std::move(ours_), {.receive = 64, .queue = 64});
  Channel receiver(std::move(theirs_), {.receive = 64, .queue = 64});
  const int free_before = fcntl(STDIN_FILENO, F_DUPFD, 3);
  close(free_before);
  ASSERT_TRUE(sender.send(message_of("x"), one));
  EXPECT_FALSE(receiver.receive());
  const int free_now = fcntl(STDIN_FILENO, F_DUPFD, 3);
  close(free_now);
  EXPECT_EQ(free_now, free_before) << "a descriptor was let in";
}

TEST_F(ChannelTest, WhatWasReceivedIsWipedWhole) {
  Channel sender(std::move(ours_), {.receive = 64, .queue = 64});
  Channel receiver(std::move(theirs_), {.receive = 64, .queue = 64});
  ASSERT_TRUE(sender.send(message_of(std::string(40, 's'))));
  const auto received = receiver.receive();
  ASSERT_TRUE(received && *received);
  const std::string_view bytes = (*received)->bytes;
  EXPECT_EQ(value_of(bytes), std::string(40, 's'));
  receiver.wipe_received();
  EXPECT_TRUE(std::ranges::all_of(bytes, [](char c) { return c == 0; }));
}

TEST_F(ChannelTest, ATailIsPartOfTheMessage) {
  Channel sender(std::move(ours_), {.receive = 1024, .queue = 0});
  Channel receiver(std::move(theirs_), {.receive = 1024, .queue = 0});
  const auto owner = std::make_shared<const std::string>(300, 't');
  ASSERT_TRUE(
      sender.send(ToNetworker(), {},
                  {kBlob, {reinterpret_cast<const unsigned char*>(owner->data()), 300}, owner}));
  const auto received = receiver.receive();
  ASSERT_TRUE(received && *received);
  EXPECT_EQ(value_of((*received)->bytes), *owner);
}

TEST_F(ChannelTest, WhatWaitsIsBoundedAndKeepsItsOrder) {
  constexpr std::size_t kMost = 4096;
  Channel sender(std::move(ours_), {.receive = 8192, .queue = kMost});
  Channel receiver(std::move(theirs_), {.receive = 8192, .queue = 0});
  const std::string filler(1000, 'x');
  std::size_t sent = 0;
  std::size_t got = 0;
  const auto send_one = [&] {
    const bool taken = sender.send(message_of(std::to_string(sent) + " " + filler));
    sent += taken ? 1 : 0;
    return taken;
  };
  const auto get_one = [&] {
    const auto received = receiver.receive();
    if (!received || !*received) return false;
    const std::string value = value_of((*received)->bytes);
    EXPECT_EQ(value.substr(0, value.find(' ')), std::to_string(got));
    ++got;
    return true;
  };
  // Twice, since what went out of the queue makes room in it.
  for (int round = 0; round < 2; ++round) {
    while (!sender.waiting()) ASSERT_TRUE(send_one());
    // There is room in the kernel again, but what waits goes first.
    ASSERT_TRUE(get_one());
    std::size_t waiting = 1;
    while (send_one()) ++waiting;
    EXPECT_EQ(waiting, kMost / 1010) << round;
    while (got < sent) {
      ASSERT_TRUE(get_one() || (sender.flush() && get_one())) << got << " of " << sent;
    }
    EXPECT_FALSE(sender.waiting());
  }
}

TEST_F(ChannelTest, ATailThatWaitsKeepsItsOwnerAndCountsNot) {
  Channel sender(std::move(ours_), {.receive = 64, .queue = 512});
  Channel receiver(std::move(theirs_), {.receive = 1 << 20, .queue = 0});
  auto owner = std::make_shared<const std::string>(100'000, 't');
  const std::weak_ptr<const std::string> alive = owner;
  const Channel::Tail tail{
      kBlob, {reinterpret_cast<const unsigned char*>(owner->data()), owner->size()}, owner};
  while (!sender.waiting()) ASSERT_TRUE(sender.send(ToNetworker(), {}, tail));
  ASSERT_TRUE(sender.send(ToNetworker(), {}, tail));
  const_cast<Channel::Tail&>(tail).owner.reset();
  owner.reset();
  EXPECT_FALSE(alive.expired());
  while (sender.waiting()) {
    const auto received = receiver.receive();
    ASSERT_TRUE(received && *received);
    EXPECT_EQ(value_of((*received)->bytes), std::string(100'000, 't'));
    ASSERT_TRUE(sender.flush());
  }
  EXPECT_TRUE(alive.expired());
}

TEST_F(ChannelTest, DescriptorsThatWaitAreTheQueuesOwn) {
  Channel sender(std::move(ours_), {.receive = 64, .queue = 64});
  Channel receiver(std::move(theirs_), {.receive = 4096, .queue = 0, .descriptors = 1});
  const std::string filler(4000, 'x');
  std::array<int, 1> extra{fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)};
  std::size_t before = 0;
  while (send(sender.fd(), filler.data(), filler.size(), MSG_DONTWAIT) > 0) ++before;
  ASSERT_TRUE(sender.send(message_of("behind"), extra));
  ASSERT_TRUE(sender.waiting());
  close(extra[0]);
  for (std::size_t i = 0; i < before; ++i) ASSERT_TRUE(receiver.receive());
  ASSERT_TRUE(sender.flush());
  const auto received = receiver.receive();
  ASSERT_TRUE(received && *received);
  EXPECT_EQ((*received)->descriptors.size(), 1U);
}

/// A Door, and what it tells.
class DoorTest : public ChannelTest {
 protected:
  DoorTest() {
    door_ = std::make_unique<Door>(
        loop_, std::move(ours_), Channel::Limits{.receive = 64, .queue = 256},
        [this](const Channel::Datagram& datagram) {
          received_.push_back(value_of(datagram.bytes));
          if (on_datagram_) on_datagram_();
        },
        [this](const std::string& why) { closed_.push_back(why); });
  }
  void say(const std::string& text) {
    const std::string bytes = message_of(text).SerializeAsString();
    ASSERT_GT(send(theirs_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT), 0);
  }

  EventLoop loop_;
  std::vector<std::string> received_;
  std::vector<std::string> closed_;
  std::function<void()> on_datagram_;
  std::unique_ptr<Door> door_;
};

TEST_F(DoorTest, ServesNoMoreThanItsShareInARound) {
  for (int i = 0; i < 40; ++i) say("x");
  loop_.run_once(Milliseconds(0));
  EXPECT_EQ(received_.size(), 16U);
  loop_.run_once(Milliseconds(0));
  EXPECT_EQ(received_.size(), 32U);
}

TEST_F(DoorTest, SaysOnceAndFromTheLoopThatItIsClosed) {
  theirs_.reset();
  door_->send(message_of("x"));
  door_->send(message_of("x"));
  EXPECT_TRUE(closed_.empty());
  for (int i = 0; i < 3; ++i) loop_.run_once(Milliseconds(0));
  EXPECT_EQ(closed_.size(), 1U);
}

TEST_F(DoorTest, NothingIsHeardAfterTheRulesWereBroken) {
  const std::string longer(65, 'x');
  ASSERT_GT(send(theirs_.get(), longer.data(), longer.size(), MSG_DONTWAIT), 0);
  say("behind");
  for (int i = 0; i < 3; ++i) loop_.run_once(Milliseconds(0));
  EXPECT_TRUE(received_.empty());
  EXPECT_EQ(closed_, std::vector<std::string>{"a message longer than allowed"});
}

TEST_F(DoorTest, MayBeDestroyedByWhatItTells) {
  on_datagram_ = [this] { door_.reset(); };
  say("x");
  say("y");
  for (int i = 0; i < 3; ++i) loop_.run_once(Milliseconds(0));
  EXPECT_EQ(received_, std::vector<std::string>{"x"});
  EXPECT_TRUE(closed_.empty());
}

TEST_F(DoorTest, OneThatIsDestroyedSaysNothingMore) {
  theirs_.reset();
  door_->send(message_of("x"));
  door_.reset();
  for (int i = 0; i < 3; ++i) loop_.run_once(Milliseconds(0));
  EXPECT_TRUE(closed_.empty());
}

TEST_F(DoorTest, WhatWaitsGoesOutWhenThePeerReads) {
  std::size_t sent = 0;
  while (door_->drained()) {
    door_->send(message_of("x"));
    ++sent;
  }
  std::array<char, 64> buffer{};
  std::size_t got = 0;
  for (int round = 0; round < 100'000 && got < sent; ++round) {
    if (recv(theirs_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) ++got;
    loop_.run_once(Milliseconds(0));
  }
  EXPECT_EQ(got, sent);
  EXPECT_TRUE(door_->drained());
  EXPECT_TRUE(closed_.empty());
}

}  // namespace
}  // namespace mandos
