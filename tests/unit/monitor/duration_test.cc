// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/duration.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace mandos::monitor {
namespace {

using namespace std::chrono_literals;
using std::chrono::days;
using std::chrono::weeks;

TEST(Duration, ReadsBothLanguages) {
  const struct {
    const char* text;
    Milliseconds value;
  } cases[] = {
      {"PT5M", 5min},
      {"PT0S", 0ms},
      {"PT60S", 1min},
      {"P7D", days(7)},
      {"P2W", weeks(2)},
      {"P1DT3M20S", days(1) + 200s},
      {"P1Y2M3DT4H5M6S", weeks(52 + 8) + days(3) + 4h + 5min + 6s},
      {"P1M", weeks(4)},
      {"PT1M", 1min},
      {"P1YT1H", weeks(52) + 1h},  // RFC 3339 allows it; the original does not
      {"PT0005M", 5min},
      {"7d", days(7)},
      {"1w", weeks(1)},
      {"24h", 24h},
      {"5m 30s", 330s},
      {" 1d\t2h\n30m ", days(1) + 150min},
      {"1s 1s", 2s},
      {"P999999999D", days(999999999)},
  };
  for (const auto& each : cases) {
    const auto parsed = parse_duration(each.text);
    ASSERT_TRUE(parsed) << each.text;
    EXPECT_EQ(*parsed, each.value) << each.text;
  }
}

TEST(Duration, RefusesEverythingElse) {
  for (const char* text :
       {"",       " ",     "P",       "PT",    "5",      "m",    "5x",      "5 m",
        "PT5",    "P5",    "T5M",     "PT5D",  "P5H",    "p1d",  "P1D2M",   "P1Y3D",
        "PT1H1S", "P1WT1", "P1W1D",   "P1D1W", "P1DT",   "P-1D", "-5m",     "+5m",
        "1_0m",   "5m30s", "PT5M 1s", "PTT5M", "PT1.5S", "5M",   "P1D P1D", "PT5M1M"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Duration, NeverWrapsRound) {
  for (const char* text :
       {"P1000000000D", "99999999999999999999999999s", "1000000000d 1000000s 1000000000000000d",
        "999999999d 24h", "9223372036854775807w 9223372036854775807w", "P9223372036854775807Y"}) {
    const auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().find("10^9 days"), std::string::npos);
  }
}

}  // namespace
}  // namespace mandos::monitor
