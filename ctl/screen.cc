// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/screen.h"

#define NCURSES_NOMACROS 1
#include <curses.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <cstdio>

#include "common/text.h"

// From <term.h>, which would also define hundreds of macros with common names.
extern "C" char* tigetstr(const char* capability);

namespace mandos::ctl {
namespace {

enum Pair : short { kNoPair, kYellow, kRed, kGreen };

// How long ncurses waits for the rest of a key's sequence, which a slow line may deliver in
// pieces.
constexpr int kEscapeMilliseconds = 100;

struct Look {
  attr_t attributes;
  Pair pair;
};

Look look_of(Style style) {
  switch (style) {
    case Style::kTitle:
      return {A_REVERSE, kNoPair};
    case Style::kAlarm:
      return {A_REVERSE | A_BOLD, kRed};
    case Style::kHeading:
      return {A_BOLD | A_UNDERLINE, kNoPair};
    case Style::kWaiting:
      return {A_BOLD, kYellow};
    case Style::kBad:
      return {A_BOLD, kRed};
    case Style::kGood:
      return {A_NORMAL, kGreen};
    case Style::kFaint:
      return {A_DIM, kNoPair};
    case Style::kPlain:
      break;
  }
  return {A_NORMAL, kNoPair};
}

/// A key for which ncurses has a number.
std::optional<Key> special(wint_t code) {
  switch (code) {
    case KEY_UP:
      return kUp;
    case KEY_DOWN:
      return kDown;
    case KEY_PPAGE:
      return kPageUp;
    case KEY_NPAGE:
      return kPageDown;
    case KEY_HOME:
      return kHome;
    case KEY_END:
      return kEnd;
    case KEY_BACKSPACE:
      return kBackspace;
    case KEY_ENTER:
      return kEnter;
    case KEY_F(1):
      return kF1;
    default:
      return std::nullopt;
  }
}

constexpr wint_t kEscapeCharacter = 27;

}  // namespace

Screen::~Screen() {
  leave();
  if (terminal_ != nullptr) delscreen(terminal_);
}

Status Screen::open() {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) {
    return Error{"standard input and output must be a terminal"};
  }
  const char* const type = getenv("TERM");  // NOLINT(concurrency-mt-unsafe): no threads
  terminal_ = newterm(nullptr, stdout, stdin);
  const bool moves = terminal_ != nullptr && tigetstr("cup") != nullptr;
  if (!moves) {
    leave();
    return Error{concat("TERM=", escaped(type == nullptr ? "" : type),
                        " is not a terminal that the terminfo database knows, or one that cannot "
                        "move its cursor")};
  }
  cbreak();
  noecho();
  nonl();
  keypad(stdscr, TRUE);
  nodelay(stdscr, TRUE);
  set_escdelay(kEscapeMilliseconds);
  color_ = has_colors();
  if (color_) {
    start_color();
    use_default_colors();
    init_pair(kYellow, COLOR_YELLOW, -1);
    init_pair(kRed, COLOR_RED, -1);
    init_pair(kGreen, COLOR_GREEN, -1);
  }
  return Ok{};
}

void Screen::leave() {
  if (terminal_ != nullptr && !isendwin()) endwin();
}

std::size_t Screen::rows() const { return static_cast<std::size_t>(getmaxy(stdscr)); }
std::size_t Screen::columns() const { return static_cast<std::size_t>(getmaxx(stdscr)); }

void Screen::show(const Layout& layout) {
  int y = 0;
  for (const auto& row : layout.rows) {
    move(y++, 0);
    for (const auto& piece : row.pieces) {
      auto look = look_of(piece.style);
      if (row.selected) look.attributes |= A_REVERSE;
      attr_set(look.attributes, color_ ? look.pair : kNoPair, nullptr);
      // The last cell of the screen leaves no place for the cursor after it; the resulting error is
      // harmless.
      addnwstr(piece.text.data(), static_cast<int>(piece.text.size()));
    }
  }
  attr_set(A_NORMAL, kNoPair, nullptr);
  curs_set(layout.cursor ? 1 : 0);
  move(y > 0 ? y - 1 : 0, layout.cursor ? static_cast<int>(*layout.cursor) : 0);
  refresh();
}

void Screen::redraw() {
  // Otherwise modes that a shell has set in the meantime would persist.
  if (!isendwin()) reset_prog_mode();
  clearok(curscr, TRUE);
}

void Screen::resize() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return;
  if (size.ws_row == 0 || size.ws_col == 0) return;
  resize_term(size.ws_row, size.ws_col);
  erase();
  clearok(curscr, TRUE);
}

/// With Meta, a key is an escape character followed directly by the key.
std::optional<Key> Screen::after_escape() {
  wint_t next = 0;
  if (get_wch(&next) != OK) {
    sequence_ = Sequence::kMayBegin;
    return kEscape;
  }
  if (next == L'v' || next == L'V') return kPageUp;
  if (next == L'[' || next == L'O') sequence_ = Sequence::kInside;
  return std::nullopt;
}

std::optional<Key> Screen::read() {
  for (;;) {
    wint_t code = 0;
    const int kind = get_wch(&code);
    if (kind == ERR) return std::nullopt;
    if (kind == KEY_CODE_YES) {
      sequence_ = Sequence::kNone;
      if (const auto key = special(code)) return key;
      continue;
    }
    // The rest of a sequence that came late, or of a key unknown to this terminal type, must not
    // act as keys: the right arrow ends with "C", which counts a check.
    if (sequence_ == Sequence::kInside) {
      if (code >= 0x40 && code <= 0x7e) sequence_ = Sequence::kNone;
      continue;
    }
    const bool may_begin = sequence_ == Sequence::kMayBegin;
    sequence_ = Sequence::kNone;
    if (may_begin && (code == L'[' || code == L'O')) {
      sequence_ = Sequence::kInside;
      continue;
    }
    if (code == kEscapeCharacter) {
      if (const auto key = after_escape()) return key;
      continue;
    }
    if (code == L'\r' || code == L'\n') return kEnter;
    if (code == 0x7f || code == 0x08) return kBackspace;
    return static_cast<Key>(code);
  }
}

}  // namespace mandos::ctl
