// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/cells.h"

#include <gtest/gtest.h>
#include <locale.h>

#include <string>

namespace mandos::ctl {
namespace {

class Cells : public testing::Test {
 protected:
  void in(const char* locale) { ASSERT_NE(setlocale(LC_ALL, locale), nullptr) << locale; }
  ~Cells() override { setlocale(LC_ALL, "C"); }
};

TEST_F(Cells, WhatCouldMoveTheCursorOrTurnTheTextIsReplaced) {
  in("C.UTF-8");
  EXPECT_EQ(readable("web-1.example"), L"web-1.example");
  EXPECT_EQ(readable("\x1b[2J\r\n\t\x07\x7f"), L"?[2J?????");
  EXPECT_EQ(readable("\xc2\x9b"
                     "2J"),
            L"?2J");  // a control character beyond ASCII
  EXPECT_EQ(readable("a\xe2\x80\xae"
                     "b"),
            L"a?b");  // right-to-left override
  EXPECT_EQ(readable("a\xe2\x80\x8f\xe2\x81\xa6"
                     "b"),
            L"a??b");  // mark, isolate
  EXPECT_EQ(readable("a\xe2\x80\x8b"
                     "b"),
            L"a?b");                        // zero-width space
  EXPECT_EQ(readable("e\xcc\x81"), L"e?");  // combining accent
  EXPECT_EQ(readable(std::string("a\0b", 3)), L"a?b");
}

TEST_F(Cells, InvalidUtf8) {
  in("C.UTF-8");
  EXPECT_EQ(readable("\xff\xfe"), L"??");
  EXPECT_EQ(readable("\x80"
                     "a"),
            L"?a");
  EXPECT_EQ(readable("\xc3"), L"?");  // cut off
  EXPECT_EQ(readable("\xe4\xb8"
                     "a"),
            L"??a");                                 // too early an end
  EXPECT_EQ(readable("\xc0\x9b"), L"??");            // overlong
  EXPECT_EQ(readable("\xed\xa0\x80"), L"???");       // a surrogate
  EXPECT_EQ(readable("\xf4\x90\x80\x80"), L"????");  // beyond Unicode
  EXPECT_EQ(readable(""), L"");
}

TEST_F(Cells, WhatTheLocaleCannotShowIsReplaced) {
  in("C.UTF-8");
  EXPECT_EQ(readable("b\xc3\xa4r"), L"b\u00e4r");
  EXPECT_EQ(readable("\xe4\xb8\xad"), L"\u4e2d");
  in("C");
  EXPECT_EQ(readable("b\xc3\xa4r \xe4\xb8\xad"), L"b?r ?");
}

TEST_F(Cells, TextFillsItsColumns) {
  in("C.UTF-8");
  EXPECT_EQ(fitted(L"web", 5), L"web  ");
  EXPECT_EQ(fitted(L"web", 3), L"web");
  EXPECT_EQ(fitted(L"webs", 3), L"we~");
  EXPECT_EQ(fitted(L"webs", 1), L"~");
  EXPECT_EQ(fitted(L"webs", 0), L"");
  EXPECT_EQ(columns_of(L"\u4e2d\u6587"), 4U);
  EXPECT_EQ(fitted(L"\u4e2d\u6587", 5), L"\u4e2d\u6587 ");
  EXPECT_EQ(fitted(L"\u4e2d\u6587", 4), L"\u4e2d\u6587");
  EXPECT_EQ(fitted(L"\u4e2d\u6587", 3), L"\u4e2d~");
  EXPECT_EQ(fitted(L"\u4e2d\u6587", 2), L"~ ");  // half a character is none
}

}  // namespace
}  // namespace mandos::ctl
