// SPDX-License-Identifier: GPL-3.0-or-later
// When what goes to disk, and who is told when, on virtual time and a disk that the test drives.
#include "monitor/saver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/memory_disk.h"

namespace mandos {
namespace {
Instant virtual_now{std::chrono::hours(1)};
}  // namespace
BootClock::time_point BootClock::now() noexcept { return virtual_now; }
Moment Moment::now() noexcept { return {virtual_now, WallTime{}}; }
}  // namespace mandos

namespace mandos::monitor::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

class SaverTest : public testing::Test {
 protected:
  SaverTest() { disk_.automatic = false; }

  void set(const std::string& name, int value) {
    clients_[name] = value;
    saver_.changed(name);
  }
  void set_and_confirm(const std::string& name, int value) {
    set(name, value);
    confirm(name);
  }
  void confirm(const std::string& name) {
    saver_.confirm(name, [this, name](const Status& saved) {
      answers_.emplace_back(name, saved ? "" : saved.error());
    });
  }
  /// Time passes, and what is due is done.
  void pass(Milliseconds time) {
    virtual_now += time;
    for (int i = 0; i < 3; ++i) loop_.run_once(Milliseconds(0));
  }
  std::vector<std::string> in_flight() const {
    std::vector<std::string> names;
    if (disk_.busy())
      for (const auto& change : disk_.in_flight()) names.push_back(change.client);
    return names;
  }
  int kept(const std::string& name) {
    const auto found = disk_.kept.find(name);
    return found == disk_.kept.end() ? -1 : found->second.client.last_checker_status();
  }

  EventLoop loop_;
  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  MemoryDisk disk_{loop_};
  std::map<std::string, int> clients_;
  std::vector<std::pair<std::string, std::string>> answers_;
  Saver saver_{loop_, log_, disk_, [this](const std::string& name) -> std::optional<Saved> {
                 const auto found = clients_.find(name);
                 if (found == clients_.end()) return std::nullopt;
                 Saved saved;
                 saved.client.set_name(name);
                 saved.client.set_last_checker_status(found->second);
                 return saved;
               }};
};

TEST_F(SaverTest, NothingIsConfirmedBeforeTheDiskHasFinished) {
  set_and_confirm("one", 1);
  pass(std::chrono::seconds(0));
  EXPECT_THAT(in_flight(), ElementsAre("one"));
  pass(std::chrono::hours(1));
  EXPECT_THAT(answers_, IsEmpty());
  disk_.finish();
  EXPECT_THAT(answers_, ElementsAre(Pair("one", "")));
  EXPECT_EQ(kept("one"), 1);
  EXPECT_TRUE(saver_.idle());
}

TEST_F(SaverTest, AChangeDuringATransactionWaitsForTheNext) {
  set_and_confirm("one", 1);
  pass(std::chrono::seconds(0));
  set_and_confirm("one", 2);
  set_and_confirm("two", 2);
  pass(std::chrono::minutes(1));
  disk_.finish();
  EXPECT_THAT(answers_, ElementsAre(Pair("one", "")));
  EXPECT_EQ(kept("one"), 1);
  pass(std::chrono::seconds(0));
  EXPECT_THAT(in_flight(), ElementsAre("one", "two"));
  disk_.finish();
  EXPECT_THAT(answers_, ElementsAre(Pair("one", ""), Pair("one", ""), Pair("two", "")));
  EXPECT_EQ(kept("one"), 2);
}

TEST_F(SaverTest, AskedAgainWithoutAChangeWaitsForTheOneInFlight) {
  set_and_confirm("one", 1);
  pass(std::chrono::seconds(0));
  confirm("one");
  EXPECT_THAT(answers_, IsEmpty());
  disk_.finish();
  EXPECT_THAT(answers_, SizeIs(2));
  confirm("one");
  EXPECT_THAT(answers_, SizeIs(3));
  pass(std::chrono::seconds(0));
  EXPECT_EQ(disk_.begun, 1U);
}

TEST_F(SaverTest, WhatNobodyWaitsForIsGathered) {
  set("one", 1);
  pass(Saver::kGather / 2);
  set("two", 2);
  EXPECT_FALSE(disk_.busy());
  pass(Saver::kGather / 2);
  EXPECT_THAT(in_flight(), ElementsAre("one", "two"));
  disk_.finish();
  EXPECT_TRUE(saver_.idle());
}

TEST_F(SaverTest, AFailureIsToldNeverConfirmedAndTriedAgain) {
  set_and_confirm("one", 1);
  pass(std::chrono::seconds(0));
  disk_.fail("no space");
  EXPECT_THAT(answers_, ElementsAre(Pair("one", "no space")));
  EXPECT_FALSE(saver_.idle());
  pass(Saver::kGather);
  EXPECT_THAT(in_flight(), ElementsAre("one"));
  disk_.fail("no space");
  // What is asked for again is as little on disk.
  confirm("one");
  pass(std::chrono::seconds(0));
  EXPECT_THAT(answers_, SizeIs(1));
  disk_.finish();
  EXPECT_THAT(answers_, ElementsAre(Pair("one", "no space"), Pair("one", "")));
  EXPECT_TRUE(saver_.idle());
}

TEST_F(SaverTest, ARemovalIsAChange) {
  set_and_confirm("one", 1);
  pass(std::chrono::seconds(0));
  disk_.finish();
  clients_.erase("one");
  saver_.changed("one");
  confirm("one");
  pass(std::chrono::seconds(0));
  EXPECT_EQ(kept("one"), 1);
  // Comes back while its removal is in flight.
  set_and_confirm("one", 5);
  disk_.finish();
  EXPECT_EQ(kept("one"), -1);
  pass(std::chrono::seconds(0));
  disk_.finish();
  EXPECT_EQ(kept("one"), 5);
  EXPECT_THAT(answers_, SizeIs(3));
}

TEST_F(SaverTest, NoTransactionHasMoreThanItMay) {
  for (std::size_t i = 0; i < 3 * Saver::kMost; ++i) set("stamp" + std::to_string(i), 1);
  pass(Saver::kGather);
  EXPECT_THAT(in_flight(), SizeIs(Saver::kMost));
  for (std::size_t i = 0; i < 2 * Saver::kMost; ++i) set_and_confirm("a" + std::to_string(i), 1);
  // Those that are waited for come first, and do not keep the others out.
  disk_.finish();
  pass(std::chrono::seconds(0));
  const auto names = in_flight();
  EXPECT_THAT(names, SizeIs(Saver::kMost));
  EXPECT_EQ(std::ranges::count_if(names, [](const auto& name) { return name[0] == 'a'; }),
            Saver::kMost * 3 / 4);
  for (int i = 0; i < 20 && !saver_.idle(); ++i) {
    if (disk_.busy()) disk_.finish();
    pass(std::chrono::seconds(0));
  }
  EXPECT_TRUE(saver_.idle());
  EXPECT_THAT(disk_.kept, SizeIs(5 * Saver::kMost));
}

TEST_F(SaverTest, AFlushIsOverWhenEverythingUntilThenWasTried) {
  std::vector<std::string> flushed;
  const auto flush = [&] {
    saver_.flush([&](const Status& saved) { flushed.push_back(saved ? "" : saved.error()); });
  };
  set_and_confirm("one", 1);
  pass(std::chrono::seconds(0));
  set("one", 2);
  set("two", 2);
  flush();
  // Later ones do not make it longer.
  pass(std::chrono::seconds(0));
  disk_.finish();
  pass(std::chrono::seconds(0));
  EXPECT_THAT(in_flight(), ElementsAre("one", "two"));
  set("three", 3);
  EXPECT_THAT(flushed, IsEmpty());
  disk_.finish();
  EXPECT_THAT(flushed, ElementsAre(""));
  EXPECT_EQ(kept("one"), 2);

  flush();
  pass(std::chrono::seconds(0));
  disk_.fail("no disk");
  EXPECT_THAT(flushed, ElementsAre("", "no disk"));
  pass(Saver::kGather);
  disk_.finish();
  flush();
  pass(std::chrono::seconds(0));
  EXPECT_THAT(flushed, ElementsAre("", "no disk", ""));
}

TEST_F(SaverTest, ASaverThatIsGoneIsNotToldOfTheDisk) {
  auto other = std::make_unique<Saver>(loop_, log_, disk_,
                                       [](const std::string&) { return std::optional<Saved>(); });
  bool answered = false;
  other->changed("one");
  other->confirm("one", [&answered](const Status&) { answered = true; });
  pass(std::chrono::seconds(0));
  ASSERT_TRUE(disk_.busy());
  other.reset();
  disk_.finish();
  pass(Saver::kSlow);
  EXPECT_FALSE(answered);
}

}  // namespace
}  // namespace mandos::monitor::test
