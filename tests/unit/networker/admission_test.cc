// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/admission.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace mandos::networker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const Instant kStart{std::chrono::hours(1)};

Source source(unsigned number) {
  Source result;
  result.address[14] = static_cast<unsigned char>(number >> 8);
  result.address[15] = static_cast<unsigned char>(number);
  return result;
}

Admission::Bounds bounds(std::size_t connections, std::size_t per_source) {
  return {connections, per_source, seconds(10)};
}

TEST(Admission, TakesAsManyStrangersAsAllowed) {
  Admission admission(bounds(3, 3));
  for (unsigned i = 0; i < 3; ++i) {
    ASSERT_FALSE(admission.full());
    ASSERT_TRUE(admission.ask(source(i), kStart).welcome);
    admission.enter(i, source(i), kStart);
  }
  EXPECT_TRUE(admission.full());
  EXPECT_FALSE(admission.ask(source(9), kStart).welcome) << "all are young";
}

TEST(Admission, WhenFullTheOldestGoesOnceItHadItsChance) {
  Admission admission(bounds(2, 2));
  admission.enter(7, source(1), kStart);
  admission.enter(8, source(2), kStart + milliseconds(1));
  const Instant chance = kStart + Admission::kChanceInRush;
  EXPECT_EQ(admission.oldest_may_go(), chance);
  EXPECT_FALSE(admission.ask(source(3), chance - milliseconds(1)).welcome);
  const auto answer = admission.ask(source(3), chance);
  EXPECT_TRUE(answer.welcome);
  EXPECT_EQ(answer.instead_of, 7U);
}

TEST(Admission, WhenFullTheLargestCrowdMakesRoomAtOnce) {
  Admission admission(bounds(Admission::kCrowd + 10, 100));
  std::uint32_t next = 0;
  for (unsigned i = 0; i < 10; ++i) admission.enter(next++, source(i), kStart);
  std::vector<Admission::Ticket> crowd;
  while (!admission.full()) crowd.push_back(admission.enter(next++, source(77), kStart));
  ASSERT_TRUE(admission.crowded());
  EXPECT_FALSE(admission.ask(source(77), kStart).welcome) << "one more of the crowd";
  const auto answer = admission.ask(source(3), kStart);
  EXPECT_TRUE(answer.welcome);
  EXPECT_EQ(answer.instead_of, crowd.front()->connection);
  admission.leave(crowd.front());
  admission.enter(next, source(3), kStart);
  EXPECT_FALSE(admission.crowded()) << "what is left is no crowd";
  EXPECT_FALSE(admission.ask(source(4), kStart).welcome);
}

TEST(Admission, CrowdsOfOneSizeDoNotEndWhoCameAlone) {
  Admission admission(bounds(1 + 2 * Admission::kCrowd, 100));
  admission.enter(7, source(1), kStart);  // whose nonce is late, for one
  const Instant later = kStart + milliseconds(500);
  std::uint32_t next = 100;
  for (unsigned i = 0; !admission.full(); ++i) admission.enter(next++, source(50 + i % 2), later);
  const Instant chance = later + Admission::kFairChance;
  EXPECT_FALSE(admission.ask(source(50), chance - milliseconds(1)).welcome);
  for (const unsigned crowd : {50U, 51U}) {
    const auto answer = admission.ask(source(crowd), chance);
    EXPECT_TRUE(answer.welcome);
    EXPECT_EQ(answer.instead_of, crowd + 50) << "its own first";
  }
}

// The numbers of mandos.conf(5).
TEST(Admission, EightOfOneSourceAreACrowdAndOthersHaveFourSeconds) {
  for (const unsigned size : {7U, 8U}) {
    Admission admission(bounds(20, 20));
    std::uint32_t next = 0;
    while (next < size) admission.enter(next++, source(77), kStart);
    while (!admission.full()) admission.enter(next, source(next), kStart), ++next;
    EXPECT_EQ(admission.ask(source(3), kStart).welcome, size == 8) << size;
    EXPECT_EQ(admission.ask(source(3), kStart + milliseconds(3999)).welcome, size == 8) << size;
    EXPECT_TRUE(admission.ask(source(3), kStart + seconds(4)).welcome) << size;
  }
}

TEST(Admission, AShortGraceShortensTheFairChance) {
  Admission admission({1, 1, milliseconds(200)});
  admission.enter(7, source(1), kStart);
  EXPECT_EQ(admission.oldest_may_go(), kStart + milliseconds(200));
}

TEST(Admission, ASourceCannotTakeThePlacesOfOthers) {
  Admission admission(bounds(100, 2));
  admission.enter(1, source(1), kStart);
  admission.enter(2, source(1), kStart + milliseconds(5));
  EXPECT_FALSE(admission.ask(source(1), kStart + milliseconds(10)).welcome);
  EXPECT_TRUE(admission.ask(source(2), kStart + milliseconds(10)).welcome);
  // Later its own oldest makes room, not somebody else's.
  admission.enter(3, source(2), kStart - seconds(1));
  const auto answer = admission.ask(source(1), kStart + Admission::kFairChance);
  EXPECT_TRUE(answer.welcome);
  EXPECT_EQ(answer.instead_of, 1U);
}

TEST(Admission, PlacesAreGivenBack) {
  Admission admission(bounds(1, 1));
  const auto first = admission.enter(1, source(1), kStart);
  admission.leave(first);
  EXPECT_FALSE(admission.waiting());
  const auto second = admission.enter(2, source(1), kStart);
  ASSERT_TRUE(admission.establish(second));
  EXPECT_TRUE(admission.ask(source(1), kStart).welcome);
}

TEST(Admission, EstablishedOnesAreCountedApartAndNeverEndedForStrangers) {
  Admission admission(bounds(2, 2));
  for (const unsigned from : {1U, 5U, 6U, 7U}) {  // twice as many as strangers
    ASSERT_TRUE(admission.establish(admission.enter(from + 10, source(from), kStart)));
  }
  admission.enter(3, source(2), kStart);
  const auto fourth = admission.enter(4, source(2), kStart);
  EXPECT_EQ(admission.ask(source(3), kStart + seconds(5)).instead_of, 3U);
  EXPECT_FALSE(admission.establish(fourth)) << "too many are established";
  EXPECT_EQ(admission.ask(source(3), kStart + seconds(5)).instead_of, 3U);
  admission.leave_established(source(1));
  EXPECT_TRUE(admission.establish(fourth));
}

TEST(Admission, GraceEndsInTheOrderOfArrival) {
  Admission admission(bounds(5, 5));
  const auto first = admission.enter(1, source(1), kStart);
  admission.enter(2, source(1), kStart + seconds(1));
  EXPECT_EQ(admission.oldest_overdue(), kStart + seconds(10));
  admission.leave(first);
  EXPECT_EQ(admission.oldest().connection, 2U);
  EXPECT_EQ(admission.oldest_overdue(), kStart + seconds(11));
}

TEST(Admission, OneSourceCannotHaveEveryPlaceOfTheEstablished) {
  Admission admission(bounds(10, 2));
  for (std::uint32_t i = 0; i < 2 * door::networker::kProvenForEachUnproven; ++i) {
    ASSERT_TRUE(admission.establish(admission.enter(i, source(1), kStart)));
  }
  const auto more = admission.enter(13, source(1), kStart);
  EXPECT_FALSE(admission.establish(more));
  EXPECT_TRUE(admission.establish(admission.enter(14, source(2), kStart)));
  admission.leave_established(source(1));
  EXPECT_TRUE(admission.establish(more));
  for (const unsigned one : {1U, 1U, 1U, 1U, 2U}) admission.leave_established(source(one));
  EXPECT_TRUE(admission.establish(admission.enter(15, source(1), kStart)));
}

TEST(Admission, WhoWasAnsweredIsWaitedForAnew) {
  Admission admission(bounds(2, 2));
  const auto first = admission.enter(7, source(1), kStart);
  admission.pause(first);
  EXPECT_FALSE(admission.waiting());
  admission.enter(8, source(2), kStart + seconds(90));
  EXPECT_EQ(admission.oldest().connection, 8U);
  admission.answered(first, kStart + seconds(89));
  EXPECT_EQ(admission.oldest().connection, 7U);
  EXPECT_EQ(admission.oldest_overdue(), kStart + seconds(99));
  EXPECT_EQ(admission.oldest_may_go(), kStart + seconds(89) + Admission::kChanceInRush);
  admission.answered(first, kStart + seconds(91));
  EXPECT_EQ(admission.oldest().connection, 8U) << "a second answer, without a pause";
  admission.leave(first);
  EXPECT_EQ(admission.oldest().connection, 8U);
}

TEST(Admission, WhoWaitsForUsMakesRoomForNobody) {
  Admission admission(bounds(2, 1));
  const auto first = admission.enter(7, source(1), kStart);
  const auto second = admission.enter(8, source(2), kStart + seconds(1));
  admission.pause(first);
  EXPECT_FALSE(admission.ask(source(1), kStart + seconds(9)).welcome) << "of its own source";
  EXPECT_EQ(admission.ask(source(3), kStart + seconds(9)).instead_of, 8U);
  admission.pause(second);
  EXPECT_FALSE(admission.ask(source(3), kStart + seconds(9)).welcome);
  admission.leave(first);
  EXPECT_TRUE(admission.ask(source(3), kStart + seconds(9)).welcome);
}

TEST(Admission, OfACrowdTheOneGoesThatIsWaitedForTheLongest) {
  Admission admission(bounds(Admission::kCrowd, 100));
  std::vector<Admission::Ticket> crowd;
  for (std::uint32_t i = 0; !admission.full(); ++i) {
    crowd.push_back(admission.enter(i, source(1), kStart + milliseconds(i)));
  }
  for (const auto& member : crowd) {
    EXPECT_EQ(admission.ask(source(2), kStart + seconds(1)).instead_of, member->connection);
    admission.pause(member);
  }
  const auto answer = admission.ask(source(2), kStart + seconds(1));
  EXPECT_TRUE(answer.welcome && answer.instead_of) << "a crowd holds no place against others";
}

TEST(Admission, NewcomersAreFewerThanTheMonitorTakesForAnAttack) {
  Admission admission(bounds(5, 5));
  const auto turns = [&](Instant from, Instant until) {
    double count = 0;
    for (Instant now = from; now < until; now += std::chrono::microseconds(10)) {
      if (!admission.has_turn(now)) continue;
      admission.leave(admission.enter(1, source(1), now));
      ++count;
    }
    return count;
  };
  // Opens a second, and twice as many at once: SECURITY.md, which is compared with the monitor.
  constexpr double kOfTheDoor = 20'000;
  EXPECT_LT(turns(kStart, kStart + seconds(1)), kOfTheDoor * 1.01) << "with what is saved up";
  const double steady = turns(kStart + seconds(1), kStart + seconds(3)) / 2;
  EXPECT_NEAR(steady, Admission::kMostPerSecond, 10);
  EXPECT_LT(steady, kOfTheDoor);
}

TEST(Admission, SaysWhoseBoundItIs) {
  Admission admission(bounds(3, 1));
  admission.enter(1, source(1), kStart);
  EXPECT_TRUE(admission.ask(source(1), kStart).source_full);
  EXPECT_FALSE(admission.ask(source(1), kStart + Admission::kFairChance).source_full);
  admission.enter(2, source(2), kStart);
  admission.enter(3, source(3), kStart);
  const auto answer = admission.ask(source(4), kStart);
  EXPECT_FALSE(answer.welcome || answer.source_full);
}

TEST(Admission, WhatWeMissedIsHeldAgainstNobody) {
  Admission admission(bounds(3, 3));
  admission.enter(7, source(1), kStart);
  const auto paused = admission.enter(8, source(2), kStart);
  admission.pause(paused);
  admission.enter(9, source(3), kStart + seconds(9));
  const Instant back = kStart + std::chrono::hours(1);
  EXPECT_LT(admission.oldest_overdue(), back);
  admission.missed(back);
  EXPECT_EQ(admission.oldest_overdue(), back + seconds(10));
  EXPECT_EQ(admission.oldest_may_go(), back + Admission::kChanceInRush);
  EXPECT_FALSE(admission.ask(source(4), back).welcome) << "nobody has had its chance";
  admission.pause(admission.enter(10, source(4), back));
  admission.leave(paused);
  EXPECT_EQ(admission.oldest().connection, 7U) << "who waits for us does still";
}

TEST(Admission, BoundsHoldWhateverHappens) {
  constexpr std::size_t kConnections = 20;
  constexpr std::size_t kPerSource = 4;
  Admission admission(bounds(kConnections, kPerSource));
  std::mt19937 random(1);
  std::map<std::uint32_t, std::pair<Admission::Ticket, unsigned>> strangers;
  std::set<std::uint32_t> paused;
  const auto any = [&] {
    return std::next(strangers.begin(), static_cast<std::ptrdiff_t>(random() % strangers.size()));
  };
  std::vector<unsigned> established;  // their sources
  std::uint32_t next = 0;
  Instant now = kStart;
  for (int step = 0; step < 50000; ++step) {
    now += milliseconds(random() % 300);
    const auto from = static_cast<unsigned>(random() % 12);
    switch (random() % 7) {
      case 0:
      case 1:
      case 2: {
        const auto answer = admission.ask(source(from), now);
        if (!answer.welcome) break;
        if (answer.instead_of) {
          const auto leaving = strangers.find(*answer.instead_of);
          ASSERT_NE(leaving, strangers.end());
          ASSERT_FALSE(paused.contains(leaving->first));
          ASSERT_LE(leaving->second.first->since + Admission::kFairChance, now);
          admission.leave(leaving->second.first);
          strangers.erase(leaving);
        }
        strangers[next] = {admission.enter(next, source(from), now), from};
        ++next;
        break;
      }
      case 3:
        if (!strangers.empty() && admission.establish(strangers.begin()->second.first)) {
          paused.erase(strangers.begin()->first);
          established.push_back(strangers.begin()->second.second);
          strangers.erase(strangers.begin());
        }
        break;
      case 5:
        if (!strangers.empty()) {
          const auto [number, stranger] = *any();
          if (paused.insert(number).second) admission.pause(stranger.first);
        }
        break;
      case 6:
        if (!strangers.empty()) {
          const auto [number, stranger] = *any();
          paused.erase(number);
          admission.answered(stranger.first, now);
        }
        break;
      case 4:
        if (!established.empty()) {
          admission.leave_established(source(established.back()));
          established.pop_back();
        }
        if (random() % 50 == 0) admission.missed(now);
        break;
    }
    ASSERT_LE(strangers.size(), kConnections);
    ASSERT_LE(established.size(), door::networker::kProvenForEachUnproven * kConnections);
    for (const unsigned one : established) {
      ASSERT_LE(std::ranges::count(established, one),
                door::networker::kProvenForEachUnproven * kPerSource);
    }
    ASSERT_EQ(admission.full(), strangers.size() == kConnections);
    std::map<unsigned, std::size_t> count;
    for (const auto& [number, stranger] : strangers) {
      ASSERT_LE(++count[stranger.second], kPerSource);
    }
    ASSERT_EQ(admission.waiting(), strangers.size() > paused.size());
    if (admission.waiting()) {
      for (const auto& [number, stranger] : strangers) {
        ASSERT_LE(admission.oldest().since, stranger.first->since);
      }
      ASSERT_FALSE(paused.contains(admission.oldest().connection));
    }
  }
}

}  // namespace
}  // namespace mandos::networker
