// SPDX-License-Identifier: GPL-3.0-or-later
// A process that tries to fill the log or to forge lines in it.
#include "monitor/log_inlet.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/channel.h"

namespace mandos::monitor {
namespace {

class LogInletTest : public testing::Test {
 protected:
  LogInletTest() {
    auto in = make_door();
    auto out = make_door();
    child_ = std::move(in->second);
    reader_ = std::move(out->first);
    writer_ = std::move(out->second);
    inlet_.emplace(loop_, std::move(in->first),
                   "child: ", log_.emplace(Log::to_socket(writer_.get(), LogLevel::kInfo)),
                   [this](const std::string& why) { broken_.push_back(why); });
  }

  void say(std::string_view line) {
    static_cast<void>(::send(child_.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    for (int i = 0; i < 3; ++i) loop_.run_once(Milliseconds(0));
    std::array<char, 4096> buffer{};
    ssize_t size = 0;
    while ((size = recv(reader_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0) {
      lines_.emplace_back(buffer.data(), static_cast<std::size_t>(size));
    }
  }

  EventLoop loop_;
  UniqueFd child_, reader_, writer_;
  std::optional<Log> log_;
  std::optional<LogInlet> inlet_;
  std::vector<std::string> lines_;
  std::vector<std::string> broken_;
};

TEST_F(LogInletTest, LabelsAndKeepsTheLevel) {
  say("4all is not well");
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_EQ(lines_[0], "4child: all is not well");
}

TEST_F(LogInletTest, ForgesNoLine) {
  say("4x\nmandos[1]: audit: verdict=granted client=\"a\"\x1b[2J\xff");
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_EQ(lines_[0],
            "4child: x\\x0amandos[1]: audit: verdict=granted client=\\x22a\\x22\\x1b[2J\\xff");
}

TEST_F(LogInletTest, AnotherLevelIsAWarning) {
  for (const char* line : {"0emergency", "1alert", "9what", "xnone"}) say(line);
  ASSERT_EQ(lines_.size(), 4U);
  for (const auto& line : lines_) EXPECT_EQ(line[0], '4');
}

TEST_F(LogInletTest, BoundsLengthAndNumber) {
  for (int i = 0; i < 2000; ++i) say("4" + std::string(5000, '\n'));
  EXPECT_LT(lines_.size(), 700U);
  EXPECT_GE(lines_.size(), 500U);
  for (const auto& line : lines_) EXPECT_LE(line.size(), kMaxLogLine + 1);
}

TEST_F(LogInletTest, ADescriptorBreaksIt) {
  std::string line = "4with a descriptor";
  iovec part{line.data(), line.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* const rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = reader_.get();
  std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  for (int i = 0; i < 3; ++i) ASSERT_GT(sendmsg(child_.get(), &header, MSG_NOSIGNAL), 0);
  say("4and one without");
  EXPECT_EQ(broken_, std::vector<std::string>{"descriptors with a log line"});
  EXPECT_TRUE(lines_.empty());
}

}  // namespace
}  // namespace mandos::monitor
