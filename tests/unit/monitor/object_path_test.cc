// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/object_path.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace mandos::monitor {
namespace {

TEST(ObjectPath, AsAdministratorsScriptsKnowIt) {
  ObjectPaths paths;
  EXPECT_EQ(paths.of("foo.bar-1"), "/clients/foo_bar_1");
  EXPECT_EQ(paths.of("with_underscore"), "/clients/with_underscore");
  EXPECT_EQ(paths.of("a b/\xc3\xa9"), "/clients/a_20b_2f_c3_a9");
}

TEST(ObjectPath, StaysTheSame) {
  ObjectPaths paths;
  const std::string first = paths.of("a.b");
  const std::string second = paths.of("a-b");
  EXPECT_EQ(paths.of("a.b"), first);
  EXPECT_EQ(paths.of("a-b"), second);
}

TEST(ObjectPath, NoTwoNamesShareOne) {
  // Every order in which names that look alike may come.
  std::vector<std::string> names{"a-b", "a.b", "a_2eb", "a_2eb_", "a_b"};
  do {
    ObjectPaths paths;
    std::set<std::string> seen;
    std::map<std::string, std::string> first;
    for (const auto& name : names) {
      const std::string path = first[name] = paths.of(name);
      EXPECT_TRUE(seen.insert(path).second) << path;
      EXPECT_EQ(path.find_first_not_of("/_abcdefghijklmnopqrstuvwxyz0123456789"),
                std::string::npos);
    }
    for (const auto& [name, path] : first) EXPECT_EQ(paths.of(name), path);
  } while (std::next_permutation(names.begin(), names.end()));
}

}  // namespace
}  // namespace mandos::monitor
