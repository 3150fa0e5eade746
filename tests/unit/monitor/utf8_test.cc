// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/utf8.h"

#include <gtest/gtest.h>

namespace mandos::monitor {
namespace {

TEST(Utf8, TextIsWellFormedAndWithoutZero) {
  for (const char* good :
       {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x94\x91", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_text(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "\xf8\x88\x80\x80\x80", "\xff", "\xe2\x82", "\xe2\x28\xa1"}) {
    EXPECT_FALSE(is_text(bad)) << bad;
  }
  EXPECT_FALSE(is_text({"\0", 1}));
}

}  // namespace
}  // namespace mandos::monitor
