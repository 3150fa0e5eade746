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
    for (const char* program :
         {"fping", "env", "ionice", "nice", "nohup", "setsid", "time", "timeout"}) {
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
    return judge_command(command, {.path = path_, .is_dash = is_dash_});
  }
  void expect_named(const std::string& command, const std::string& what) const {
    EXPECT_THAT(judge(command).value_or("nothing"),
                testing::StartsWith(concat("the ", what, " is not found, or user ")))
        << command;
  }

  std::string folder_;
  std::string path_;
  bool is_dash_ = true;
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
                                 "timeout -k 1 5 P",
                                 "timeout -k1 -s KILL 5 P",
                                 "timeout --foreground --signal=9 -- 5 P",
                                 "nice -n 5 P",
                                 "nice -n5 P",
                                 "nice -5 P",
                                 "nice --adjustment=5 P",
                                 "ionice -c2 -n 7 -t P",
                                 "setsid -fw P",
                                 "setsid --wait P",
                                 "env -u LANG A=b P",
                                 "nohup nice -n 1 timeout 5 P",
                                 "time P",
                                 "time -p P x",
                                 "cd / && P",
                                 "cd /tmp && P -q -- %(host)s >/dev/null 2>&1",
                                 "test -e /x && P && true",
                                 "[ -e /x ] && P",
                                 "true; P",
                                 "true\nP",
                                 "echo \"$HOME\" '%(host)s' && P",
                                 "cd \"%(host)s\" && P \"$1\"",
                                 "fping -q x && P",
                                 "fping -q x >\"$X\" && P",
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

TEST_F(JudgeTest, WhatOnlyBashKnowsIsNamedIfTheShellIsDash) {
  std::filesystem::remove(folder_ + "/time");
  for (const auto& [command, word] : {std::pair{"[[ -e /x ]]", "[["},
                                      {"source /x", "source"},
                                      {"cd / && [[ -e x ]]", "[["},
                                      {"time fping", "time"},
                                      {"declare x", "declare"}}) {
    is_dash_ = true;
    EXPECT_THAT(judge(command).value_or("nothing"),
                testing::StartsWith(concat(word, " is not a command of /bin/sh, which is dash: ")))
        << command;
    is_dash_ = false;
    EXPECT_EQ(judge(command), std::nullopt) << command;
  }
  expect_named("time fpign", "checker program fpign");
}

TEST_F(JudgeTest, AQuoteThatIsNotClosedIsNamed) {
  for (const char* command :
       {"'fpign", "\"fpign", "fping 'x", "fping \"%(host)s", "fping 'a\" x", "a; b | c \"\\\"",
        "case x in x) fping 'y;; esac", "fping # it's\nfping 'x", "fping '%(host)s", "$X 'y"}) {
    EXPECT_THAT(judge(command).value_or("nothing"),
                testing::StartsWith("the checker has a quote that is not closed, "))
        << command;
  }
  for (const char* command :
       {"fping 'x'", "fping \"it's\"", "fping it\\'s", "fping # it's", "fping x#y",
        "fping 'a'\\''b'", "fping '\n'", "fping \"$(echo ')')\"", "fping `echo '`", "fping ${X%'}",
        "fping <<x\nit's\nx", "fping $'\\''", "fping \"\\\"\""}) {
    EXPECT_EQ(judge(command), std::nullopt) << command;
  }
}

TEST_F(JudgeTest, ADamagedExecutableIsNamed) {
  std::filesystem::copy_file("/bin/true", folder_ + "/whole");
  EXPECT_EQ(judge("whole"), std::nullopt);
  const auto expect_damaged = [this](const std::string& how) {
    EXPECT_THAT(judge("cut").value_or("nothing"),
                testing::StartsWith("the checker program cut is a damaged executable: "))
        << how;
    std::filesystem::remove(folder_ + "/cut");
  };
  for (const unsigned size : {4U, 5U, 6U, 18U, 51U, 63U, 64U, 100U}) {
    std::filesystem::copy_file(folder_ + "/whole", folder_ + "/cut");
    std::filesystem::resize_file(folder_ + "/cut", size);
    expect_damaged(concat(size, " bytes"));
  }
  std::filesystem::copy_file(folder_ + "/whole", folder_ + "/cut");
  std::fstream(folder_ + "/cut", std::ios::in | std::ios::out).seekp(16).write("\1", 1);
  expect_damaged("an object file");
  // Perhaps there is an emulator for it.
  std::filesystem::copy_file(folder_ + "/whole", folder_ + "/foreign");
  std::fstream(folder_ + "/foreign", std::ios::in | std::ios::out).seekp(18).write("\x7f", 1);
  EXPECT_EQ(judge("foreign"), std::nullopt);
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
  expect_named("lost x", "interpreter /nowhere/perl of the checker program lost");
  expect_named("lost_by_env", "interpreter perll of the checker program lost_by_env");
  for (const char* good : {"found_by_env", "env_with_more", "odd", "not_ended"}) {
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
                              "timeout --new 5 fpign",
                              "timeout $T fpign",
                              "nice -x fpign",
                              "nice - fpign",
                              "env -u PATH fpign",
                              "env -uPATH fpign",
                              "ionice -p 1",
                              "cd /opt && ./fpign",
                              "cd / && fpign; true",
                              "cd / && fpign | fping",
                              "cd / && fpign & fping",
                              "cd / && fpign() { true; }; fpign",
                              "fpign() { true; }; true && fpign",
                              "cd / && fpign || fping",
                              "fping || cd / && fpign",
                              "cd $(fping) && fpign",
                              "PATH=/opt; fpign",
                              "export PATH=/opt; fpign",
                              "alias fpign=fping\nfpign",
                              "set -e; fpign",
                              "fping <<x && fpign",
                              "exit 0; fpign",
                              "[x]",
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
                              "fpign\\",
                              "<<x fpign",
                              "A=b",
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
