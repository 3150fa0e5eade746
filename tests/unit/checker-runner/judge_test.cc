// SPDX-License-Identifier: GPL-3.0-or-later
// Checkers that cannot work are named, and no other.
#include "checker-runner/judge.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "common/text.h"

namespace mandos::checker_runner {
namespace {

class JudgeTest : public testing::Test {
 protected:
  JudgeTest() {
    std::string name = (std::filesystem::temp_directory_path() / "judge.XXXXXX").native();
    folder_ = mkdtemp(name.data());
    setenv("PATH", concat("/nowhere:", folder_).c_str(), 1);
  }
  ~JudgeTest() override { std::filesystem::remove_all(folder_); }

  void make(const std::string& name, mode_t mode) {
    std::ofstream(folder_ + "/" + name) << "#!/bin/sh\n";
    ASSERT_EQ(chmod((folder_ + "/" + name).c_str(), mode), 0);
  }

  std::string folder_;
};

TEST_F(JudgeTest, AProgramThatIsNotFoundIsNamed) {
  make("fping", 0755);
  make("plain", 0644);
  std::filesystem::create_directory(folder_ + "/folder");
  for (const std::string& command :
       {std::string("fping -q -- host"), std::string("  fping"), folder_ + "/fping x"}) {
    EXPECT_EQ(judge_command(command), std::nullopt) << command;
  }
  for (const std::string& program :
       {std::string("fpign"), std::string("plain"), std::string("folder"), folder_ + "/missing"}) {
    const auto warning = judge_command(program + " -q");
    ASSERT_TRUE(warning) << program;
    EXPECT_NE(warning->find(concat("found no program ", program, " that user ")), std::string::npos)
        << *warning;
  }
}

TEST_F(JudgeTest, WhatOnlyAShellCanTellIsNotJudged) {
  for (const char* command : {"", " ", "true", "test -e x", "[ -e x ]", "! fpign",
                              "if fpign; then :; fi", "A=b fpign", "$PROGRAM", "(fpign)", "fpign;",
                              "%%(host)s", "exec fpign", "\"fpign\" x", ": x", "~/fpign"}) {
    EXPECT_EQ(judge_command(command), std::nullopt) << command;
  }
}

}  // namespace
}  // namespace mandos::checker_runner
