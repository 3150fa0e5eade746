// SPDX-License-Identifier: GPL-3.0-or-later
// On virtual time: this file defines the clock.
#include "networker/complaint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <utility>

#include "tests/support/log_lines.h"
#include "tests/support/virtual_clock.h"

namespace mandos::networker {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

class ComplaintTest : public testing::Test {
 protected:
  void pass(std::chrono::nanoseconds time) {
    virtual_now += time;
    loop_.run_once(Milliseconds(0));
  }

  EventLoop loop_;
  test::LogLines log_;
  std::optional<Complaint> complaint_{std::in_place, loop_, log_.log(), "too many"};
};

TEST_F(ComplaintTest, TheFirstIsLoggedAtOnceAndTheOthersOnceAMinute) {
  complaint_->add("a");
  EXPECT_THAT(log_.take(), ElementsAre("4too many (times: 1, latest: a)"));
  complaint_->add("b");
  complaint_->add("c");
  pass(seconds(60) - Milliseconds(1));
  EXPECT_THAT(log_.take(), IsEmpty());
  pass(Milliseconds(1));
  EXPECT_THAT(log_.take(), ElementsAre("4too many (times: 2, latest: c)"));
  complaint_->add("d");
  EXPECT_THAT(log_.take(), IsEmpty()) << "a minute after the last line, not after the first";
  pass(seconds(60));
  EXPECT_THAT(log_.take(), ElementsAre("4too many (times: 1, latest: d)"));
}

TEST_F(ComplaintTest, AfterAMinuteWithoutOneTheNextIsLoggedAtOnce) {
  complaint_->add();
  EXPECT_THAT(log_.take(), ElementsAre("4too many (times: 1)"));
  pass(seconds(60));
  EXPECT_THAT(log_.take(), IsEmpty());
  complaint_->add();
  EXPECT_THAT(log_.take(), ElementsAre("4too many (times: 1)"));
}

TEST_F(ComplaintTest, OneThatIsGoneLogsNothing) {
  complaint_->add("a");
  complaint_->add("b");
  EXPECT_THAT(log_.take(), ElementsAre("4too many (times: 1, latest: a)"));
  complaint_.reset();
  pass(seconds(60));
  EXPECT_THAT(log_.take(), IsEmpty());
}

}  // namespace
}  // namespace mandos::networker
