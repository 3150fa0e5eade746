// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/warnings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ctl/client.h"
#include "ctl/times.h"

namespace mandos::ctl {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kNow = 1'800'000'000'000;
constexpr std::int64_t kMinute = 60'000;

Value minutes(std::uint64_t count) { return count * kMinute; }

/// Enabled, checked every 2 minutes, answered one minute ago and good for 5 from then.
Client client() {
  Client made;
  made.path = "/clients/one";
  made.properties = {{"Name", std::string("one")},
                     {"Enabled", true},
                     {"Timeout", minutes(5)},
                     {"ExtendedTimeout", minutes(15)},
                     {"Interval", minutes(2)},
                     {"LastCheckedOK", time_text(kNow - kMinute)},
                     {"Expires", time_text(kNow + 4 * kMinute)}};
  return made;
}

std::vector<std::string> told(const std::vector<Change>& changes, const Client& of = client()) {
  return warnings(of, changes, kNow);
}

TEST(Warnings, NoneForWhatLeavesTimeForACheck) {
  EXPECT_THAT(told({}), IsEmpty());
  EXPECT_THAT(told({{"Timeout", minutes(3)}}), IsEmpty());
  EXPECT_THAT(told({{"Timeout", Value(std::uint64_t{125'000})}}), IsEmpty());
  EXPECT_THAT(told({{"ExtendedTimeout", minutes(3)}, {"Interval", minutes(2)}}), IsEmpty());
  EXPECT_THAT(told({{"Host", std::string("x")}, {"CheckerRunning", true}}), IsEmpty());
  EXPECT_THAT(told({{"Enabled", false}}), IsEmpty());
}

TEST(Warnings, OfATimeoutThatTheLastAnswerIsOlderThan) {
  EXPECT_THAT(
      told({{"Interval", minutes(0)}, {"Timeout", minutes(1)}}),
      ElementsAre("one: a timeout of 00:01:00 disables it at once: its last answer was at " +
                  time_text(kNow - kMinute) + " UTC"));
  EXPECT_THAT(told({{"Interval", minutes(0)}, {"Timeout", Value(std::uint64_t{60'001})}}),
              IsEmpty());
  auto never = client();
  never.properties["LastCheckedOK"] = std::string();
  EXPECT_THAT(told({{"Interval", minutes(0)}, {"Timeout", minutes(0)}}, never),
              Contains(HasSubstr("at once: it has never answered")));
}

TEST(Warnings, OfATimeoutThatStartsAgainOrOfNobody) {
  const Change none{"Interval", minutes(0)};
  const Change timeout{"Timeout", minutes(1)};
  EXPECT_THAT(told({none, {"LastCheckedOK", std::string()}, timeout}), IsEmpty());
  EXPECT_THAT(told({none, timeout, {"LastCheckedOK", std::string()}}),
              ElementsAre(HasSubstr("at once")));
  EXPECT_THAT(told({none, {"Enabled", false}, timeout}), IsEmpty());
  auto disabled = client();
  disabled.properties["Enabled"] = false;
  EXPECT_THAT(told({none, {"Enabled", true}, timeout}, disabled), IsEmpty());
  auto endless = client();
  endless.properties["Expires"] = std::string();
  EXPECT_THAT(told({none, timeout}, endless), IsEmpty());
}

TEST(Warnings, OfNoTimeForACheck) {
  EXPECT_THAT(told({{"Timeout", Value(std::uint64_t{124'999})}}),
              ElementsAre("one: a timeout of 00:02:04 is less than the interval, 00:02:00, and 5 s "
                          "for a check: it could be disabled before it answers the next one"));
  EXPECT_THAT(told({{"ExtendedTimeout", minutes(2)}}),
              ElementsAre(HasSubstr("an extended timeout of 00:02:00 is less than the interval")));
  EXPECT_THAT(
      told({{"Interval", minutes(15)}}),
      ElementsAre(HasSubstr("one: a timeout of"), HasSubstr("one: an extended timeout of")));
  // Only where one of the two is to be changed.
  auto old = client();
  old.properties["Timeout"] = minutes(1);
  EXPECT_THAT(told({{"ExtendedTimeout", minutes(3)}}, old), IsEmpty());
}

TEST(Warnings, ValuesWithoutMeasure) {
  const Value most = std::numeric_limits<std::uint64_t>::max();
  EXPECT_THAT(told({{"Timeout", most}, {"Timeout", most}, {"Timeout", most}}), IsEmpty());
  EXPECT_THAT(told({{"Timeout", most}, {"Timeout", minutes(5)}}), IsEmpty());
  EXPECT_THAT(told({{"Interval", most}}).size(), 2U);
}

TEST(Warnings, NoControlCharacterOfAName) {
  auto strange = client();
  strange.properties["Name"] = std::string("a\x1b[2J");
  EXPECT_THAT(told({{"Timeout", minutes(0)}}, strange),
              ElementsAre(HasSubstr("a?[2J: "), HasSubstr("a?[2J: ")));
}

}  // namespace
}  // namespace mandos::ctl
