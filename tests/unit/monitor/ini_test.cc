// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/ini.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace mandos::monitor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class IniTest : public testing::Test {
 protected:
  void read(std::string_view text, const std::string& file = "f") {
    ini_.read(file, SecretString(text, &secret_memory()), problems_);
  }
  /// The expanded value, or "!" and what was found.
  std::string value(std::string_view section, std::string_view option) {
    auto& from = section == "DEFAULT" ? ini_.defaults() : ini_.sections().at(section);
    auto found = from.options.find(option);
    if (found == from.options.end()) found = ini_.defaults().options.find(option);
    if (found == ini_.defaults().options.end()) return "absent";
    auto expanded = ini_.expand(from, found->second);
    return expanded ? std::string(*expanded) : "!" + expanded.error();
  }

  Problems problems_;
  Ini ini_;
};

TEST_F(IniTest, ReadsTheDialect) {
  read(
      "# a comment\n"
      "[DEFAULT]\n"
      "Host = none\n"
      "[one ]x] rest\n"
      "A=1\n"
      "b : 2 = 3  \n"
      "c = first\n"
      "  second\n"
      "; a comment\n"
      "\n"
      "\tthird # no comment\n"
      "\n"
      "d =\n"
      "  [not a section]\n"
      "E f= \xc2\xa0 x\xe3\x80\x80\n"
      "[]=y\n");
  EXPECT_THAT(problems_, IsEmpty());
  EXPECT_EQ(value("one ]x", "a"), "1");
  EXPECT_EQ(value("one ]x", "b"), "2 = 3");
  EXPECT_EQ(value("one ]x", "c"), "first\nsecond\n\nthird # no comment");
  EXPECT_EQ(value("one ]x", "d"), "\n[not a section]");
  EXPECT_EQ(value("one ]x", "e f"), "x");
  EXPECT_EQ(value("one ]x", "[]"), "y");
  EXPECT_EQ(value("one ]x", "host"), "none");
  EXPECT_EQ(ini_.sections().at("one ]x").options.at("d").place.text(), "f:13");
}

TEST_F(IniTest, KnowsEveryKindOfLineEnd) {
  read("[a]\r\nx = 1\ry = 2\n\rz = 3");
  EXPECT_EQ(value("a", "x") + value("a", "y") + value("a", "z"), "123");
  EXPECT_EQ(ini_.sections().at("a").options.at("z").place.line, 5U);
}

TEST_F(IniTest, ContinuesOnlyWhatIsIndentedMore) {
  read("[a]\n  x = 1\n  y = 2\n   more\n z = 3\n");
  EXPECT_THAT(problems_, IsEmpty());
  EXPECT_EQ(value("a", "x"), "1");
  EXPECT_EQ(value("a", "y"), "2\nmore");
  EXPECT_EQ(value("a", "z"), "3");
}

TEST_F(IniTest, Expands) {
  ini_.add_default("preset", "p%%");
  read(
      "[DEFAULT]\nall = %(own)s\n[a]\nown = [%(Preset)s]\nx = %(all)s 100%% %%(later)s\n[b]\nown = "
      "mine\n");
  EXPECT_EQ(value("a", "x"), "[p%] 100% %(later)s");
  EXPECT_EQ(value("a", "all"), "[p%]");
  EXPECT_EQ(value("b", "all"), "mine");
  EXPECT_TRUE(ini_.sections().at("a").options.at("own").referred);
  EXPECT_FALSE(ini_.sections().at("a").options.at("x").referred);
}

TEST_F(IniTest, RefusesBadExpansions) {
  read("[a]\nv = %\nw = %x\nx = %(a\ny = %()s\nz = %(v)d\nloop = %(loop)s\nnone = %(Nowhere)s\n");
  for (const char* option : {"v", "w", "x", "y", "z"}) {
    EXPECT_THAT(value("a", option), HasSubstr("begins neither")) << option;
  }
  EXPECT_THAT(value("a", "loop"), HasSubstr("too deep"));
  EXPECT_THAT(value("a", "none"), HasSubstr("%(nowhere)s"));
}

TEST_F(IniTest, NestsTenDeep) {
  std::string text = "[a]\no0 = plain\no1 = %%\n";
  for (int i = 2; i < 13; ++i) text += concat('o', i, " = %(o", i - 1, ")s\n");
  read(text + "p1 = %(o0)s\n");
  EXPECT_EQ(value("a", "p1"), "plain");
  EXPECT_EQ(value("a", "o10"), "%");
  EXPECT_THAT(value("a", "o11"), HasSubstr("too deep"));
}

TEST_F(IniTest, BoundsWhatAnExpansionCosts) {
  // Of nothing at all, too: 20 to the ninth references.
  std::string text = "[a]\nx0 = " + std::string(1000, 'x') + "\ny0 =\n";
  for (const char name : {'x', 'y'}) {
    for (int i = 1; i < 10; ++i) {
      text += concat(name, i, " = ");
      for (int j = 0; j < 20; ++j) text += concat("%(", name, i - 1, ")s");
      text += '\n';
    }
  }
  read(text);
  EXPECT_THAT(value("a", "x9"), HasSubstr("4 MiB"));
  EXPECT_THAT(value("a", "y9"), HasSubstr("4 MiB"));
}

TEST_F(IniTest, TellsEveryErrorAtOnce) {
  read(
      "early\nearly too\n"
      "[a]\njunk junk\n= nameless\nx = 1\nX = 2\n"
      "[b]\ny = \xff\n"
      "[a]\nx = 3\n");
  EXPECT_THAT(problems_, ElementsAre(AllOf(HasSubstr("f:1: "), HasSubstr("before any section"),
                                           HasSubstr("expected")),
                                     HasSubstr("f:4: [a] "), HasSubstr("f:5: [a] "),
                                     AllOf(HasSubstr("f:7: [a] x: "), HasSubstr("f:6")),
                                     AllOf(HasSubstr("f:9: [b] "), HasSubstr("UTF-8")),
                                     AllOf(HasSubstr("f:10: [a] "), HasSubstr("f:3"))));
}

// Or its options would be told as second values of the section before.
TEST_F(IniTest, AHeaderThatIsNotClosedIsOneError) {
  for (const char* header : {"[b", "[c # the web", "[]"}) {
    problems_.clear();
    read(concat("[a", header, "]\nx = 1\n", header, "\nx = 2\n  more\n"), header);
    EXPECT_THAT(
        problems_,
        ElementsAre(HasSubstr(concat(header, ":3: [", header + 1,
                                     "] found a section header without a name or its \"]\""))));
    EXPECT_EQ(value(concat("a", header), "x"), "1");
  }
  EXPECT_TRUE(ini_.defaults().broken);
}

TEST_F(IniTest, RefusesTheSameInTwoFiles) {
  read("[DEFAULT]\nx = 1\n[a]\n", "first");
  read("[DEFAULT]\nx = 2\ny = 3\n[a]\n[b]\n", "second");
  EXPECT_THAT(problems_,
              ElementsAre(AllOf(HasSubstr("second:2: [DEFAULT] x"), HasSubstr("first:2")),
                          AllOf(HasSubstr("second:4: [a]"), HasSubstr("first:3"))));
  EXPECT_EQ(value("b", "y"), "3");
}

TEST_F(IniTest, DoesNotCarryASectionIntoTheNextFile) {
  read("[a]\nx = 1\n", "first");
  read("  more\n", "second");
  EXPECT_THAT(problems_, ElementsAre(HasSubstr("second:1: found a line before any section")));
  EXPECT_EQ(value("a", "x"), "1");
}

TEST_F(IniTest, NamesAByteOrderMark) {
  for (const char* first : {"[DEFAULT]\n", "# a comment\n[DEFAULT]\n", "\n"}) {
    problems_.clear();
    read(concat("\xef\xbb\xbf", first));
    EXPECT_THAT(problems_, ElementsAre("f:1: found a byte order mark (save it as UTF-8 without "
                                       "BOM), expected a section header such as [DEFAULT]"));
  }
  problems_.clear();
  read("# \xef\xbb\xbf in a comment\n[DEFAULT]\nx = \xef\xbb\xbf\n", "g");
  EXPECT_THAT(problems_, IsEmpty());
}

TEST_F(IniTest, RefusesZeroBytes) {
  read({"[a]\nx = \0\n", 10});
  EXPECT_THAT(problems_, ElementsAre(HasSubstr("f:2: [a]")));
}

}  // namespace
}  // namespace mandos::monitor
