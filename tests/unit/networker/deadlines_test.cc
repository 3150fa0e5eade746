// SPDX-License-Identifier: GPL-3.0-or-later
// On virtual time: this file defines the clock.
#include "networker/deadlines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "tests/support/virtual_clock.h"

namespace mandos::networker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr Milliseconds kGrace = seconds(15);

class DeadlinesTest : public testing::Test {
 protected:
  /// Time in which the process runs.
  void pass(std::chrono::nanoseconds time) {
    const Instant end = virtual_now + time;
    while (virtual_now < end) {
      virtual_now = std::min<Instant>(end, virtual_now + EventLoop::kGap / 2);
      round();
    }
  }
  void round() { loop_.run_once(Milliseconds(0)); }

  void enter(std::uint32_t number) {
    tickets_[number] = admission_.enter(number, {}, virtual_now);
    deadlines_.opened();
    deadlines_.watch_strangers();
  }
  void end(std::uint32_t number) {
    admission_.leave(tickets_.at(number));
    tickets_.erase(number);
    deadlines_.closed(number);
  }
  std::vector<std::uint32_t> overdue() { return std::exchange(overdue_, {}); }

  EventLoop loop_;
  Admission admission_{{.connections = 1000, .per_source = 1000, .grace = kGrace}};
  std::map<std::uint32_t, Admission::Ticket> tickets_;
  bool goes_on_ = false;  // who is overdue makes progress
  std::vector<std::uint32_t> overdue_;
  std::map<std::uint32_t, Instant> last_read_;  // of those for whom something waits
  std::vector<std::uint32_t> stalled_;
  std::vector<Instant> missed_;
  Deadlines deadlines_{loop_,
                       admission_,
                       {.overdue =
                            [this](std::uint32_t number) {
                              overdue_.push_back(number);
                              if (goes_on_)
                                return admission_.answered(tickets_.at(number), virtual_now);
                              end(number);
                            },
                        .last_read = [this](std::uint32_t number) -> std::optional<Instant> {
                          const auto found = last_read_.find(number);
                          if (found == last_read_.end()) return std::nullopt;
                          return found->second;
                        },
                        .stalled = [this](std::uint32_t number) { stalled_.push_back(number); },
                        .missed =
                            [this](Instant now) {
                              missed_.push_back(now);
                              admission_.missed(now);
                            }}};
};

TEST_F(DeadlinesTest, EachStrangerHasItsGrace) {
  enter(1);
  pass(seconds(5));
  enter(2);
  pass(kGrace - seconds(5) - milliseconds(1));
  EXPECT_THAT(overdue(), IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(overdue(), ElementsAre(1));
  pass(seconds(5) - milliseconds(1));
  EXPECT_THAT(overdue(), IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(overdue(), ElementsAre(2));
}

TEST_F(DeadlinesTest, OneThatMakesProgressHasItAgain) {
  enter(1);
  goes_on_ = true;
  pass(kGrace);
  EXPECT_THAT(overdue(), ElementsAre(1));
  goes_on_ = false;
  pass(kGrace - milliseconds(1));
  EXPECT_THAT(overdue(), IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(overdue(), ElementsAre(1));
}

TEST_F(DeadlinesTest, WhoIsNotWaitedForHasNone) {
  enter(1);
  admission_.pause(tickets_.at(1));
  pass(10 * kGrace);
  EXPECT_THAT(overdue(), IsEmpty());
  admission_.answered(tickets_.at(1), virtual_now);
  deadlines_.watch_strangers();
  pass(kGrace);
  EXPECT_THAT(overdue(), ElementsAre(1));
}

TEST_F(DeadlinesTest, ManyThatAreOverdueTakeSeveralRounds) {
  for (std::uint32_t number = 0; number < Deadlines::kHeardPerRound + 1; ++number) enter(number);
  // Not one after the other in a single round: others have their turn in between.
  int turns = 0;
  pass(kGrace - milliseconds(1));
  virtual_now += milliseconds(1);
  loop_.at(virtual_now, [&] { turns = static_cast<int>(overdue_.size()); });
  round();
  EXPECT_EQ(turns, Deadlines::kHeardPerRound);
  EXPECT_THAT(overdue(), SizeIs(Deadlines::kHeardPerRound + 1));
}

TEST_F(DeadlinesTest, APeerThatDoesNotReadHasAMinute) {
  enter(1);
  admission_.pause(tickets_.at(1));
  last_read_[1] = virtual_now;
  deadlines_.watch_reader(1);
  pass(seconds(60) - milliseconds(1));
  EXPECT_THAT(stalled_, IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(stalled_, ElementsAre(1));
}

TEST_F(DeadlinesTest, APeerThatReadsHasAnotherMinute) {
  last_read_[1] = virtual_now;
  deadlines_.opened();
  deadlines_.watch_reader(1);
  pass(seconds(59));
  last_read_[1] = virtual_now;
  pass(seconds(60) - milliseconds(1));
  EXPECT_THAT(stalled_, IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(stalled_, ElementsAre(1));
}

TEST_F(DeadlinesTest, APeerForWhomNothingWaitsHasNoDeadlineUntilSomethingDoes) {
  last_read_[1] = virtual_now;
  deadlines_.opened();
  deadlines_.watch_reader(1);
  pass(seconds(30));
  last_read_.erase(1);
  pass(seconds(100));
  EXPECT_THAT(stalled_, IsEmpty());
  last_read_[1] = virtual_now;
  deadlines_.watch_reader(1);
  deadlines_.watch_reader(1);  // once more changes nothing
  pass(seconds(60));
  EXPECT_THAT(stalled_, ElementsAre(1));
}

TEST_F(DeadlinesTest, AConnectionThatHasEndedHasNone) {
  last_read_[1] = virtual_now;
  deadlines_.opened();
  deadlines_.watch_reader(1);
  deadlines_.closed(1);
  last_read_.clear();
  pass(seconds(60));
  EXPECT_THAT(stalled_, IsEmpty());
}

TEST_F(DeadlinesTest, TimeInWhichWeDidNotRunIsNoticedAsLongAsThereAreConnections) {
  // One without any deadline: it waits for the administrator's approval.
  deadlines_.opened();
  pass(seconds(30));
  EXPECT_THAT(missed_, IsEmpty());
  virtual_now += std::chrono::hours(9);
  round();
  EXPECT_THAT(missed_, ElementsAre(virtual_now));
  pass(seconds(5));
  deadlines_.closed(1);
  pass(seconds(5));
  virtual_now += std::chrono::hours(9);
  round();
  EXPECT_THAT(missed_, SizeIs(1)) << "there is nobody for whom it matters";
}

TEST_F(DeadlinesTest, TimeInWhichWeDidNotRunIsHeldAgainstNoStranger) {
  enter(1);
  pass(kGrace - milliseconds(1));
  virtual_now += std::chrono::hours(9);
  round();
  EXPECT_THAT(overdue(), IsEmpty());
  pass(kGrace - milliseconds(1));
  EXPECT_THAT(overdue(), IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(overdue(), ElementsAre(1));
}

}  // namespace
}  // namespace mandos::networker
