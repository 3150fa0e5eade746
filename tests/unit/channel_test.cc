// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/channel.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <supervisor.pb.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace mandos {
namespace {

using door::supervisor::ToSupervisor;

ToSupervisor text(const std::string& words) {
  ToSupervisor message;
  message.mutable_status_text()->set_text(words);
  return message;
}

/// The texts that can be received now.
std::vector<std::string> received(Channel& channel) {
  std::vector<std::string> all;
  ToSupervisor message;
  for (auto next = channel.receive(); next && *next; next = channel.receive()) {
    EXPECT_TRUE(
        message.ParseFromArray((**next).bytes.data(), static_cast<int>((**next).bytes.size())));
    all.push_back(message.status_text().text().substr(0, 8));
  }
  return all;
}

TEST(ChannelTest, WhatIsSentFirstOvertakesWhatWaits) {
  auto pair = make_door();
  Channel sender(std::move(pair->first), {4096, 1 << 20});
  Channel receiver(std::move(pair->second), {65536, 0});
  std::size_t count = 0;
  for (; !sender.waiting(); ++count) {
    ASSERT_TRUE(sender.send(text("n" + std::string(4000, 'x'))));
  }
  ASSERT_TRUE(sender.send(text("last")));
  ASSERT_TRUE(sender.send_first(text("urgent")));
  EXPECT_THAT(received(receiver), testing::SizeIs(count - 1));
  ASSERT_TRUE(sender.flush());
  EXPECT_EQ(received(receiver), (std::vector<std::string>{"urgent", "nxxxxxxx", "last"}));
  ASSERT_TRUE(sender.send_first(text("urgent")));
  EXPECT_EQ(received(receiver), (std::vector<std::string>{"urgent"}));
}

TEST(ChannelTest, WhatIsSentFirstKeepsTheBoundOfTheQueue) {
  auto pair = make_door();
  Channel sender(std::move(pair->first), {4096, 5000});
  while (!sender.waiting()) ASSERT_TRUE(sender.send(text(std::string(4000, 'x'))));
  EXPECT_TRUE(sender.send_first(text("urgent")));
  EXPECT_FALSE(sender.send_first(text(std::string(4000, 'x'))));
}

/// A connection whose close takes three seconds: the peer does not read what lies unsent in it.
struct Lingering {
  UniqueFd listener{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  UniqueFd socket_{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  Lingering() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener.get(), name, size), 0);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    EXPECT_EQ(getsockname(listener.get(), name, &size), 0);
    connect(socket_.get(), name, size);
    const linger three_seconds{1, 3};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &three_seconds, sizeof three_seconds);
    const std::string bytes(65536, 'x');
    while (send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
    }
    // Only a close of the last copy waits, and only of a blocking one.
    fcntl(socket_.get(), F_SETFL, 0);
  }
};

ssize_t send_descriptor(int door, int fd) {
  char byte = 'x';
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof fd)> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  return sendmsg(door, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

TEST(ChannelTest, ADescriptorWhoseCloseBlocksCannotBeSentToADoorThatRefusesThem) {
  auto pair = make_door();
  refuse_descriptors(pair->first.get());
  int passes = 1;
  socklen_t size = sizeof passes;
  if (getsockopt(pair->first.get(), SOL_SOCKET, 83, &passes, &size) != 0) {
    GTEST_SKIP() << "a kernel before 6.16 has no SO_PASSRIGHTS";
  }
  EXPECT_EQ(passes, 0);
  Lingering lingering;
  EXPECT_EQ(send_descriptor(pair->second.get(), lingering.socket_.get()), -1);
  EXPECT_EQ(errno, EPERM);
  // The other direction is as it was.
  EXPECT_EQ(send_descriptor(pair->first.get(), lingering.listener.get()), 1);
  // What it is good for: the receiver that asks for no descriptor closes what comes.
  auto open = make_door();
  ASSERT_EQ(send_descriptor(open->second.get(), lingering.socket_.get()), 1);
  lingering.socket_.reset();
  Channel receiver(std::move(open->first), {16, 0});
  const Instant before = BootClock::now();
  EXPECT_FALSE(receiver.receive());
  EXPECT_GE(BootClock::now() - before, std::chrono::seconds(2));
}

}  // namespace
}  // namespace mandos
