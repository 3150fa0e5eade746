// SPDX-License-Identifier: GPL-3.0-or-later
// The event loop on virtual time: this file defines the clock that it reads.
#include "common/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <fstream>
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

// A callback that blocks, or a stop in the middle of a round: whoever is served next must know.
TEST(EventLoopGap, IsReportedBeforeTheNextDescriptorAndTheNextTimerOfARound) {
  EventLoop loop;
  std::vector<std::string> order;
  std::array<std::array<int, 2>, 2> pipes{};
  for (auto& ends : pipes) {
    ASSERT_EQ(pipe(ends.data()), 0);
    loop.watch(ends[0], EPOLLIN, [&](std::uint32_t) {
      order.push_back("descriptor");
      virtual_now += seconds(90);
      loop.unwatch(ends[0]);
    });
    ASSERT_EQ(write(ends[1], "x", 1), 1);
  }
  loop.on_gap(
      [&](Milliseconds late) { order.push_back("gap of " + std::to_string(late.count())); });
  for (int i = 0; i < 2; ++i) {
    loop.after(Milliseconds(0), [&] {
      order.push_back("timer");
      virtual_now += seconds(30);
    });
  }
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(order, (std::vector<std::string>{"descriptor", "gap of 90000", "descriptor",
                                             "gap of 90000", "timer", "gap of 30000", "timer"}));
  for (const auto& ends : pipes) {
    close(ends[0]);
    close(ends[1]);
  }
}

// Who hears of a gap moves deadlines that were due, or takes them back.
TEST(EventLoopGap, ATimerThatIsMovedForItDoesNotFire) {
  EventLoop loop;
  int fired = 0;
  const auto early = loop.after(seconds(5), [&] { ++fired; });
  loop.on_gap([&](Milliseconds late) {
    loop.cancel(early);
    loop.after(late, [&] { ++fired; });
  });
  virtual_now += seconds(95);
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(fired, 0);
  virtual_now += seconds(90);
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(fired, 1);
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

TEST(EventLoop, TimersFireInTheirOrderAndNotBeforeTheirTime) {
  EventLoop loop;
  std::string order;
  const Instant start = virtual_now;
  loop.at(start + seconds(3), [&] { order += 'c'; });
  loop.run_once(Milliseconds(0));
  loop.at(start + seconds(1), [&] { order += 'a'; });
  loop.at(start + seconds(2), [&] { order += 'b'; });
  const auto cancelled = loop.at(start + seconds(2), [&] { order += 'x'; });
  loop.cancel(cancelled);
  std::string expected;
  for (const char next : {'a', 'b', 'c'}) {
    virtual_now += Milliseconds(999);
    loop.run_once(Milliseconds(0));
    EXPECT_EQ(order, expected);
    virtual_now += Milliseconds(1);
    loop.run_once(Milliseconds(0));
    EXPECT_EQ(order, expected += next);
  }
}

/// What the timer descriptor of `loop` is set to, since boot, by proc(5), /proc/PID/fdinfo.
std::string timer_of(const EventLoop& loop) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(loop.timer_fd()));
  std::string all;
  for (std::string line; std::getline(info, line);) all += line + "\n";
  return all;
}

TEST(EventLoop, TheTimerDescriptorIsSetToTheEarliestOnTheClockOfTheBoot) {
  EventLoop loop;
  const auto wakes_within = [&loop](int most_seconds) {
    const std::string info = timer_of(loop);
    const auto at = info.find("it_value: (");
    return at != info.npos && std::stol(info.substr(at + 11)) <= most_seconds;
  };
  EXPECT_NE(timer_of(loop).find("clockid: " + std::to_string(CLOCK_BOOTTIME)), std::string::npos);
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const Instant real{seconds(now.tv_sec)};
  loop.at(real + seconds(5000), [] {});
  loop.run_once(Milliseconds(0));
  EXPECT_FALSE(wakes_within(1000));
  loop.at(real + seconds(500), [] {});
  loop.run_once(Milliseconds(0));
  EXPECT_TRUE(wakes_within(1000));
}

TEST(EventLoop, WhoIsNotWatchedAnyMoreIsNotCalledInTheSameRound) {
  EventLoop loop;
  std::array<int, 2> one{};
  std::array<int, 2> two{};
  ASSERT_EQ(pipe(one.data()), 0);
  ASSERT_EQ(pipe(two.data()), 0);
  int calls = 0;
  const auto unwatch_both = [&](std::uint32_t) {
    ++calls;
    loop.unwatch(one[0]);
    loop.unwatch(two[0]);
  };
  loop.watch(one[0], EPOLLIN, unwatch_both);
  loop.watch(two[0], EPOLLIN, unwatch_both);
  ASSERT_EQ(write(one[1], "x", 1), 1);
  ASSERT_EQ(write(two[1], "x", 1), 1);
  loop.run_once(Milliseconds(0));
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(calls, 1);
  for (const int fd : {one[0], one[1], two[0], two[1]}) close(fd);
}

TEST(EventLoop, NothingRunsAfterTheEnd) {
  EventLoop loop;
  int late = 0;
  loop.after(seconds(1), [&] { loop.stop(3); });
  loop.after(seconds(2), [&] { ++late; });
  virtual_now += seconds(2);
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(late, 0);
  EXPECT_EQ(loop.run(), 3);
}

TEST(EventLoop, SignalsThatCameTogetherAreAllTold) {
  EventLoop loop;
  std::vector<int> caught;
  loop.on_signals({SIGUSR1, SIGUSR2}, [&](int signal) { caught.push_back(signal); });
  raise(SIGUSR1);
  raise(SIGUSR2);
  loop.run_once(Milliseconds(0));
  EXPECT_EQ(caught, (std::vector<int>{SIGUSR1, SIGUSR2}));
}

}  // namespace
}  // namespace mandos
