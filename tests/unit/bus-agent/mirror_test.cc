// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/mirror.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

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
  ASSERT_TRUE(mirror.add(client("one", "/clients/one")));
  ASSERT_TRUE(mirror.by_name("one") && mirror.by_path("/clients/one"));
  EXPECT_EQ(mirror.by_name("one")->path(), "/clients/one");
  EXPECT_EQ(mirror.by_path("/clients/one")->name(), "one");
  EXPECT_FALSE(mirror.by_path("/clients/two"));
}

TEST(Mirror, TakesNoSecondOneOfANameOrAPath) {
  Mirror mirror;
  ASSERT_TRUE(mirror.add(client("one", "/clients/one")));
  EXPECT_FALSE(mirror.add(client("one", "/clients/other")));
  EXPECT_FALSE(mirror.add(client("other", "/clients/one")));
  EXPECT_FALSE(mirror.add(client("", "/clients/x")));
  EXPECT_FALSE(mirror.add(client("x", "")));
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
  const auto now = mirror.change(change);
  ASSERT_TRUE(now);
  EXPECT_TRUE(now->has_host());
  EXPECT_EQ(now->host(), "");
  EXPECT_EQ(now->timeout(), 5U);
  EXPECT_FALSE(now->has_secret());
  EXPECT_EQ(now->path(), "/clients/one");
  const auto found = mirror.by_path("/clients/one");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->SerializeAsString(), now->SerializeAsString());
  EXPECT_FALSE(mirror.by_path("/clients/elsewhere"));
}

TEST(Mirror, VisitsEachAsItIs) {
  Mirror mirror;
  mirror.add(client("one", "/clients/one"));
  Client second = client("two", "/clients/two");
  second.clear_host();
  mirror.add(second);
  std::map<std::string, bool> seen;
  mirror.for_each([&seen](const Client& each) { seen[each.name()] = each.has_host(); });
  EXPECT_EQ(seen, (std::map<std::string, bool>{{"one", true}, {"two", false}}));
}

TEST(Mirror, ARemovedClientIsGone) {
  Mirror mirror;
  mirror.add(client("one", "/clients/one"));
  const auto removed = mirror.remove("one");
  ASSERT_TRUE(removed);
  EXPECT_EQ(removed->path(), "/clients/one");
  EXPECT_FALSE(mirror.by_name("one"));
  EXPECT_FALSE(mirror.by_path("/clients/one"));
  EXPECT_FALSE(mirror.remove("one"));
  Client change;
  change.set_name("one");
  EXPECT_FALSE(mirror.change(change));
  EXPECT_TRUE(mirror.add(client("one", "/clients/one")));
}

}  // namespace
}  // namespace mandos::bus_agent
