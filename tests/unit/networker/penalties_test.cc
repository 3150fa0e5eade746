// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/penalties.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "networker/exemptions.h"

namespace mandos::networker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const Instant kStart{std::chrono::hours(1)};
constexpr Milliseconds kTime = seconds(10);
constexpr unsigned kThreshold = 20;

Source source(unsigned number) {
  Source result;
  result.address[13] = static_cast<unsigned char>(number >> 16);
  result.address[14] = static_cast<unsigned char>(number >> 8);
  result.address[15] = static_cast<unsigned char>(number);
  return result;
}

class PenaltiesTest : public testing::Test {
 protected:
  /// For how long the last of `count` offenses at `now` has the source refused.
  std::optional<Milliseconds> offend(const Source& who, int count, Instant now,
                                     Offense offense = Offense::kViolation) {
    std::optional<Milliseconds> refused;
    for (int i = 0; i < count; ++i) refused = penalties_.add(who, offense, now);
    return refused;
  }
  /// Of `tries` connections at `now`.
  int admitted(const Source& who, int tries, Instant now) {
    int count = 0;
    for (int i = 0; i < tries; ++i) count += penalties_.admits(who, now) ? 1 : 0;
    return count;
  }

  Penalties penalties_{{kTime, kThreshold}};
};

TEST_F(PenaltiesTest, BelowTheThresholdNobodyIsRefused) {
  EXPECT_FALSE(offend(source(1), kThreshold - 1, kStart));
  EXPECT_TRUE(penalties_.admits(source(1), kStart));
}

TEST_F(PenaltiesTest, AFloodIsRefusedForTheTimeAndOthersAreNot) {
  EXPECT_EQ(offend(source(1), kThreshold, kStart), kTime);
  EXPECT_FALSE(penalties_.admits(source(1), kStart));
  EXPECT_TRUE(penalties_.admits(source(2), kStart));
  EXPECT_FALSE(penalties_.admits(source(1), kStart + kTime - milliseconds(1)));
  EXPECT_TRUE(penalties_.admits(source(1), kStart + kTime));
}

TEST_F(PenaltiesTest, AsManyASecondAsAreForgivenNeverAddUp) {
  const auto pause = milliseconds(1000) / Penalties::kForgivenPerSecond;
  Instant now = kStart;
  for (int i = 0; i < 10000; ++i, now += pause) {
    ASSERT_FALSE(penalties_.add(source(1), Offense::kViolation, now)) << i;
    ASSERT_TRUE(penalties_.admits(source(1), now));
  }
  for (int i = 0; i < 1000; ++i, now += milliseconds(9900)) {
    ASSERT_FALSE(penalties_.add(source(1), Offense::kViolation, now)) << i;
  }
}

TEST_F(PenaltiesTest, TwiceAsManyASecondAddUp) {
  const auto pause = milliseconds(1000) / Penalties::kForgivenPerSecond / 2;
  Instant now = kStart;
  int count = 1;
  for (; !penalties_.add(source(1), Offense::kViolation, now); ++count) now += pause;
  EXPECT_NEAR(count, 2 * kThreshold, 2);
}

TEST_F(PenaltiesTest, WhatIsForgivenCountsNoMore) {
  offend(source(1), kThreshold - 1, kStart);
  const Instant later = kStart + seconds(1);
  EXPECT_FALSE(offend(source(1), Penalties::kForgivenPerSecond, later));
  EXPECT_TRUE(offend(source(1), 1, later));
}

TEST_F(PenaltiesTest, OffensesWeighByTheirKind) {
  EXPECT_FALSE(offend(source(1), 1000, kStart, Offense::kNone));
  EXPECT_EQ(penalties_.offenders(), 0U);
  constexpr int kDeadlines = Penalties::kDeadlinesPerViolation * int{kThreshold};
  EXPECT_FALSE(offend(source(2), kDeadlines - 1, kStart, Offense::kDeadline));
  EXPECT_EQ(offend(source(2), 1, kStart, Offense::kDeadline), kTime);
  EXPECT_EQ(offend(source(3), 1, kStart, Offense::kCrash), kTime) << "it costs others theirs";
}

// The number of mandos.conf(5).
TEST_F(PenaltiesTest, FourMissedDeadlinesWeighAsMuchAsAViolation) {
  offend(source(1), 4 * int{kThreshold} - 1, kStart, Offense::kDeadline);
  EXPECT_TRUE(penalties_.admits(source(1), kStart));
  offend(source(1), 1, kStart, Offense::kDeadline);
  EXPECT_FALSE(penalties_.admits(source(1), kStart));
}

TEST_F(PenaltiesTest, EachThresholdAddsThePenaltyUpToALimit) {
  EXPECT_EQ(offend(source(1), 2 * kThreshold, kStart), 2 * kTime);
  const Instant later = kStart + seconds(4);
  EXPECT_EQ(offend(source(1), kThreshold, later), 3 * kTime - seconds(4));
  EXPECT_EQ(offend(source(1), 100 * kThreshold, later), Penalties::kLongest * kTime);
  EXPECT_FALSE(penalties_.admits(source(1), later + Penalties::kLongest * kTime - milliseconds(1)));
  EXPECT_TRUE(penalties_.admits(source(1), later + Penalties::kLongest * kTime));
  EXPECT_EQ(offend(source(2), 3, kStart, Offense::kCrash), 3 * kTime);
}

TEST_F(PenaltiesTest, AThresholdOfOnePunishesTheFirst) {
  penalties_ = Penalties({kTime, 1});
  EXPECT_EQ(offend(source(1), 1, kStart), kTime);
}

TEST_F(PenaltiesTest, NoTimeNoPenalty) {
  penalties_ = Penalties({Milliseconds(0), 1});
  EXPECT_FALSE(offend(source(1), 100, kStart, Offense::kCrash));
  EXPECT_TRUE(penalties_.admits(source(1), kStart));
  EXPECT_EQ(penalties_.offenders(), 0U);
}

TEST_F(PenaltiesTest, ASourceThatProvedAKeyKeepsAnAllowanceAndNoMore) {
  penalties_.proved(source(1), kStart);
  offend(source(1), 100 * kThreshold, kStart);
  EXPECT_EQ(admitted(source(1), 1000, kStart), Penalties::kAllowance);
  EXPECT_EQ(admitted(source(1), 1000, kStart + seconds(1)), Penalties::kAllowance);
  EXPECT_EQ(admitted(source(1), 1000, kStart + seconds(1) + milliseconds(100)),
            Penalties::kAllowance / 10);
  offend(source(2), kThreshold, kStart);
  EXPECT_EQ(admitted(source(2), 1000, kStart), 0) << "nobody proved a key there";
}

TEST_F(PenaltiesTest, ProvingAgainDoesNotFillTheAllowance) {
  penalties_.proved(source(1), kStart);
  offend(source(1), kThreshold, kStart);
  EXPECT_EQ(admitted(source(1), 1000, kStart), Penalties::kAllowance);
  penalties_.proved(source(1), kStart);
  EXPECT_EQ(admitted(source(1), 1000, kStart), 0);
}

TEST_F(PenaltiesTest, NothingIsTakenFromTheAllowanceWithoutAPenalty) {
  penalties_.proved(source(1), kStart);
  EXPECT_EQ(admitted(source(1), 1000, kStart), 1000);
  offend(source(1), kThreshold, kStart);
  EXPECT_EQ(admitted(source(1), 1000, kStart), Penalties::kAllowance);
}

TEST_F(PenaltiesTest, AProofIsRememberedForADay) {
  penalties_.proved(source(1), kStart);
  const Instant last = kStart + Penalties::kProofRemembered;
  offend(source(1), kThreshold, last - milliseconds(1));
  EXPECT_TRUE(penalties_.admits(source(1), last - milliseconds(1)));
  EXPECT_FALSE(penalties_.admits(source(1), last));
  EXPECT_EQ(penalties_.proven(), 0U);
}

TEST_F(PenaltiesTest, MemoryIsBoundedAndGreatOffendersAreNotForgottenForSmallOnes) {
  offend(source(0), 1, kStart, Offense::kCrash);
  for (unsigned i = 1; i <= 2 * Penalties::kMaxOffenders; ++i) {
    penalties_.add(source(i), Offense::kViolation, kStart);
    ASSERT_LE(penalties_.offenders(), Penalties::kMaxOffenders);
  }
  EXPECT_FALSE(penalties_.admits(source(0), kStart));
  for (unsigned i = 1; i <= 2 * Penalties::kMaxProven; ++i) {
    penalties_.proved(source(i), kStart + milliseconds(i));
    ASSERT_LE(penalties_.proven(), Penalties::kMaxProven);
  }
  const Instant now = kStart + milliseconds(2 * Penalties::kMaxProven);
  offend(source(1), kThreshold, now);
  EXPECT_FALSE(penalties_.admits(source(1), now)) << "the first is forgotten";
  offend(source(2 * Penalties::kMaxProven), kThreshold, now);
  EXPECT_TRUE(penalties_.admits(source(2 * Penalties::kMaxProven), now));
}

TEST_F(PenaltiesTest, NothingIsLeftOfWhatIsForgiven) {
  std::mt19937 random(1);
  Instant now = kStart;
  for (int i = 0; i < 50000; ++i) {
    now += milliseconds(random() % 20);
    const Source who = source(static_cast<unsigned>(random() % 3000));
    const auto offense = static_cast<Offense>(random() % 4);
    const auto refused = penalties_.add(who, offense, now);
    ASSERT_TRUE(!refused || (*refused >= kTime && *refused <= Penalties::kLongest * kTime));
    ASSERT_TRUE(!refused || !penalties_.admits(who, now));
  }
  now += (Penalties::kLongest + 1) * kTime;
  for (unsigned i = 0; i < 3000; ++i) ASSERT_TRUE(penalties_.admits(source(i), now));
  EXPECT_EQ(penalties_.offenders(), 0U);
}

sockaddr_storage address(const char* text) {
  sockaddr_storage storage{};
  sockaddr_in6 ipv6{};
  sockaddr_in ipv4{};
  if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
    ipv4.sin_family = AF_INET;
    std::memcpy(&storage, &ipv4, sizeof ipv4);
  } else if (inet_pton(AF_INET6, text, &ipv6.sin6_addr) == 1) {
    ipv6.sin6_family = AF_INET6;
    std::memcpy(&storage, &ipv6, sizeof ipv6);
  } else {
    ADD_FAILURE() << text;
  }
  return storage;
}

Exemptions exempt(const char* text, unsigned bits) {
  const auto ipv6 = as_ipv6(address(text));
  Exemptions::Network network{.address = {}, .bits = bits};
  std::copy_n(std::begin(ipv6->sin6_addr.s6_addr), 16, network.address.begin());
  return Exemptions({network});
}

TEST(Exemptions, AreReadInEveryForm) {
  const auto read =
      Exemptions::parse("192.0.2.0/24, 10.0.0.1 ,2001:db8::/32\n ::/0 0.0.0.0/0,fe80::7\n");
  ASSERT_TRUE(read) << read.error();
  using Network = Exemptions::Network;
  EXPECT_EQ(read->networks(),
            std::vector({Network{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 0}, 120},
                         Network{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1}, 128},
                         Network{{0x20, 1, 0x0d, 0xb8}, 32}, Network{{}, 0},
                         Network{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96},
                         Network{{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}, 128}}));
  EXPECT_TRUE(Exemptions::parse("")->networks().empty());
}

TEST(Exemptions, NameTheNetworkThatIsNone) {
  for (const char* wrong :
       {"192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.1/24", "192.0.2", "2001:db8::/129",
        "2001:db8::1/64", "fe80::1%eth0", "localhost", "/8"}) {
    const auto read = Exemptions::parse(concat("10.0.0.0/8 ", wrong, ", ::1\n"));
    ASSERT_FALSE(read) << wrong;
    EXPECT_EQ(read.error(), concat("found '", wrong,
                                   "', expected at most 64 networks such as "
                                   "192.0.2.0/24 or 2001:db8::/32"));
  }
  std::string many;
  for (int i = 0; i < 64; ++i) many += concat("10.0.0.", i, " ");
  EXPECT_EQ(Exemptions::parse(many)->networks().size(), 64);
  const auto more = Exemptions::parse(many + "::1");
  ASSERT_FALSE(more);
  EXPECT_NE(more.error().find("found '::1'"), std::string::npos);
  EXPECT_NE(more.error().find("one too many"), std::string::npos);
}

TEST(Exemptions, CoverTheirNetworkAndNoMore) {
  EXPECT_FALSE(Exemptions().cover(address("::1")));
  struct Case {
    const char* network;
    unsigned bits;
    const char* inside;
    const char* outside;
  };
  for (const auto& [network, bits, inside, outside] : {
           Case{"10.0.0.0", 96 + 8, "10.255.255.255", "11.0.0.0"},
           Case{"10.0.0.0", 96 + 8, "::ffff:10.1.2.3", "::10.1.2.3"},
           Case{"192.0.2.128", 96 + 25, "192.0.2.129", "192.0.2.127"},
           Case{"192.0.2.7", 128, "192.0.2.7", "192.0.2.6"},
           Case{"0.0.0.0", 96, "203.0.113.1", "2001:db8::1"},
           Case{"::", 0, "2001:db8::1", "203.0.113.1"},
           Case{"2001:db8::", 32, "2001:db8:ffff::1", "2001:db9::"},
           Case{"2001:db8::", 33, "2001:db8:7fff::1", "2001:db8:8000::"},
           Case{"2001:db8::7", 128, "2001:db8::7", "2001:db8::8"},
           Case{"fe80::", 10, "fe80::1", "fec0::1"},
       }) {
    EXPECT_TRUE(exempt(network, bits).cover(address(inside))) << network << '/' << bits;
    EXPECT_FALSE(exempt(network, bits).cover(address(outside))) << network << '/' << bits;
  }
  sockaddr_storage other{};
  other.ss_family = AF_UNIX;
  EXPECT_FALSE(exempt("::", 0).cover(other));
}

TEST(Exemptions, CoverASourceWhenTheyCoverAllOfIt) {
  const auto covers = [](const char* network, unsigned bits, const char* source) {
    return exempt(network, bits).cover(source_of(address(source)));
  };
  EXPECT_TRUE(covers("192.0.2.7", 128, "192.0.2.7"));
  EXPECT_TRUE(covers("2001:db8::", 64, "2001:db8::1"));
  EXPECT_FALSE(covers("2001:db8::", 65, "2001:db8::1"));
  EXPECT_FALSE(covers("2001:db8::1", 128, "2001:db8::1"));
  EXPECT_TRUE(covers("::1", 128, "::1"));
  EXPECT_TRUE(covers("fe80::1", 128, "fe80::1"));
}

}  // namespace
}  // namespace mandos::networker
