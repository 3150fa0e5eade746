// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/mirror.h"

#include <gtest/gtest.h>

namespace mandos::bus_agent {
namespace {

Client client(const char* name, const char* path) {
  Client made;
  made.set_name(name);
  made.set_path(path);
  made.set_host("host");
  made.set_timeout(5);
  return made;
}

TEST(Mirror, FindsByNameAndPath) {
  Mirror mirror;
  ASSERT_NE(mirror.add(client("one", "/clients/one")), nullptr);
  EXPECT_EQ(mirror.by_name("one"), mirror.by_path("/clients/one"));
  EXPECT_EQ(mirror.by_path("/clients/two"), nullptr);
}

TEST(Mirror, TakesNoSecondOneOfANameOrAPath) {
  Mirror mirror;
  ASSERT_NE(mirror.add(client("one", "/clients/one")), nullptr);
  EXPECT_EQ(mirror.add(client("one", "/clients/other")), nullptr);
  EXPECT_EQ(mirror.add(client("other", "/clients/one")), nullptr);
  EXPECT_EQ(mirror.add(client("", "/clients/x")), nullptr);
  EXPECT_EQ(mirror.add(client("x", "")), nullptr);
  EXPECT_EQ(mirror.size(), 1U);
}

TEST(Mirror, ChangesWhatIsPresentAlone) {
  Mirror mirror;
  mirror.add(client("one", "/clients/one"));
  Client change;
  change.set_name("one");
  change.set_host("");
  change.set_enabled(false);
  change.set_secret(true);
  change.set_path("/clients/elsewhere");
  const Client* now = mirror.change(change);
  ASSERT_NE(now, nullptr);
  EXPECT_TRUE(now->has_host());
  EXPECT_EQ(now->host(), "");
  EXPECT_EQ(now->timeout(), 5U);
  EXPECT_FALSE(now->has_secret());
  EXPECT_EQ(now->path(), "/clients/one");
  EXPECT_EQ(mirror.by_path("/clients/one"), now);
}

TEST(Mirror, ARemovedClientIsGone) {
  Mirror mirror;
  mirror.add(client("one", "/clients/one"));
  const auto removed = mirror.remove("one");
  ASSERT_NE(removed, nullptr);
  EXPECT_EQ(removed->path(), "/clients/one");
  EXPECT_EQ(mirror.by_name("one"), nullptr);
  EXPECT_EQ(mirror.by_path("/clients/one"), nullptr);
  EXPECT_EQ(mirror.remove("one"), nullptr);
  Client change;
  change.set_name("one");
  EXPECT_EQ(mirror.change(change), nullptr);
  EXPECT_NE(mirror.add(client("one", "/clients/one")), nullptr);
}

}  // namespace
}  // namespace mandos::bus_agent
