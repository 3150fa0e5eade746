// SPDX-License-Identifier: GPL-3.0-or-later
// What the checker-runner works out before it confines itself, and the lists that it reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "checker-runner/checker.h"
#include "checker-runner/jail.h"
#include "config.h"

namespace mandos::checker_runner {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class AllBut : public testing::Test {
 protected:
  AllBut() {
    std::string name = (fs::temp_directory_path() / "all-but.XXXXXX").native();
    top_ = fs::canonical(mkdtemp(name.data()));
    for (const auto* directory :
         {"etc/mandos", "tmp", "var/lib/mandos", "var/lib/other", "var/log"})
      fs::create_directories(top_ / directory);
    std::ofstream(top_ / "file") << "x";
    fs::create_directory_symlink(top_ / "var", top_ / "alias");
  }
  ~AllBut() override { fs::remove_all(top_); }
  std::string in(const char* path) const { return (top_ / path).native(); }

  fs::path top_;
};

TEST_F(AllBut, NothingExcluded) {
  EXPECT_THAT(all_but(top_, {}), UnorderedElementsAre(in("etc"), in("tmp"), in("var"), in("file")));
}

TEST_F(AllBut, ListsWhatLiesBesideAnExcludedOne) {
  EXPECT_THAT(all_but(top_, {in("etc"), in("var/lib/mandos")}),
              UnorderedElementsAre(in("tmp"), in("file"), in("var/log"), in("var/lib/other")));
}

TEST_F(AllBut, ExcludedByAnotherName) {
  EXPECT_THAT(all_but(top_, {in("alias/lib/mandos"), in("etc/../etc"), in("file")}),
              UnorderedElementsAre(in("tmp"), in("var/log"), in("var/lib/other")));
}

TEST_F(AllBut, WhatWillBeMadeLaterIsNotListedEither) {
  EXPECT_THAT(all_but(top_, {in("etc"), in("tmp"), in("var/lib"), in("var/to/come")}),
              UnorderedElementsAre(in("file"), in("var/log")));
}

TEST_F(AllBut, OnlyWholeNamesCount) {
  EXPECT_THAT(all_but(top_, {in("var/lib/mand"), in("et")}),
              UnorderedElementsAre(in("etc"), in("tmp"), in("file"), in("var/log"),
                                   in("var/lib/mandos"), in("var/lib/other")));
}

TEST_F(AllBut, NoSuchDirectory) { EXPECT_THAT(all_but(in("nowhere"), {}), IsEmpty()); }

TEST(CheckerJail, NothingUnderTheConfigurationOrTheStateIsUnrestricted) {
  const auto jail = checker_jail();
  ASSERT_TRUE(jail.landlock);
  EXPECT_FALSE(jail.landlock->unrestricted.empty());
  for (const auto& path : jail.landlock->unrestricted) {
    for (const std::string kept : {"/etc", "/usr", MANDOS_STATE_DIR, MANDOS_CONFIG_DIR}) {
      EXPECT_NE(path, kept);
      EXPECT_FALSE(path.starts_with(kept + "/")) << path;
      EXPECT_FALSE(kept.starts_with(path + "/")) << path;
    }
  }
}

TEST(ParseChildren, Lists) {
  EXPECT_THAT(parse_children(""), IsEmpty());
  EXPECT_THAT(parse_children("12 "), ElementsAre(12));
  EXPECT_THAT(parse_children("1 4194304 77"), ElementsAre(1, 4194304, 77));
  EXPECT_THAT(parse_children("  5  6 "), ElementsAre(5, 6));
}

// kill(2) takes 0 and negative numbers for groups.
TEST(ParseChildren, NothingThatIsNoProcess) {
  EXPECT_THAT(parse_children("0 -1 -12 x 9x 99999999999999 3"), ElementsAre(3));
}

}  // namespace
}  // namespace mandos::checker_runner
