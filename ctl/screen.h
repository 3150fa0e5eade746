// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "common/result.h"
#include "ctl/view.h"

struct screen;  // of curses

namespace mandos::ctl {

/// The terminal, by ncurses: shows a Layout and reads keys. ncurses sends only what differs from
/// what the terminal shows already. There is one per process.
class Screen {
 public:
  Screen() = default;
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen();

  /// Takes standard input and output over. The locale must be set.
  Status open();
  /// Gives the terminal back as it was found, until redraw(). No effect before open().
  void leave();

  std::size_t rows() const;
  std::size_t columns() const;
  void show(const Layout& layout);
  /// Writes all of the screen anew, since something else may have written on it.
  void redraw();
  /// The terminal has another size now.
  void resize();
  /// The next key that was pressed, if there is one.
  std::optional<Key> read();

 private:
  enum class Sequence { kNone, kMayBegin, kInside };
  std::optional<Key> after_escape();

  screen* terminal_ = nullptr;
  bool color_ = false;
  Sequence sequence_ = Sequence::kNone;
};

}  // namespace mandos::ctl
