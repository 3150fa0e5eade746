// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "common/result.h"
#include "ctl/view.h"

struct screen;  // of curses

namespace mandos::ctl {

/// The terminal, through ncurses: shows a Layout and reads keys. ncurses sends only what differs
/// from the present screen. There is one object per process.
class Screen {
 public:
  Screen() = default;
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen();

  /// Takes over standard input and output. The locale must be set.
  Status open();
  /// Restores the terminal, until redraw(). No effect before open().
  void leave();

  std::size_t rows() const;
  std::size_t columns() const;
  void show(const Layout& layout);
  /// Redraws the whole screen, since something else may have written on it.
  void redraw();
  /// The size of the terminal has changed.
  void resize();
  /// The next key pressed, if there is one.
  std::optional<Key> read();

 private:
  enum class Sequence { kNone, kMayBegin, kInside };
  std::optional<Key> after_escape();

  screen* terminal_ = nullptr;
  bool color_ = false;
  Sequence sequence_ = Sequence::kNone;
};

}  // namespace mandos::ctl
