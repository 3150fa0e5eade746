// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/pace.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mandos::bus_agent {
namespace {

using door::bus_agent::Client;
using Signal = door::bus_agent::ToBusAgent::Signal;

class PaceTest : public testing::Test {
 protected:
  static Client change(const std::string& name) {
    Client change;
    change.set_name(name);
    return change;
  }
  /// What a client with an approval delay that proves its key and hangs up makes of messages: how
  /// many of them go on to the bus.
  int come_and_go(const std::string& name = "one") {
    Client asked = change(name);
    asked.set_last_approval_request(++count_);
    asked.set_approval_pending(true);
    Signal need;
    need.set_name(name);
    need.mutable_need_approval()->set_delay(1000);
    Client gone = change(name);
    gone.set_approval_pending(false);
    return int{pace_.admits(asked, now_)} + int{pace_.admits(need, now_)} +
           int{pace_.admits(gone, now_)};
  }
  std::vector<Client> late() {
    std::vector<Client> changes;
    pace_.take_late([&](const Client& change) { changes.push_back(change); });
    return changes;
  }
  std::map<std::string, unsigned long> left_out() {
    std::map<std::string, unsigned long> counts;
    pace_.take_left_out(
        [&](const std::string& name, unsigned long count) { counts[name] = count; });
    return counts;
  }

  Pace pace_;
  Instant now_{std::chrono::hours(1)};
  std::int64_t count_ = 0;
};

TEST_F(PaceTest, AClientThatBootsIsToldOfInFull) {
  for (int boot = 0; boot < 10; ++boot, now_ += std::chrono::seconds(10)) {
    EXPECT_EQ(come_and_go(), 3);
    Signal got;
    got.set_name("one");
    got.set_got_secret(true);
    EXPECT_TRUE(pace_.admits(got, now_));
    Client granted = change("one");
    granted.set_expires(boot);
    EXPECT_TRUE(pace_.admits(granted, now_));
  }
  EXPECT_FALSE(pace_.has_late());
  EXPECT_TRUE(left_out().empty());
}

TEST_F(PaceTest, OneKeyCannotFloodTheBus) {
  int told = 0;
  std::size_t told_late = 0;
  for (int second = 0; second < 60; ++second, now_ += std::chrono::seconds(1)) {
    for (int i = 0; i < 1000; ++i) told += come_and_go();
    told_late += late().size();
  }
  EXPECT_LE(told, 2 * (20 + 60));
  EXPECT_LE(told_late, 60U);
  EXPECT_GE(told_late, 58U);
  const auto counts = left_out();
  ASSERT_TRUE(counts.contains("one"));
  EXPECT_GE(counts.at("one"), 60U * 1000 - 80);
  EXPECT_TRUE(left_out().empty()) << "each is reported once";
  // The others are not concerned.
  EXPECT_EQ(come_and_go("two"), 3);
}

TEST_F(PaceTest, EveryKindThatAPeerCausesIsBounded) {
  Client expires = change("one");
  expires.set_expires(1);
  Signal got;
  got.set_got_secret(true);
  Signal rejected;
  rejected.set_rejected("Denied");
  for (Signal* signal : {&got, &rejected}) {
    pace_ = Pace();
    signal->set_name("one");
    int told = 0;
    for (int i = 0; i < 1000; ++i) told += pace_.admits(*signal, now_) ? 1 : 0;
    EXPECT_EQ(told, 20);
  }
  int told = 0;
  for (int i = 0; i < 1000; ++i) told += pace_.admits(expires, now_) ? 1 : 0;
  EXPECT_EQ(told, 20);
}

TEST_F(PaceTest, WhatChangedIsToldLate) {
  for (int i = 0; i < 1000; ++i) come_and_go();
  Client expires = change("one");
  expires.set_expires(5);
  EXPECT_FALSE(pace_.admits(expires, now_ + std::chrono::seconds(5)))
      << "what waits is told first, and with it";
  ASSERT_TRUE(pace_.has_late());
  const auto changes = late();
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].name(), "one");
  EXPECT_TRUE(changes[0].has_approval_pending());
  EXPECT_TRUE(changes[0].has_last_approval_request());
  EXPECT_TRUE(changes[0].has_expires());
  EXPECT_FALSE(changes[0].has_enabled());
  EXPECT_FALSE(pace_.has_late());
  EXPECT_TRUE(late().empty());
}

TEST_F(PaceTest, WhatAdministratorsAndTheScheduleCauseIsNeverHeldBack) {
  for (int i = 0; i < 1000; ++i) come_and_go();
  Client disabled = change("one");
  disabled.set_enabled(false);
  disabled.set_expires(0);
  Client secret = change("one");
  secret.set_secret(true);
  Client checked = change("one");
  checked.set_last_checked_ok(1);
  checked.set_expires(1);
  Signal started;
  started.set_name("one");
  started.set_checker_started("");
  Signal completed;
  completed.set_name("one");
  completed.mutable_checker_completed();
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(pace_.admits(disabled, now_));
    EXPECT_TRUE(pace_.admits(secret, now_));
    EXPECT_TRUE(pace_.admits(checked, now_));
    EXPECT_TRUE(pace_.admits(started, now_));
    EXPECT_TRUE(pace_.admits(completed, now_));
  }
}

TEST_F(PaceTest, OfARemovedClientNothingIsToldLate) {
  for (int i = 0; i < 1000; ++i) come_and_go();
  pace_.forget("one");
  EXPECT_FALSE(pace_.has_late());
  EXPECT_EQ(left_out().at("one"), 980U) << "what was left out of it is reported nevertheless";
  EXPECT_EQ(come_and_go(), 3) << "another of that name begins anew";
}

}  // namespace
}  // namespace mandos::bus_agent
