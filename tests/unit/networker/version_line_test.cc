// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/version_line.h"

#include <gtest/gtest.h>

#include <string_view>

namespace mandos::networker {
namespace {

using std::string_view_literals::operator""sv;

// Each was tried on int(line.strip().split()[0]) <= 1 of Python.
TEST(VersionLine, TakesWhatTheOriginalTakes) {
  for (const auto line :
       {"1"sv, "1\r"sv, "0"sv, "-1"sv, "-99999999999999999999999"sv, "+1"sv, "+0"sv, "-0"sv, "01"sv,
        "0000000000000000000000000000000000001"sv, "0_1"sv, "0_0_1"sv, "-1_000"sv, "  1"sv,
        "\t\v\f 1 2 3"sv, "1 anything \x00\xff"sv, "1\tx"sv,
        "\x1c\x1f"
        "1"sv,
        "1\x1d"
        "9"sv}) {
    EXPECT_TRUE(speaks_our_version(line)) << line;
  }
}

TEST(VersionLine, RefusesWhatTheOriginalRefuses) {
  for (const auto line :
       {""sv, " "sv, "\r"sv, "\t \v\r"sv, "2"sv, "10"sv, "11"sv, "+2"sv, "1_0"sv, "_1"sv, "1_"sv,
        "0__1"sv, "-_1"sv, "1."sv, "1.0"sv, "0x1"sv, "1e0"sv, "one"sv, "-"sv, "+"sv, "--1"sv,
        "+-1"sv, "- 1"sv, "1a"sv, "a 1"sv,
        "\x00"
        "1"sv,
        "1\x00"sv, "\xff"sv, "GET / HTTP/1.1\r"sv,
        // Too large for any integer type, and equal to 1 modulo 2^32 and 2^64.
        "4294967297"sv, "18446744073709551617"sv, "99999999999999999999999999999999"sv}) {
    EXPECT_FALSE(speaks_our_version(line)) << line;
  }
}

}  // namespace
}  // namespace mandos::networker
