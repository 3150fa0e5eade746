// SPDX-License-Identifier: GPL-3.0-or-later
// What becomes of a reload, in every order of events, on virtual time: this file defines the clock.
#include "supervisor/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "common/channel.h"

namespace mandos {
namespace {

Instant virtual_now{std::chrono::hours(1)};

}  // namespace

BootClock::time_point BootClock::now() noexcept { return virtual_now; }
Moment Moment::now() noexcept { return {virtual_now, {}}; }

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr pid_t kInspector = 1 << 30;  // no process has this number
constexpr int kGood = 0;
constexpr int kBad = 1 << 8;  // wait(2): exit status 1

class ReloadsTest : public testing::Test {
 protected:
  ReloadsTest() { reloads_.monitor_ready(true, ""); }

  /// What was logged since the last time.
  std::vector<std::string> log() {
    std::vector<std::string> lines;
    std::array<char, 2048> buffer{};
    ssize_t size = 0;
    while ((size = recv(log_socket_.first.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0) {
      lines.emplace_back(buffer.data() + 1, static_cast<std::size_t>(size) - 1);
    }
    return lines;
  }
  /// The files are good.
  void judged() { EXPECT_TRUE(reloads_.ended(kInspector, kGood)); }
  void pass(Milliseconds time) {
    virtual_now += time;
    loop_.run_once(Milliseconds(0));
  }

  EventLoop loop_;
  DoorPair log_socket_ = std::move(*make_door());
  Log log_ = Log::to_socket(log_socket_.second.get(), LogLevel::kDebug);
  std::vector<std::uint64_t> asked_;
  std::string report_;
  int inspections_ = 0;
  int renewals_ = 0;
  std::string shown_ = "not yet";
  bool can_inspect_ = true;
  Reloads reloads_{loop_,
                   log_,
                   {.ask = [this](std::uint64_t serial) { asked_.push_back(serial); },
                    .inspect = [this](int output) -> Result<pid_t> {
                      if (!can_inspect_) return Error{"cannot be started"};
                      ++inspections_;
                      send(output, report_.data(), report_.size(), 0);
                      return kInspector;
                    },
                    .renew = [this] { ++renewals_; },
                    .on_errors = [this] { shown_ = reloads_.errors(); }}};
};

TEST_F(ReloadsTest, TheFilesAreJudgedAndThenTheMonitorReadsOnce) {
  reloads_.request();
  EXPECT_EQ(inspections_, 1);
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_FALSE(reloads_.ended(kInspector + 1, kGood));
  EXPECT_TRUE(reloads_.ended(kInspector, kGood));
  EXPECT_THAT(asked_, ElementsAre(1));
  reloads_.answered(1, true, false, "");
  pass(kLongestReload * 2);
  EXPECT_THAT(asked_, ElementsAre(1));
  EXPECT_EQ(inspections_, 1);
  EXPECT_EQ(renewals_, 0);
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ReloadsTest, WhoeverAsksWhileTheFilesAreReadIsServedByTheNext) {
  for (int i = 0; i < 3; ++i) reloads_.request();
  EXPECT_EQ(inspections_, 1);
  judged();
  reloads_.answered(1, true, false, "");
  EXPECT_EQ(inspections_, 2);
  judged();
  reloads_.answered(2, true, false, "");
  EXPECT_EQ(inspections_, 2);
  EXPECT_THAT(asked_, ElementsAre(1, 2));
}

TEST_F(ReloadsTest, AMonitorThatIsNotReadyIsAskedWhenItIs) {
  reloads_.monitor_ended();
  reloads_.request();
  reloads_.monitor_ended();
  EXPECT_EQ(inspections_, 0);
  reloads_.monitor_ready(true, "");
  judged();
  EXPECT_THAT(asked_, ElementsAre(1));
}

TEST_F(ReloadsTest, WhatTheMonitorCannotReadRenewsItOnceItYields) {
  reloads_.request();
  report_ = "ok: all\n";
  judged();
  EXPECT_EQ(renewals_, 0);
  reloads_.answered(1, false, true, "Permission denied\n");
  EXPECT_EQ(renewals_, 1);
  reloads_.answered(1, false, false, "the disk is too slow\n");  // the other answer, too late
  reloads_.monitor_ended();
  reloads_.monitor_ready(true, "");
  EXPECT_THAT(log(), IsEmpty());
  EXPECT_THAT(asked_, ElementsAre(1));
  reloads_.request();
  judged();
  EXPECT_THAT(asked_, ElementsAre(1, 2));
}

TEST_F(ReloadsTest, AMonitorThatDoesNotYieldStaysAndSaysWhy) {
  reloads_.request();
  judged();
  reloads_.answered(1, false, false, "the disk is too slow\n");
  EXPECT_EQ(renewals_, 0);
  EXPECT_THAT(log(), ElementsAre("the disk is too slow"));
}

TEST_F(ReloadsTest, ErrorsAskNobodyAndAreLogged) {
  report_ = "ok: one\nwarning: two\nFAILED: three\nFAILED: four";
  reloads_.request();
  EXPECT_TRUE(reloads_.ended(kInspector, kBad));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_EQ(renewals_, 0);
  EXPECT_THAT(log(), ElementsAre("warning: two", "three", "four",
                                 "nothing was changed: the configuration has errors"));
  EXPECT_THAT(shown_, HasSubstr("configuration has errors since 20"));
  reloads_.request();
  judged();
  EXPECT_THAT(asked_, ElementsAre(1));
  EXPECT_EQ(shown_, "");
}

TEST_F(ReloadsTest, AnInspectionThatIsKilledChangesNothing) {
  reloads_.request();
  EXPECT_TRUE(reloads_.ended(kInspector, SIGKILL));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_EQ(renewals_, 0);
  // Nobody has judged the files.
  EXPECT_THAT(log(), ElementsAre("nothing was changed: the configuration could not be checked "
                                 "(killed by signal 9)"));
  EXPECT_EQ(shown_, "not yet");
}

// Its program is missing, such as during an upgrade.
TEST_F(ReloadsTest, AnInspectionThatDoesNotBeginSaysNothingOfTheFiles) {
  report_ = "mandos: its program: No such file or directory\n";
  reloads_.request();
  EXPECT_TRUE(reloads_.ended(kInspector, 127 << 8));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_THAT(log(), ElementsAre("mandos: its program: No such file or directory",
                                 "nothing was changed: the configuration could not be checked "
                                 "(exit status 127)"));
  EXPECT_EQ(shown_, "not yet");
}

// An error in the settings that is not one of a file, such as a missing port.
TEST_F(ReloadsTest, AnInspectionThatFindsTheUsageWrongHasJudged) {
  reloads_.request();
  EXPECT_TRUE(reloads_.ended(kInspector, 2 << 8));
  EXPECT_THAT(shown_, HasSubstr("configuration has errors since 20"));
}

TEST_F(ReloadsTest, AnInspectionThatCannotBeStartedChangesNothing) {
  can_inspect_ = false;
  reloads_.request();
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_THAT(log(), ElementsAre("cannot be started"));
}

TEST_F(ReloadsTest, AnInspectionThatTakesLongChangesNothing) {
  reloads_.request();
  pass(kLongestInspection - Milliseconds(1));
  EXPECT_THAT(log(), IsEmpty());
  pass(Milliseconds(1));
  EXPECT_THAT(log(), ElementsAre(HasSubstr("longer than 12 s")));
  // What it would have said has no say any more.
  EXPECT_FALSE(reloads_.ended(kInspector, kGood));
  EXPECT_EQ(reloads_.inspector(), -1);
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(ReloadsTest, AReportIsReadToItsEndAndBounded) {
  report_ = "FAILED: " + std::string(100'000, 'x') + "\n";
  reloads_.request();
  loop_.run_once(Milliseconds(0));
  EXPECT_TRUE(reloads_.ended(kInspector, kBad));
  EXPECT_THAT(log(), ElementsAre("and 1 more, which mandos --check prints", HasSubstr("nothing")));
}

TEST_F(ReloadsTest, AReportIsNoLongerThanAllowed) {
  for (int line = 0; line < 40; ++line) report_ += "FAILED: " + std::string(1000, 'x') + "\n";
  reloads_.request();
  loop_.run_once(Milliseconds(0));
  EXPECT_TRUE(reloads_.ended(kInspector, kBad));
  // Whole lines, 16 KiB at most; how many there are besides; and the verdict.
  const auto lines = log();
  ASSERT_EQ(lines.size(), 18U);
  EXPECT_EQ(lines[15], std::string(1000, 'x'));
  EXPECT_EQ(lines[16], "and 24 more, which mandos --check prints");
  // The next report begins anew.
  report_ = "ok: one\nFAILED: two\n";
  reloads_.request();
  EXPECT_TRUE(reloads_.ended(kInspector, kBad));
  EXPECT_THAT(log(), ElementsAre("two", HasSubstr("nothing")));
}

// The files were judged, and then changed: what the monitor that read them found counts.
TEST_F(ReloadsTest, AFreshMonitorThatServesNotAllIsAFailure) {
  reloads_.request();
  judged();
  reloads_.answered(1, false, true, "Permission denied\n");
  reloads_.monitor_ended();
  reloads_.monitor_ready(false, "one is wrong\n");
  EXPECT_THAT(log(),
              ElementsAre("one is wrong", HasSubstr("without the clients that have errors")));
  // Of a start that nobody asked for, nobody is told.
  reloads_.monitor_ended();
  reloads_.monitor_ready(false, "one is wrong\n");
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ReloadsTest, AFreshMonitorThatCannotStartIsAFailure) {
  reloads_.request();
  judged();
  reloads_.answered(1, false, true, "");
  reloads_.monitor_ended();
  EXPECT_THAT(log(), IsEmpty());
  reloads_.monitor_ended();
  EXPECT_THAT(log(), ElementsAre(HasSubstr("fresh monitor could not start")));
}

TEST_F(ReloadsTest, AMonitorThatEndsWhileItReadsOrWhileOthersJudgeIsAFailure) {
  reloads_.request();
  judged();
  reloads_.monitor_ended();
  EXPECT_THAT(log(), ElementsAre("the monitor ended meanwhile"));
  reloads_.monitor_ready(true, "");
  reloads_.request();
  reloads_.monitor_ended();
  EXPECT_THAT(log(), ElementsAre("the monitor ended meanwhile"));
  // What it would have said has no say any more.
  EXPECT_FALSE(reloads_.ended(kInspector, kGood));
  EXPECT_EQ(renewals_, 0);
  EXPECT_EQ(reloads_.inspector(), -1);
}

TEST_F(ReloadsTest, IsOverAtItsDeadlineInEveryState) {
  reloads_.request();
  judged();
  pass(kLongestReload - Milliseconds(1));
  EXPECT_THAT(log(), IsEmpty());
  pass(Milliseconds(1));
  EXPECT_THAT(log(), ElementsAre("no answer within 40 s"));
  // The late answer is to the question of that time.
  reloads_.request();
  judged();
  EXPECT_THAT(asked_, ElementsAre(1, 2));
  reloads_.request();
  reloads_.answered(1, true, false, "");
  EXPECT_EQ(inspections_, 2);
  reloads_.answered(2, true, false, "");
  EXPECT_EQ(inspections_, 3);
  judged();
  reloads_.answered(3, false, true, "");
  pass(kLongestReload);
  EXPECT_THAT(log(), ElementsAre(HasSubstr("does not serve yet after 40 s")));
  reloads_.monitor_ended();
  reloads_.request();
  pass(kLongestReload);
  EXPECT_THAT(log(), ElementsAre("no answer within 40 s"));
}

TEST_F(ReloadsTest, TimeInWhichNobodyRanDoesNotCount) {
  reloads_.request();
  const Milliseconds tick(1000);  // by which the gap is noticed
  const auto asleep = [&] {
    loop_.after(tick, [] {});
    pass(kLongestReload * 10);
    EXPECT_THAT(log(), IsEmpty());
  };
  asleep();
  pass(kLongestInspection - tick * 2);
  judged();
  asleep();
  pass(kLongestReload - kLongestInspection - Milliseconds(1));
  EXPECT_THAT(log(), IsEmpty());
  pass(tick);
  EXPECT_THAT(log(), ElementsAre("no answer within 40 s"));
}

}  // namespace
}  // namespace supervisor
}  // namespace mandos
