// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/arguments.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace mandos::ctl {
namespace {

constexpr Option kOptions[] = {
    {"help", 'h', "", "Help.", 0, true},       {"all", 'a', "", "All."},
    {"approve", 'A', "", "Approve.", 1},       {"deny", 'D', "", "Deny.", 1},
    {"deny-by-default", 0, "", "Deny later."}, {"timeout", 't', "TIME", "Timeout."},
};

/// What was read, as "name=value" and operands; or "!" and the error.
std::string read(const std::vector<std::string_view>& words) {
  const auto found = parse_arguments(kOptions, words);
  if (!found) return "!" + found.error();
  std::string text;
  for (const auto& given : found->options) {
    text += std::string(given.option->name) + "=" + given.value + " ";
  }
  for (const auto& operand : found->operands) text += operand + " ";
  return text;
}

TEST(Arguments, AreReadInEverySpelling) {
  const struct {
    std::vector<std::string_view> words;
    const char* read;
  } kRows[] = {
      {{}, ""},
      {{"one", "two"}, "one two "},
      {{"-a", "one"}, "all= one "},
      {{"-aA"}, "all= approve= "},
      {{"-at5m"}, "all= timeout=5m "},
      {{"-at=5m"}, "all= timeout==5m "},
      {{"-t=5m"}, "timeout=5m "},
      {{"-t", "5m"}, "timeout=5m "},
      {{"-t", "-5"}, "timeout=-5 "},
      {{"-t", "-5.5"}, "timeout=-5.5 "},
      {{"-t", "-"}, "timeout=- "},
      {{"-t", "-x y"}, "timeout=-x y "},
      {{"-t", ""}, "timeout= "},
      {{"--timeout", "5m"}, "timeout=5m "},
      {{"--timeout="}, "timeout= "},
      {{"--tim=5m=6m"}, "timeout=5m=6m "},
      {{"--deny"}, "deny= "},
      {{"--deny-"}, "deny-by-default= "},
      {{"one", "-a", "two"}, "all= one two "},
      {{"-a", "--", "-D", "--"}, "all= -D -- "},
      {{"-", "-5"}, "- -5 "},
      {{"-D", "-D"}, "deny= deny= "},
      {{"--help", "--nonsense"}, "help= "},
      {{"--nonsense", "-h"}, "help= "},
  };
  for (const auto& row : kRows) {
    std::string line;
    for (const auto word : row.words) line += std::string(word) + " ";
    EXPECT_EQ(read(row.words), row.read) << line;
  }
}

TEST(Arguments, WrongOnesAreNamed) {
  const struct {
    std::vector<std::string_view> words;
    const char* part;
  } kRows[] = {
      {{"--nonsense"}, "unknown option --nonsense"},
      {{"-x"}, "unknown option -x"},
      {{"-ax"}, "unknown option -x in -ax"},
      {{"--den"}, "--den may mean --deny --deny-by-default"},
      {{"--all=1"}, "--all takes no operand"},
      {{"-t"}, "--timeout needs an operand: TIME"},
      {{"--timeout", "-a"}, "--timeout needs an operand: TIME"},
      {{"-t", "--", "5m"}, "--timeout needs an operand: TIME"},
      {{"-A", "-D"}, "--deny and --approve exclude each other"},
      {{"-\x1b[2J"}, "unknown option -?[2J"},
  };
  for (const auto& row : kRows) EXPECT_EQ(read(row.words), std::string("!") + row.part);
}

TEST(Arguments, TheirHelpFitsAndNamesEach) {
  const std::string help = help_of(kOptions);
  for (const auto& option : kOptions) {
    EXPECT_NE(help.find("--" + std::string(option.name)), std::string::npos) << option.name;
  }
  EXPECT_NE(help.find("  -t, --timeout TIME"), std::string::npos) << help;
}

}  // namespace
}  // namespace mandos::ctl
