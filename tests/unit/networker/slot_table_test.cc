// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/slot_table.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

namespace mandos::networker {
namespace {

TEST(SlotTable, FindsEachByItsNumber) {
  SlotTable<int> table;
  const auto one = table.take_number();
  const auto two = table.take_number();
  EXPECT_NE(one, two);
  EXPECT_EQ(table.find(one), nullptr) << "nobody has it yet";
  table.put(one, std::make_unique<int>(1));
  table.put(two, std::make_unique<int>(2));
  EXPECT_EQ(*table.find(one), 1);
  EXPECT_EQ(*table.find(two), 2);
  table.remove(one);
  EXPECT_EQ(table.find(one), nullptr);
  EXPECT_EQ(*table.find(two), 2);
}

TEST(SlotTable, KnowsNoNumberThatItNeverGave) {
  SlotTable<int> table;
  EXPECT_EQ(table.find(0), nullptr);
  const auto number = table.take_number();
  table.put(number, std::make_unique<int>(1));
  for (unsigned bit = 0; bit < 32; ++bit) {
    EXPECT_EQ(table.find(number ^ (1U << bit)), nullptr) << bit;
  }
}

TEST(SlotTable, ANumberOfOneThatEndedDoesNotReachItsSuccessor) {
  SlotTable<int> table;
  std::set<std::uint32_t> before;
  for (int i = 0; i < 4096; ++i) {  // as often as the part above the slot has values
    const auto number = table.take_number();
    ASSERT_TRUE(before.insert(number).second) << i;
    table.put(number, std::make_unique<int>(i));
    if (i % 512 == 0) {
      for (const auto old : before) ASSERT_EQ(table.find(old) != nullptr, old == number);
    }
    table.remove(number);
  }
}

TEST(SlotTable, ANumberThatNobodyGotIsFreedAsWell) {
  SlotTable<int> table;
  const auto first = table.take_number();
  table.remove(first);
  EXPECT_NE(table.take_number(), first);
}

TEST(SlotTable, TheSlotThatIsFreeForTheLongestIsUsedFirst) {
  SlotTable<int> table;
  std::vector<std::uint32_t> numbers;
  for (int i = 0; i < 3; ++i) numbers.push_back(table.take_number());
  for (const int i : {1, 2, 0}) table.remove(numbers[static_cast<std::size_t>(i)]);
  // The same slots, which are the lower half of a number, in the order in which they became free.
  for (const int i : {1, 2, 0}) {
    EXPECT_EQ(table.take_number() & 0xffff, numbers[static_cast<std::size_t>(i)] & 0xffff);
  }
}

TEST(SlotTable, GoesThroughThoseThatAreThere) {
  SlotTable<int> table;
  std::vector<std::uint32_t> numbers;
  for (int i = 0; i < 4; ++i) {
    numbers.push_back(table.take_number());
    if (i != 3) table.put(numbers.back(), std::make_unique<int>(i));
  }
  table.remove(numbers[1]);
  std::vector<int> seen;
  table.for_each([&seen](int each) { seen.push_back(each); });
  EXPECT_EQ(seen, (std::vector<int>{0, 2}));
}

}  // namespace
}  // namespace mandos::networker
