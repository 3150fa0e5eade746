// SPDX-License-Identifier: GPL-3.0-or-later
// Checkers that cannot work are named, and no other.
#include "checker-runner/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "common/text.h"

namespace mandos::checker_runner {
namespace {

class JudgeTest : public testing::Test {
 protected:
  JudgeTest() {
    std::string name = (std::filesystem::temp_directory_path() / "judge.XXXXXX").native();
    folder_ = mkdtemp(name.data());
    path_ = concat("/nowhere:", folder_);
    std::filesystem::create_directory(folder_ + "/with spaces");
    for (const char* program : {"fping", "env", "nice", "nohup", "setsid", "timeout"}) {
      make(program, 0755);
    }
    make("with spaces/there", 0755);
  }
  ~JudgeTest() override { std::filesystem::remove_all(folder_); }

  void make(const std::string& name, mode_t mode, const char* content = "#!/bin/sh\n") {
    std::ofstream(folder_ + "/" + name) << content;
    ASSERT_EQ(chmod((folder_ + "/" + name).c_str(), mode), 0);
  }
  std::optional<std::string> judge(const std::string& command) const {
    return judge_command(command, {.path = path_});
  }
  void expect_named(const std::string& command, const std::string& what) const {
    EXPECT_THAT(judge(command).value_or("nothing"),
                testing::StartsWith(concat("the ", what, " is not found, or user ")))
        << command;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(JudgeTest, AProgramThatIsNotFoundIsNamed) {
  make("plain", 0644);
  std::filesystem::create_directory(folder_ + "/folder");
  for (const std::string& command :
       {std::string("fping -q -- host"), std::string("  fping"), folder_ + "/fping x"}) {
    EXPECT_EQ(judge(command), std::nullopt) << command;
  }
  for (const std::string& program :
       {std::string("fpign"), std::string("plain"), std::string("folder"), folder_ + "/missing"}) {
    expect_named(program + " -q", "checker program " + program);
  }
}

TEST_F(JudgeTest, TheFirstProgramIsFoundInEveryCommonForm) {
  // P stands for the program.
  for (const std::string form : {"LC_ALL=C P -q x",
                                 "A= B='x y' P",
                                 "exec P",
                                 "command P",
                                 "exec P -q %(host)s",
                                 "P;true",
                                 "P&&true",
                                 "P & true",
                                 "P|grep x",
                                 "! P",
                                 "! P x",
                                 "(P x)",
                                 "( P )",
                                 "{ P; }",
                                 "{ P x\n}",
                                 "'P' x",
                                 "\"P\" x",
                                 "P\n",
                                 "\n P",
                                 "# words\nP",
                                 "P>/dev/null",
                                 ">/dev/null P",
                                 "2>/dev/null P",
                                 "2>&1 P",
                                 "P 2>/dev/null $HOME",
                                 "\\P",
                                 "P -x 'a|b' # | x",
                                 "P \\\n x",
                                 "env P",
                                 "env LC_ALL=C P",
                                 "nice P",
                                 "nohup P",
                                 "setsid P x",
                                 "timeout 5 P",
                                 "A=b exec P",
                                 "! { ( P; ) }",
                                 "command env P"}) {
    for (const auto& [program, is_there] : {std::pair{"fping", true}, {"fpign", false}}) {
      std::string command = form;
      command.replace(command.find('P'), 1, program);
      if (is_there) {
        EXPECT_EQ(judge(command), std::nullopt) << command;
      } else {
        expect_named(command, "checker program fpign");
      }
    }
  }
}

TEST_F(JudgeTest, APathMayBeQuoted) {
  for (const char* name : {"there", "missing"}) {
    const std::string plain = concat(folder_, "/with spaces/", name);
    for (const auto& command : {concat("'", plain, "' x"), concat("\"", plain, "\""),
                                concat(folder_, "/with\\ spaces/", name, ";:"),
                                concat(folder_, "/'with spaces'/", name)}) {
      if (name == std::string("there")) {
        EXPECT_EQ(judge(command), std::nullopt) << command;
      } else {
        expect_named(command, "checker program " + plain);
      }
    }
  }
}

TEST_F(JudgeTest, TheInterpreterOfAScriptIsLookedFor) {
  make("lost", 0755, "#! /nowhere/perl -w\n");
  make("lost_by_env", 0755, "#!/usr/bin/env perll\n");
  make("found_by_env", 0755, "#!/usr/bin/env fping\n");
  make("env_with_more", 0755, "#!/usr/bin/env -S perll -w\n");
  make("odd", 0755, "#!perll\n");
  make("not_ended", 0755, "#!/nowhere/perl");
  make("binary", 0755,
       "\x7f"
       "ELF");
  expect_named("lost x", "interpreter /nowhere/perl of the checker program lost");
  expect_named("lost_by_env", "interpreter perll of the checker program lost_by_env");
  for (const char* good : {"found_by_env", "env_with_more", "odd", "not_ended", "binary"}) {
    EXPECT_EQ(judge(good), std::nullopt) << good;
  }
}

TEST_F(JudgeTest, WhatOnlyAShellCanTellIsNotJudged) {
  for (const char* command : {"",
                              " ",
                              "true",
                              "test -e x",
                              "[ -e x ]",
                              "if fpign; then :; fi",
                              "while fpign; do :; done",
                              "case x in x) fpign;; esac",
                              "for x in y; do fpign; done",
                              "$PROGRAM",
                              "$(fpign)",
                              "`fpign`",
                              "A=$(fpign) fpign",
                              "A=`fpign` fpign",
                              "PATH=/opt fpign",
                              "env PATH=/opt fpign",
                              "%%(host)s",
                              "%(host)s x",
                              "'%(host)s' fpign",
                              "exec",
                              "exec >/dev/null; fpign",
                              "command -v fpign",
                              "env -i fpign",
                              "timeout -k 1 5 fpign",
                              "nice -n 5 fpign",
                              ": x",
                              "~/fpign",
                              "fpign() { true; }; fpign",
                              "fpign ( ) { true; }",
                              "((1))",
                              "fpign || fping",
                              "fpign||true",
                              "fpign -q x 2>&1 || fping",
                              "{fping,fpign}",
                              "fpi*",
                              "fpig?",
                              "'fpign",
                              "\"fpign",
                              "fpign\\",
                              "<<x fpign",
                              "A=b",
                              "time fpign",
                              "function f { fpign; }",
                              "eval fpign",
                              ". fpign",
                              "''",
                              "&& fpign",
                              ") fpign",
                              "\"$X\"fpign",
                              "'A'=b fping"}) {
    EXPECT_EQ(judge(command), std::nullopt) << command;
  }
}

TEST_F(JudgeTest, EveryCutOfACommandHasAnAnswer) {
  const std::string command =
      "A='b' \\\n2>/x ! { env \"C\\\"\"=%%d (exec 'e f'\\ g;#h\n %(i)s)& } | j";
  for (std::size_t at = 0; at <= command.size(); ++at) {
    for (std::size_t size = 0; size <= command.size() - at; ++size) {
      judge(command.substr(at, size));
    }
  }
}

TEST_F(JudgeTest, OthersPathsAndRightsCountForNothing) {
  setenv("PATH", folder_.c_str(), 1);
  make("only-we-find", 0755);
  EXPECT_NE(judge_command("only-we-find"), std::nullopt);
  EXPECT_EQ(judge_command("PATH=/x only-we-find"), std::nullopt);
  // Somebody else may be allowed to execute what we may not.
  make("theirs", 0010);
  make("nobodys", 0600);
  const Judging other{.path = path_, .as_checker_user = false};
  EXPECT_EQ(judge_command("theirs", other), std::nullopt);
  EXPECT_NE(judge_command("nobodys", other), std::nullopt);
  EXPECT_NE(judge_command("fpign", other), std::nullopt);
}

}  // namespace
}  // namespace mandos::checker_runner
