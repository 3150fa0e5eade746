// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/spare_nonces.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/text.h"

namespace mandos::networker {
namespace {

using std::chrono::seconds;

const Instant kStart{std::chrono::hours(1)};

class SpareNoncesTest : public testing::Test {
 protected:
  void add(std::uint32_t number, Instant now, char nonce = 'n') {
    ASSERT_TRUE(spares_.wanted());
    spares_.requested(number, now);
    ASSERT_TRUE(
        spares_.received(number, as_bytes(std::string(door::networker::kNonceSize, nonce))));
  }
  std::optional<SpareNonces::Spare> take(Instant now) {
    return spares_.take(now, [this](std::uint32_t number) { expired_.push_back(number); });
  }

  SpareNonces spares_{seconds(10)};
  std::vector<std::uint32_t> expired_;
};

TEST_F(SpareNoncesTest, AreTakenInTheOrderInWhichTheyCame) {
  EXPECT_FALSE(take(kStart));
  add(7, kStart, 'a');
  add(3, kStart, 'b');
  const auto first = take(kStart);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->number, 7U);
  EXPECT_TRUE(std::ranges::all_of(first->nonce, [](unsigned char each) { return each == 'a'; }));
  const auto second = take(kStart);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->number, 3U);
  EXPECT_TRUE(std::ranges::all_of(second->nonce, [](unsigned char each) { return each == 'b'; }));
  EXPECT_FALSE(take(kStart));
  EXPECT_TRUE(expired_.empty());
}

TEST_F(SpareNoncesTest, OneIsRequestedAtATime) {
  spares_.requested(7, kStart);
  EXPECT_FALSE(spares_.wanted());
  EXPECT_FALSE(take(kStart)) << "it has not come yet";
  const std::string nonce(door::networker::kNonceSize, 'n');
  EXPECT_FALSE(spares_.received(8, as_bytes(nonce))) << "a connection's own";
  EXPECT_FALSE(spares_.wanted());
  EXPECT_TRUE(spares_.received(7, as_bytes(nonce)));
  EXPECT_FALSE(spares_.received(7, as_bytes(nonce))) << "once";
  EXPECT_TRUE(spares_.wanted());
}

TEST_F(SpareNoncesTest, AreNoMoreThanTheMonitorMayHaveToKnow) {
  for (std::uint32_t number = 0; number < SpareNonces::kMost; ++number) add(number, kStart);
  EXPECT_FALSE(spares_.wanted());
  take(kStart);
  EXPECT_TRUE(spares_.wanted());
}

TEST_F(SpareNoncesTest, ThoseThatTheMonitorMayHaveForgottenAreNotUsed) {
  add(1, kStart);
  add(2, kStart + seconds(1));
  add(3, kStart + seconds(2));
  const auto good = take(kStart + seconds(11));
  ASSERT_TRUE(good);
  EXPECT_EQ(good->number, 3U);
  EXPECT_EQ(expired_, (std::vector<std::uint32_t>{1, 2}));
  EXPECT_TRUE(spares_.wanted());
}

}  // namespace
}  // namespace mandos::networker
