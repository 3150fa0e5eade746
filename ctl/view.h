// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ctl/client.h"
#include "ctl/watch.h"

namespace mandos::ctl {

/// A key: a character, a control character, or one of these.
using Key = char32_t;
inline constexpr Key kUp = 0x110000;
inline constexpr Key kDown = 0x110001;
inline constexpr Key kPageUp = 0x110002;
inline constexpr Key kPageDown = 0x110003;
inline constexpr Key kHome = 0x110004;
inline constexpr Key kEnd = 0x110005;
inline constexpr Key kBackspace = 0x110006;
inline constexpr Key kEnter = 0x110007;
inline constexpr Key kEscape = 0x110008;
inline constexpr Key kF1 = 0x110009;
constexpr Key control(char letter) { return static_cast<Key>(letter) & 0x1fU; }

/// How a text is displayed; Screen maps this to attributes and colors.
enum class Style { kPlain, kTitle, kAlarm, kHeading, kWaiting, kBad, kGood, kFaint };

/// One line of the screen, as wide as the screen.
struct Row {
  struct Piece {
    std::wstring text;
    Style style = Style::kPlain;
  };
  std::vector<Piece> pieces;
  bool selected = false;
};

struct Layout {
  std::vector<Row> rows;
  /// The position of the cursor in the last row; nothing if no text is being typed.
  std::optional<std::size_t> cursor;
};

/// What mandos-monitor shows and how keys change that: a function of the events, without a
/// terminal, a bus or a clock. Times are wall times in milliseconds.
class View {
 public:
  enum class Act {
    kApprove,
    kDeny,
    kEnable,
    kDisable,
    kCheck,
    kStopCheck,
    kCountAsChecked,
    kRemove
  };
  /// What a key requests from the program.
  struct Request {
    enum class What { kNothing, kQuit, kRedraw, kAct } what = What::kNothing;
    Act act{};
    std::string path;  // identifies the client
    std::string name;
  };

  /// A client is new or has changed.
  void update(const Client& client);
  void remove(const std::string& path);
  /// No client is known any more. The selection stays until they are known again.
  void clear();
  /// `clock` is the time as shown in the log.
  void happened(std::string_view clock, const Event& event);
  void note(std::string_view clock, std::wstring_view text, Style style = Style::kPlain);
  Request press(Key key);
  Layout layout(std::size_t rows, std::size_t columns, std::int64_t now);

 private:
  struct Entry {
    std::string path;
    std::string name;
    std::wstring shown_name;
    std::wstring shown_host;
    std::wstring searched;  // name, host and state in lower case
    std::string_view state;
    std::optional<std::int64_t> deadline;  // of the approval that it is waiting for
    std::optional<std::int64_t> expires;
    std::optional<std::int64_t> checked;
    bool approved_by_default = false;
  };
  struct Line {
    std::wstring text;
    Style style;
  };
  enum class Mode { kList, kKeys, kQuestion, kSearch, kFilter };

  void arrange();
  bool fits(const Entry& entry, std::wstring_view text) const;
  const Entry* selected();
  void select(std::size_t index);
  void move(std::ptrdiff_t by);
  void scroll_log(std::ptrdiff_t by);
  void find(bool forward, bool stay);
  Request press_in_list(Key key);
  void press_in_text(Key key);
  Request ask_for(Act act);
  std::vector<Line> log_lines(std::size_t count, std::size_t columns) const;
  Row entry_row(const Entry& entry, bool is_selected, std::size_t columns, std::int64_t now) const;
  Row title(std::size_t columns) const;
  Row footer(std::size_t columns) const;

  std::map<std::string, Entry, std::less<>> entries_;  // by path
  std::vector<const Entry*> order_;                    // those that are shown, from the top
  bool arranged_ = true;                               // order_ is up to date
  bool server_there_ = true;
  std::size_t waiting_ = 0;
  std::size_t disabled_ = 0;
  std::size_t failed_ = 0;

  // A key acts on the client that was selected, wherever it has moved to, and never on one that
  // took its place: if it is gone or hidden, nothing is selected until the next move.
  std::string selected_;  // path; empty: nothing was selected yet
  std::size_t index_ = 0;
  std::size_t top_ = 0;  // the first row of order_ on the screen

  Mode mode_ = Mode::kList;
  std::wstring typed_;
  std::wstring search_;
  std::wstring filter_;
  std::wstring message_;  // until the next key
  Request asked_;         // to be confirmed

  std::deque<Line> log_;
  bool log_shown_ = true;
  bool log_focused_ = false;
  bool log_wrapped_ = true;
  bool verbose_ = false;
  std::size_t log_back_ = 0;  // lines between the end of the log and the last one shown

  // From the last layout.
  std::size_t list_rows_ = 1;
  std::size_t log_rows_ = 1;
  std::size_t columns_ = 80;
};

}  // namespace mandos::ctl
