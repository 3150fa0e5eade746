// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/unknown_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>
#include <utility>

namespace mandos::monitor {
namespace {

using testing::ElementsAre;

class UnknownOptionsTest : public testing::Test {
 protected:
  void read(std::string_view text) {
    ini_.read("f", SecretString(text, &secret_memory()), problems_);
  }

  Problems problems_;
  Ini ini_;
};

TEST_F(UnknownOptionsTest, ShowsNoLineThatMayBePartOfASecret) {
  // A folded secret whose author forgot the white space.
  read("[a]\nsecret =\nhQIOA6QdEjBs2L\nHEAfTCyrDe5Xnm9esaPbvWF9CUqfn4srzVgSu234REJMVv7lBSrPE=\n");
  constexpr std::string_view kKnown[] = {"secret"};
  judge_unknown(ini_.sections().at("a"), "a", kKnown, {}, problems_, problems_);
  EXPECT_EQ(problems_.size(), 2U);
  for (const auto& problem : problems_) {
    EXPECT_EQ(problem.find("QIOA"), problem.npos) << problem;
    EXPECT_EQ(problem.find("eaft"), problem.npos) << problem;
  }
}

TEST_F(UnknownOptionsTest, ShowsANameWithASpaceInIt) {
  read("[a]\napproval delay = PT5M\n");
  constexpr std::string_view kKnown[] = {"approval_delay"};
  judge_unknown(ini_.sections().at("a"), "a", kKnown, kKnown, problems_, problems_);
  EXPECT_THAT(problems_, ElementsAre("f:2: [a] approval delay: found an unknown option, expected "
                                     "\"approval_delay\""));
}

TEST(NearestOption, KnowsTypingErrorsInShortNames) {
  constexpr std::string_view kKnown[] = {"host", "port", "timeout"};
  for (const auto& [typed, meant] : {std::pair{"hots", "host"},
                                     {"prot", "port"},
                                     {"prt", "port"},
                                     {"hosts", "host"},
                                     {"pots", ""},
                                     {"xy", ""},
                                     {"", ""},
                                     {"tiemout", "timeout"},
                                     {"tmeot", "timeout"},
                                     {"teot", ""}}) {
    EXPECT_EQ(nearest(typed, kKnown), meant) << typed;
  }
}

}  // namespace
}  // namespace mandos::monitor
