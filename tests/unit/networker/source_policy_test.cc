// SPDX-License-Identifier: GPL-3.0-or-later
// On virtual time: this file defines the clock.
#include "networker/source_policy.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "common/unique_fd.h"
#include "tests/support/log_lines.h"
#include "tests/support/virtual_clock.h"

namespace mandos::networker {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr Milliseconds kPenalty = seconds(10);

sockaddr_storage address(const char* text) {
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  inet_pton(AF_INET, text, &ipv4.sin_addr);
  sockaddr_storage result{};
  std::memcpy(&result, &ipv4, sizeof ipv4);
  return result;
}
Source source(const char* text) { return source_of(address(text)); }

class SourcePolicyTest : public testing::Test {
 protected:
  /// As a networker does that is started afresh.
  void start(Exemptions exempt = {}) {
    policy_.reset();
    policy_.emplace(loop_, log_.log(), note_, Penalties::Bounds{kPenalty, 1}, std::move(exempt));
  }
  bool admits(const char* text) { return policy_->admits(address(text), source(text)); }
  void offend(const char* text) {
    policy_->punish(source(text), Offense::kViolation, "it sent nonsense");
  }
  /// The networker before did, while it handled what `text` sent.
  void died_of(const char* text) {
    CrashNote before(memory_.get());
    // Never destroyed, as in a process that dies.
    alignas(CrashNote::Handling) std::array<std::byte, sizeof(CrashNote::Handling)> room;
    new (room.data()) CrashNote::Handling(before, source(text));
  }
  void pass(std::chrono::nanoseconds time) {
    virtual_now += time;
    loop_.run_once(Milliseconds(0));
  }

  EventLoop loop_;
  test::LogLines log_;
  UniqueFd memory_{memfd_create("crash note", MFD_CLOEXEC)};
  CrashNote note_{memory_.get()};
  std::optional<SourcePolicy> policy_;
};

TEST_F(SourcePolicyTest, AnOffenderIsRefusedAndTheLogSaysWhyAndHowOften) {
  start();
  EXPECT_TRUE(admits("192.0.2.1"));
  offend("192.0.2.1");
  EXPECT_THAT(log_.take(),
              ElementsAre(AllOf(HasSubstr("refusing 192.0.2.1 for 10 s"),
                                HasSubstr("it sent nonsense"), HasSubstr("mandos.conf(5)"))));
  EXPECT_FALSE(admits("192.0.2.1"));
  EXPECT_FALSE(admits("192.0.2.1"));
  EXPECT_TRUE(admits("192.0.2.2"));
  EXPECT_THAT(log_.take(),
              ElementsAre("4refused connections from sources under a penalty (times: 1, latest: "
                          "192.0.2.1)"));
  pass(kPenalty);
  EXPECT_TRUE(admits("192.0.2.1"));
}

TEST_F(SourcePolicyTest, AfterFiveOffendersTheLogOnlyCountsThem) {
  start();
  for (int i = 1; i <= 9; ++i) offend(concat("192.0.2.", i).c_str());
  const auto lines = log_.take();
  ASSERT_THAT(lines, SizeIs(6));
  EXPECT_THAT(lines[4], HasSubstr("refusing 192.0.2.5"));
  EXPECT_EQ(lines[5],
            "4more sources are refused after repeated offenses (times: 1, latest: 192.0.2.6)");
  pass(seconds(60));
  EXPECT_THAT(log_.take(), ElementsAre(HasSubstr("(times: 3, latest: 192.0.2.9)")));
}

TEST_F(SourcePolicyTest, WhatTheNetworkersBeforeLeftCounts) {
  start();
  policy_->proved(source("192.0.2.1"));
  died_of("192.0.2.2");
  start();
  EXPECT_THAT(log_.take(),
              ElementsAre(HasSubstr(
                  "died while it handled what 192.0.2.2 sent, which is refused for 10 s")));
  EXPECT_FALSE(admits("192.0.2.2"));
  offend("192.0.2.1");
  EXPECT_TRUE(admits("192.0.2.1")) << "where a key was proved, some are let in";
  log_.take();
  pass(seconds(1));
  start();
  EXPECT_THAT(log_.take(), IsEmpty()) << "that is known already";
  EXPECT_FALSE(admits("192.0.2.2"));
}

TEST_F(SourcePolicyTest, AnExemptSourceIsNamedAndNotRefused) {
  died_of("192.0.2.2");
  start(*Exemptions::parse("192.0.2.0/24"));
  EXPECT_THAT(log_.take(), ElementsAre(AllOf(HasSubstr("died while it handled what 192.0.2.2 sent"),
                                             Not(HasSubstr("refused")))));
  EXPECT_TRUE(policy_->exempts(address("192.0.2.2")));
  EXPECT_FALSE(policy_->exempts(address("192.0.3.2")));
  EXPECT_TRUE(admits("192.0.2.2"));
}

}  // namespace
}  // namespace mandos::networker
