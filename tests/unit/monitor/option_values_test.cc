// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/option_values.h"

#include <gtest/gtest.h>

#include <optional>

namespace mandos::monitor {
namespace {

TEST(Boolean, IsWhatPythonTakes) {
  for (const char* text : {"1", "yes", "TRUE", "On"}) EXPECT_EQ(parse_boolean(text), true) << text;
  for (const char* text : {"0", "no", "False", "oFF"})
    EXPECT_EQ(parse_boolean(text), false) << text;
  for (const char* text : {"", "2", "y", "tru", "true ", "enabled"}) {
    EXPECT_EQ(parse_boolean(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace mandos::monitor
