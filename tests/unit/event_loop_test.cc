// SPDX-License-Identifier: GPL-3.0-or-later
// The event loop on virtual time: this file defines the clock that it reads.
#include "common/event_loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

namespace mandos {
namespace {

Instant virtual_now{std::chrono::hours(1)};

}  // namespace

BootClock::time_point BootClock::now() noexcept { return virtual_now; }
Moment Moment::now() noexcept { return {virtual_now, {}}; }

namespace {

using std::chrono::seconds;

TEST(EventLoopGap, ATimerThatIsReachedInTimeIsNoGap) {
  EventLoop loop;
  int gaps = 0;
  int fired = 0;
  loop.on_gap([&](Milliseconds) { ++gaps; });
  loop.after(seconds(5), [&] { ++fired; });
  virtual_now += seconds(5) + EventLoop::kGap - Milliseconds(1);
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(gaps, 0);
  EXPECT_EQ(fired, 1);
}

TEST(EventLoopGap, IsReportedBeforeAnythingIsServed) {
  EventLoop loop;
  std::vector<std::string> order;
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  loop.watch(ends[0], EPOLLIN, [&](std::uint32_t) {
    order.push_back("descriptor");
    loop.unwatch(ends[0]);
  });
  ASSERT_EQ(write(ends[1], "x", 1), 1);
  loop.on_gap(
      [&](Milliseconds late) { order.push_back("gap of " + std::to_string(late.count())); });
  loop.after(seconds(5), [&] { order.push_back("timer"); });
  virtual_now += seconds(5) + seconds(90);
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(order, (std::vector<std::string>{"gap of 90000", "descriptor", "timer"}));
  close(ends[0]);
  close(ends[1]);
}

TEST(EventLoopGap, OneWhileDescriptorsAreServedIsReportedBeforeTimersAndOnce) {
  EventLoop loop;
  std::vector<std::string> order;
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const auto stopped_for = [&](seconds time) {
    loop.watch(ends[0], EPOLLIN, [&, time](std::uint32_t) {
      order.push_back("descriptor");
      virtual_now += time;
      loop.unwatch(ends[0]);
    });
  };
  ASSERT_EQ(write(ends[1], "x", 1), 1);
  loop.on_gap(
      [&](Milliseconds late) { order.push_back("gap of " + std::to_string(late.count())); });
  loop.after(seconds(5), [&] { order.push_back("timer"); });
  stopped_for(seconds(95));
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(order, (std::vector<std::string>{"descriptor", "gap of 90000", "timer"}));
  order.clear();
  loop.after(seconds(5), [&] { order.push_back("timer"); });
  virtual_now += seconds(7);
  stopped_for(seconds(20));
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(order,
            (std::vector<std::string>{"gap of 2000", "descriptor", "gap of 20000", "timer"}));
  close(ends[0]);
  close(ends[1]);
}

TEST(EventLoopGap, ALoopThatOnlyWaitedLongHadNone) {
  EventLoop loop;
  int gaps = 0;
  loop.on_gap([&](Milliseconds) { ++gaps; });
  virtual_now += std::chrono::hours(5);
  loop.run_once(Milliseconds(0));
  loop.after(std::chrono::hours(9), [] {});
  virtual_now += std::chrono::hours(5);
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(gaps, 0);
}

}  // namespace
}  // namespace mandos
