// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/view.h"

#include <algorithm>
#include <array>
#include <cwctype>
#include <iterator>
#include <tuple>
#include <utility>
#include <variant>

#include "common/text.h"
#include "ctl/cells.h"
#include "ctl/times.h"

namespace mandos::ctl {
namespace {

constexpr std::size_t kMostLines = 1000;   // in the log
constexpr std::size_t kMostLength = 1000;  // of a line
constexpr std::size_t kMostTyped = 60;
constexpr std::size_t kMostSearched = 1000;

// The columns of the list, each followed by a blank. The host gets the rest.
constexpr std::size_t kMark = 1;
constexpr std::size_t kState = 8;
constexpr std::size_t kLeft = 15;
constexpr std::size_t kChecked = 10;
constexpr std::size_t kLeastName = 12;
constexpr std::size_t kMostName = 40;

constexpr std::wstring_view kHints =
    L" a approve  d deny  + enable  - disable  s check  R remove  / find  & filter  ?";

constexpr std::array<std::wstring_view, 20> kHelpText = {
    L" The selected client",
    L"   a              approve it               d            deny it",
    L"   +              enable it                -            disable it",
    L"   s              start a checker now      S            stop its checker",
    L"   C              count now as a successful check",
    L"   R _ Ctrl-K     remove it (asks first)",
    L"",
    L" Moving",
    L"   Up k Ctrl-P            a line up        Down j Ctrl-N              down",
    L"   PageUp b Meta-V        a page up        PageDown f Space Ctrl-V    down",
    L"   Home g                 to the top       End G                      to the end",
    L"",
    L" Finding: part of a name, a host or a state, such as \"failed\"",
    L"   /              search                   n N          next, previous match",
    L"   &              show only matches        Esc          show all clients again",
    L"",
    L" The log",
    L"   l D            show or hide it          Tab          move in the log or list",
    L"   w i            wrap its lines or not    v            log successes, too",
    L"   q              quit                     Ctrl-L       redraw the screen",
};

struct ActKey {
  Key key;
  View::Act act;
};
constexpr ActKey kActKeys[] = {
    {U'a', View::Act::kApprove},        {U'd', View::Act::kDeny},   {U'+', View::Act::kEnable},
    {U'-', View::Act::kDisable},        {U's', View::Act::kCheck},  {U'S', View::Act::kStopCheck},
    {U'C', View::Act::kCountAsChecked}, {U'R', View::Act::kRemove}, {U'_', View::Act::kRemove},
    {control('k'), View::Act::kRemove},
};

std::wstring wide(std::string_view ascii) { return {ascii.begin(), ascii.end()}; }

std::wstring small(std::wstring_view text) {
  std::wstring out(text.substr(0, kMostSearched));
  for (auto& c : out) c = static_cast<wchar_t>(std::towlower(static_cast<std::wint_t>(c)));
  return out;
}

std::wstring two_digits(std::int64_t number) {
  return (number < 10 ? L"0" : L"") + std::to_wstring(number);
}

/// With seconds: "4:59", "1:02:03".
std::wstring countdown(std::int64_t milliseconds) {
  const std::int64_t seconds = std::max<std::int64_t>(milliseconds, 0) / 1000;
  const std::int64_t hours = seconds / 3600;
  std::wstring minutes = std::to_wstring(seconds / 60 % 60);
  if (hours > 0) minutes = std::to_wstring(hours) + L":" + two_digits(seconds / 60 % 60);
  return minutes + L":" + two_digits(seconds % 60);
}

/// No finer than necessary, so that few rows change every second: "45s", "12m", "3h 12m", "2d
/// 3h".
std::wstring roughly(std::int64_t milliseconds) {
  const std::int64_t seconds = std::max<std::int64_t>(milliseconds, 0) / 1000;
  const std::int64_t minutes = seconds / 60;
  const std::int64_t hours = minutes / 60;
  if (minutes == 0) return std::to_wstring(seconds) + L"s";
  if (hours == 0) return std::to_wstring(minutes) + L"m";
  if (hours < 24) return std::to_wstring(hours) + L"h " + std::to_wstring(minutes % 60) + L"m";
  return std::to_wstring(hours / 24) + L"d " + std::to_wstring(hours % 24) + L"h";
}

std::string_view state_of(const Client& client) {
  constexpr std::int64_t kNoneYet = -2;
  // A disabled client is refused immediately. The original's server may still call it pending if it
  // was disabled just after it got its secret.
  if (!client.flag("Enabled")) return "disabled";
  if (client.flag("ApprovalPending")) return "waiting";
  if (client.flag("CheckerRunning")) return "checking";
  const std::int64_t status = client.number("LastCheckerStatus");
  if (status == kNoneYet) return "enabled";
  return status == 0 ? "ok" : "failed";
}

Style style_of(std::string_view state) {
  if (state == "waiting") return Style::kWaiting;
  if (state == "failed") return Style::kBad;
  if (state == "disabled") return Style::kFaint;
  return state == "ok" ? Style::kGood : Style::kPlain;
}

/// A row of exactly `columns` columns.
class RowOf {
 public:
  explicit RowOf(std::size_t columns) : left_(columns) {}

  RowOf& add(std::wstring_view text, Style style = Style::kPlain) {
    const std::size_t wanted = columns_of(text);
    put(fitted(text, std::min(wanted, left_)), style);
    return *this;
  }
  /// Removes `columns` columns and a blank.
  RowOf& cell(std::wstring_view text, std::size_t columns, Style style = Style::kPlain) {
    put(fitted(text, std::min(columns, left_)), style);
    if (left_ > 0) put(L" ", Style::kPlain);
    return *this;
  }
  Row done(Style style = Style::kPlain) {
    put(std::wstring(left_, L' '), style);
    return std::move(row_);
  }

 private:
  void put(std::wstring text, Style style) {
    left_ -= columns_of(text);
    if (!text.empty()) row_.pieces.push_back({std::move(text), style});
  }
  Row row_;
  std::size_t left_;
};

Row whole(std::wstring_view text, std::size_t columns, Style style = Style::kPlain) {
  return RowOf(columns).add(text, style).done(style);
}

std::size_t name_columns(std::size_t columns) {
  constexpr std::size_t kOthers = kMark + kState + kLeft + kChecked + 5 + 15;
  return columns < kOthers ? kLeastName : std::clamp(columns - kOthers, kLeastName, kMostName);
}

struct Told {
  std::wstring text;
  Style style;
};

std::wstring detail(const Event& event, std::string_view name) {
  for (const auto& [key, value] : event.details) {
    if (key == name) return readable(shown(value));
  }
  return {};
}

Told waiting_text(const std::wstring& client, const Event& event) {
  std::wstring text = client + L" waits for approval";
  for (const auto& [key, value] : event.details) {
    if (const auto* delay = std::get_if<std::uint64_t>(&value)) {
      const bool approved = detail(event, "approved_by_default") == L"Yes";
      text += approved ? L", and is approved in " : L", and is denied in ";
      text += countdown(static_cast<std::int64_t>(std::min<std::uint64_t>(*delay, INT64_MAX)));
    }
  }
  return {text, Style::kWaiting};
}

Told log_text(const Event& event) {
  const std::wstring client = readable(event.client);
  const std::string_view what = event.what;
  if (what == "waiting") return waiting_text(client, event);
  if (what == "granted") return {client + L" got its secret", Style::kGood};
  if (what == "refused") {
    return {client + L" was refused: " + detail(event, "reason"), Style::kBad};
  }
  if (what == "checked") {
    if (detail(event, "ok") == L"Yes") return {client + L": check succeeded", Style::kPlain};
    return {client + L": check failed, status " + detail(event, "status"), Style::kBad};
  }
  if (what == "expired") return {client + L" expired, and is disabled", Style::kBad};
  if (what == "unknown-key") {
    return {L"unknown key from " + detail(event, "address") + L": " + detail(event, "key_id"),
            Style::kBad};
  }
  if (what == "server-gone") return {L"The server is gone; waiting for it", Style::kBad};
  if (what == "server-back") return {L"The server is back", Style::kGood};
  return {client + L" was " + readable(what), Style::kPlain};  // enabled, disabled, added, removed
}

}  // namespace

void View::update(const Client& client) {
  const auto found = entries_.try_emplace(client.path).first;
  Entry& entry = found->second;
  const auto arranged_by = [&] { return std::tuple(entry.deadline, entry.name); };
  const auto before = arranged_by();
  const auto count = [&](std::size_t change) {
    // Adding the largest number subtracts one.
    if (entry.state == "waiting") waiting_ += change;
    if (entry.state == "disabled") disabled_ += change;
    if (entry.state == "failed") failed_ += change;
  };
  if (entry.path.empty()) {
    arranged_ = false;
    entry.path = client.path;
  } else {
    count(static_cast<std::size_t>(-1));
  }
  if (entry.name != client.name() || entry.shown_name.empty()) {
    entry.name = client.name();
    entry.shown_name = readable(entry.name);
  }
  entry.shown_host = readable(client.text("Host"));
  entry.state = state_of(client);
  count(1);
  entry.searched =
      small(entry.shown_name) + L"\n" + small(entry.shown_host) + L"\n" + wide(entry.state);
  entry.expires = parse_time(client.text("Expires"));
  entry.checked = parse_time(client.text("LastCheckedOK"));
  entry.approved_by_default = client.flag("ApprovedByDefault");
  entry.deadline.reset();
  if (entry.state == "waiting") {
    constexpr std::uint64_t kMost = std::uint64_t{1} << 50U;
    entry.deadline =
        parse_time(client.text("LastApprovalRequest")).value_or(0) +
        static_cast<std::int64_t>(std::min(client.milliseconds("ApprovalDelay"), kMost));
  }
  if (before != arranged_by() || !filter_.empty()) arranged_ = false;
}

void View::remove(const std::string& path) {
  const auto found = entries_.find(path);
  if (found == entries_.end()) return;
  waiting_ -= found->second.state == "waiting" ? 1 : 0;
  disabled_ -= found->second.state == "disabled" ? 1 : 0;
  failed_ -= found->second.state == "failed" ? 1 : 0;
  entries_.erase(found);
  order_.clear();
  arranged_ = false;
}

void View::clear() {
  entries_.clear();
  order_.clear();
  waiting_ = disabled_ = failed_ = 0;
  arranged_ = false;
}

bool View::fits(const Entry& entry, std::wstring_view text) const {
  return entry.searched.find(text) != std::wstring::npos;
}

/// Waiting clients first, the most urgent at the top; the others by name.
void View::arrange() {
  if (std::exchange(arranged_, true)) return;
  order_.clear();
  for (const auto& [path, entry] : entries_) {
    if (filter_.empty() || fits(entry, filter_)) order_.push_back(&entry);
  }
  std::ranges::sort(order_, {}, [](const Entry* entry) {
    return std::tuple(!entry->deadline, entry->deadline.value_or(0), std::string_view(entry->name));
  });
  if (selected_.empty() && !order_.empty()) selected_ = order_[0]->path;
  const auto found = std::ranges::find(order_, selected_, &Entry::path);
  if (found != order_.end()) index_ = static_cast<std::size_t>(found - order_.begin());
  index_ = std::min(index_, order_.empty() ? 0 : order_.size() - 1);
}

const View::Entry* View::selected() {
  arrange();
  if (index_ >= order_.size() || order_[index_]->path != selected_) return nullptr;
  return order_[index_];
}

void View::select(std::size_t index) {
  arrange();
  if (order_.empty()) return;
  index_ = std::min(index, order_.size() - 1);
  selected_ = order_[index_]->path;
}

void View::move(std::ptrdiff_t by) {
  if (log_focused_) return scroll_log(by);
  if (selected() == nullptr) return select(index_);
  const auto to = std::max<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(index_) + by);
  select(static_cast<std::size_t>(to));
}

void View::scroll_log(std::ptrdiff_t by) {
  const std::size_t lines = log_lines(SIZE_MAX, columns_).size();
  const std::size_t most = lines > log_rows_ ? lines - log_rows_ : 0;
  const auto to = std::max<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(log_back_) - by);
  log_back_ = std::min(static_cast<std::size_t>(to), most);
}

/// `stay`: the selected client may match as well.
void View::find(bool forward, bool stay) {
  arrange();
  if (search_.empty()) {
    message_ = L"Nothing to search for; type / first";
    return;
  }
  for (std::size_t i = stay ? 0 : 1; i <= order_.size(); ++i) {
    const std::size_t at =
        (index_ + (forward ? i : 2 * order_.size() - i)) % std::max<std::size_t>(order_.size(), 1);
    if (at < order_.size() && fits(*order_[at], search_)) return select(at);
  }
  message_ = L"Not found: " + search_;
}

void View::happened(std::string_view clock, const Event& event) {
  if (event.what == "server-gone") server_there_ = false;
  if (event.what == "server-back") server_there_ = true;
  const auto told = log_text(event);
  if (event.what == "checked" && told.style == Style::kPlain && !verbose_) return;
  note(clock, told.text, told.style);
}

void View::note(std::string_view clock, std::wstring_view text, Style style) {
  log_.push_back({readable(clock) + L" " + std::wstring(text.substr(0, kMostLength)), style});
  if (log_.size() > kMostLines) log_.pop_front();
  if (log_back_ == 0) return;
  // A user who has scrolled up keeps the same lines in view.
  scroll_log(log_wrapped_ ? -static_cast<std::ptrdiff_t>(
                                (columns_of(log_.back().text) + columns_ - 1) / columns_)
                          : -1);
}

View::Request View::press(Key key) {
  message_.clear();
  switch (mode_) {
    case Mode::kKeys:
      mode_ = Mode::kList;
      return {};
    case Mode::kQuestion:
      mode_ = Mode::kList;
      if (key == U'y' || key == U'Y') return asked_;
      message_ = L"Nothing was removed";
      return {};
    case Mode::kSearch:
    case Mode::kFilter:
      press_in_text(key);
      return {};
    case Mode::kList:
      break;
  }
  return press_in_list(key);
}

void View::press_in_text(Key key) {
  const bool is_filter = mode_ == Mode::kFilter;
  if (key == kEscape || key == control('g')) {
    mode_ = Mode::kList;
  } else if (key == kBackspace) {
    if (typed_.empty()) {
      mode_ = Mode::kList;
    } else {
      typed_.pop_back();
    }
  } else if (key == control('u')) {
    typed_.clear();
  } else if (key == kEnter) {
    mode_ = Mode::kList;
    if (is_filter) {
      filter_ = small(typed_);
      arranged_ = false;
      if (selected() == nullptr) select(0);
    } else {
      if (!typed_.empty()) search_ = small(typed_);
      find(true, true);
    }
  } else if (key >= U' ' && key < kUp && typed_.size() < kMostTyped) {
    if (can_be_shown(static_cast<wchar_t>(key))) typed_ += static_cast<wchar_t>(key);
  }
}

View::Request View::ask_for(Act act) {
  const Entry* const entry = selected();
  if (entry == nullptr) {
    message_ = order_.empty() ? L"There is no client" : L"No client is selected; move first";
    return {};
  }
  Request request{Request::What::kAct, act, entry->path, entry->name};
  if (act != Act::kRemove) return request;
  asked_ = request;
  mode_ = Mode::kQuestion;
  return {};
}

View::Request View::press_in_list(Key key) {
  const auto page = static_cast<std::ptrdiff_t>(log_focused_ ? log_rows_ : list_rows_);
  for (const auto& each : kActKeys) {
    if (each.key == key) return ask_for(each.act);
  }
  switch (key) {
    case U'q':
    case U'Q':
      return {Request::What::kQuit, {}, {}, {}};
    case control('l'):
      return {Request::What::kRedraw, {}, {}, {}};
    case U'?':
    case kF1:
      mode_ = Mode::kKeys;
      break;
    case U'l':
    case U'D':
      log_shown_ = !log_shown_;
      log_focused_ = false;
      break;
    case control('i'):
      log_focused_ = log_shown_ && !log_focused_;
      break;
    case U'w':
    case U'i':
      log_wrapped_ = !log_wrapped_;
      log_back_ = 0;
      message_ = log_wrapped_ ? L"Long lines of the log are wrapped"
                              : L"Long lines of the log are cut off";
      break;
    case U'v':
      verbose_ = !verbose_;
      message_ = verbose_ ? L"Successful checks are logged, too"
                          : L"Successful checks are no longer logged";
      break;
    case kUp:
    case control('p'):
    case U'k':
      move(-1);
      break;
    case kDown:
    case control('n'):
    case U'j':
      move(1);
      break;
    case kPageUp:
    case U'b':
      move(-page);
      break;
    case kPageDown:
    case control('v'):
    case U' ':
    case U'f':
      move(page);
      break;
    case kHome:
    case U'g':
      if (log_focused_) {
        scroll_log(PTRDIFF_MIN / 2);
      } else {
        select(0);
      }
      break;
    case kEnd:
    case U'G':
      if (log_focused_) {
        scroll_log(PTRDIFF_MAX / 2);
      } else {
        select(SIZE_MAX);
      }
      break;
    case U'/':
    case U'&':
      mode_ = key == U'/' ? Mode::kSearch : Mode::kFilter;
      typed_.clear();
      break;
    case U'n':
    case U'N':
      find(key == U'n', false);
      break;
    case kEscape:
      if (!filter_.empty()) arranged_ = false;
      filter_.clear();
      break;
    default:
      break;
  }
  return {};
}

/// The last `count` screen lines of the log, from the top.
std::vector<View::Line> View::log_lines(std::size_t count, std::size_t columns) const {
  std::vector<Line> found;  // from the end
  for (auto line = log_.rbegin(); line != log_.rend() && found.size() < count; ++line) {
    if (!log_wrapped_ || columns == 0) {
      found.push_back(*line);
      continue;
    }
    std::vector<Line> parts(1, Line{{}, line->style});
    for (const wchar_t c : line->text) {
      if (columns_of(parts.back().text) + columns_of(std::wstring_view(&c, 1)) > columns) {
        parts.push_back({{}, line->style});
      }
      parts.back().text += c;
    }
    found.insert(found.end(), std::move_iterator(parts.rbegin()), std::move_iterator(parts.rend()));
  }
  found.resize(std::min(found.size(), count), Line{});
  std::ranges::reverse(found);
  return found;
}

Row View::entry_row(const Entry& entry, bool is_selected, std::size_t columns,
                    std::int64_t now) const {
  std::wstring left;
  if (entry.deadline) {
    left = (entry.approved_by_default ? L"approve in " : L"deny in ") +
           countdown(*entry.deadline - now);
  } else if (entry.expires && entry.state != "disabled") {
    left = roughly(*entry.expires - now);
  }
  std::wstring checked = L"never";
  if (entry.checked) {
    constexpr std::int64_t kMinute = 60'000;
    checked = now - *entry.checked < kMinute ? L"<1m" : roughly(now - *entry.checked);
    checked += L" ago";
  }
  const Style style = style_of(entry.state);
  RowOf row(columns);
  row.cell(is_selected ? L">" : L"", kMark)
      .cell(entry.shown_name, name_columns(columns),
            entry.deadline ? Style::kWaiting : Style::kPlain)
      .cell(wide(entry.state), kState, style)
      .cell(left, kLeft, entry.deadline ? Style::kWaiting : Style::kPlain)
      .cell(checked, kChecked)
      .add(entry.shown_host);
  Row made = row.done();
  made.selected = is_selected;
  return made;
}

Row View::title(std::size_t columns) const {
  std::wstring text =
      L" " + std::to_wstring(entries_.size()) + (entries_.size() == 1 ? L" client" : L" clients");
  for (const auto& [number, what] : {std::pair(waiting_, L"waiting"), std::pair(failed_, L"failed"),
                                     std::pair(disabled_, L"disabled")}) {
    if (number > 0) text += L", " + std::to_wstring(number) + L" " + what;
  }
  if (!filter_.empty()) {
    text += L"; shown: " + std::to_wstring(order_.size()) + L" with \"" + filter_ + L"\"";
  }
  if (!server_there_) return whole(L" No server runs; waiting for it", columns, Style::kAlarm);
  return whole(text, columns, Style::kTitle);
}

Row View::footer(std::size_t columns) const {
  if (mode_ == Mode::kQuestion) {
    return whole(L" Remove \"" +
                     fitted(readable(asked_.name), std::min(columns_of(readable(asked_.name)),
                                                            columns > 40 ? columns - 40 : 1)) +
                     L"\" from the server? y/n ",
                 columns, Style::kWaiting);
  }
  if (mode_ == Mode::kKeys) return whole(L" Any key returns to the clients", columns);
  if (mode_ != Mode::kList) {
    return whole((mode_ == Mode::kFilter ? L"Show only: " : L"Search for: ") + typed_, columns);
  }
  if (!message_.empty()) return whole(L" " + message_, columns, Style::kHeading);
  return whole(kHints, columns, Style::kFaint);
}

Layout View::layout(std::size_t rows, std::size_t columns, std::int64_t now) {
  constexpr std::size_t kFrame = 3;  // title, heading, footer
  constexpr std::size_t kLeastForLog = 9;
  arrange();
  columns_ = std::max<std::size_t>(columns, 1);
  const bool with_log = log_shown_ && rows >= kLeastForLog && mode_ != Mode::kKeys;
  log_rows_ = with_log ? std::max<std::size_t>(2, rows / 4) : 1;
  const std::size_t taken = kFrame + (with_log ? log_rows_ + 1 : 0);
  list_rows_ = rows > taken ? rows - taken : 1;
  // Move as little as possible: the list scrolls only if the selected row would leave it.
  top_ = std::clamp(top_, index_ + 1 > list_rows_ ? index_ + 1 - list_rows_ : 0, index_);
  top_ = std::min(top_, order_.size() > list_rows_ ? order_.size() - list_rows_ : 0);

  Layout made;
  made.rows.push_back(title(columns));
  if (mode_ == Mode::kKeys) {
    made.rows.push_back(whole(L" Keys", columns, Style::kHeading));
    for (std::size_t i = 0; i < list_rows_; ++i) {
      made.rows.push_back(whole(i < kHelpText.size() ? kHelpText[i] : L"", columns));
    }
  } else {
    RowOf heading(columns);
    made.rows.push_back(heading.cell(L"", kMark, Style::kHeading)
                            .cell(L"Name", name_columns(columns), Style::kHeading)
                            .cell(L"State", kState, Style::kHeading)
                            .cell(L"Time left", kLeft, Style::kHeading)
                            .cell(L"Last check", kChecked, Style::kHeading)
                            .add(L"Host", Style::kHeading)
                            .done());
    for (std::size_t i = top_; i < top_ + list_rows_; ++i) {
      if (i < order_.size()) {
        const bool is_selected = i == index_ && order_[i]->path == selected_;
        made.rows.push_back(entry_row(*order_[i], is_selected, columns, now));
      } else {
        made.rows.push_back(whole(L"", columns));
      }
    }
  }
  if (with_log) {
    std::wstring text = log_focused_ ? L" Log (Tab: back to the clients)" : L" Log";
    if (log_back_ > 0) text += L", " + std::to_wstring(log_back_) + L" lines below";
    made.rows.push_back(whole(text, columns, log_focused_ ? Style::kTitle : Style::kHeading));
    auto lines = log_lines(log_rows_ + log_back_, columns);
    lines.resize(std::max(lines.size(), log_rows_), Line{{}, Style::kPlain});
    for (std::size_t i = 0; i < log_rows_; ++i) {
      made.rows.push_back(whole(lines[i].text, columns, lines[i].style));
    }
  }
  made.rows.resize(rows > 0 ? rows - 1 : 0, whole(L"", columns));
  if (rows > 0) made.rows.push_back(footer(columns));
  if (mode_ == Mode::kSearch || mode_ == Mode::kFilter) {
    const std::size_t prompt = mode_ == Mode::kFilter ? 11 : 12;
    made.cursor = std::min(prompt + columns_of(typed_), columns_ - 1);
  }
  return made;
}

}  // namespace mandos::ctl
