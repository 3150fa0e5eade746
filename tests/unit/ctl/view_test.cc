// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <locale.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/text.h"
#include "ctl/cells.h"
#include "ctl/client.h"
#include "ctl/times.h"
#include "ctl/watch.h"

namespace mandos::ctl {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

constexpr std::int64_t kMinute = 60'000;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kNow = 1'795'776'000'000;

class ViewTest : public testing::Test {
 protected:
  ViewTest() { setlocale(LC_ALL, "C.UTF-8"); }
  ~ViewTest() override { setlocale(LC_ALL, "C"); }

  static Client client(std::string_view name) {
    Client made;
    made.path = concat("/clients/", name);
    for (const auto& property : all_properties()) {
      Value value = std::string();
      if (property.kind == Kind::kBoolean) value = false;
      if (property.kind == Kind::kDuration) value = std::uint64_t{1000};
      if (property.kind == Kind::kNumber) value = std::int64_t{0};
      made.properties.emplace(property.name, value);
    }
    made.properties["Name"] = std::string(name);
    made.properties["Host"] = concat(name, ".example");
    made.properties["Enabled"] = true;
    made.properties["LastCheckedOK"] = time_text(kNow - 5 * kMinute);
    made.properties["Expires"] = time_text(kNow + 55 * kMinute);
    return made;
  }
  static Client waiting(std::string_view name, std::int64_t left, bool approved = false) {
    Client made = client(name);
    made.properties["ApprovalPending"] = true;
    made.properties["ApprovedByDefault"] = approved;
    made.properties["LastApprovalRequest"] = time_text(kNow - kMinute);
    made.properties["ApprovalDelay"] = static_cast<std::uint64_t>(left + kMinute);
    return made;
  }
  void three() {
    for (const auto* name : {"web", "mail", "db"}) view.update(client(name));
  }

  std::vector<std::wstring> screen(std::size_t rows = 24, std::size_t columns = 80,
                                   std::int64_t now = kNow) {
    std::vector<std::wstring> lines;
    selected = {};
    for (const auto& row : view.layout(rows, columns, now).rows) {
      std::wstring line;
      for (const auto& piece : row.pieces) line += piece.text;
      EXPECT_EQ(columns_of(line), columns) << narrow(line);
      if (row.selected) selected = narrow(line);
      line.erase(line.find_last_not_of(L' ') + 1);
      lines.push_back(line);
    }
    EXPECT_THAT(lines, SizeIs(rows));
    return lines;
  }
  static std::string narrow(std::wstring_view text) {
    std::string out;
    for (const wchar_t c : text) out += c < 0x80 ? static_cast<char>(c) : '#';
    return out;
  }
  /// The rows of the list that are not empty.
  std::vector<std::string> list(std::size_t rows = 24, std::int64_t now = kNow) {
    std::vector<std::string> found;
    const auto lines = screen(rows, 80, now);
    for (std::size_t i = 2; i + 1 < lines.size() && !lines[i].starts_with(L" Log"); ++i) {
      if (!lines[i].empty()) found.push_back(narrow(lines[i]));
    }
    return found;
  }
  std::vector<std::string> names() {
    auto found = list();
    for (auto& line : found) line = line.substr(2, line.find(' ', 2) - 2);
    return found;
  }
  std::string title() { return narrow(screen()[0]); }
  std::string footer() { return narrow(screen().back()); }
  std::vector<std::string> log(std::size_t rows = 24, std::size_t columns = 80) {
    std::vector<std::string> found;
    const auto lines = screen(rows, columns);
    auto from = std::ranges::find_if(lines, [](const auto& l) { return l.starts_with(L" Log"); });
    while (from != lines.end() && ++from + 1 < lines.end()) {
      if (!from->empty()) found.push_back(narrow(*from));
    }
    return found;
  }
  View::Request type(std::u32string_view keys) {
    View::Request last;
    for (const Key key : keys) last = view.press(key);
    return last;
  }

  View view;
  std::string selected;
};

TEST_F(ViewTest, ClientsByNameWithStateTimesAndHost) {
  three();
  auto failed = client("mail");
  failed.properties["LastCheckerStatus"] = std::int64_t{3};
  failed.properties["Expires"] = time_text(kNow + 45'000);
  view.update(failed);
  auto disabled = client("off");
  disabled.properties["Enabled"] = false;
  disabled.properties["Expires"] = std::string();
  disabled.properties["LastCheckedOK"] = std::string();
  view.update(disabled);
  auto checking = client("long");
  checking.properties["CheckerRunning"] = true;
  checking.properties["Expires"] = time_text(kNow + 26 * kHour);
  view.update(checking);
  auto fresh = client("new");
  fresh.properties["LastCheckerStatus"] = std::int64_t{-2};
  fresh.properties["LastCheckedOK"] = time_text(kNow - 30'000);
  fresh.properties["Expires"] = time_text(kNow + 3 * kHour + 12 * kMinute);
  view.update(fresh);
  const auto lines = screen();
  EXPECT_EQ(narrow(lines[0]), " 6 clients, 1 failed, 1 disabled");
  EXPECT_EQ(narrow(lines[1]),
            "  Name                       State    Time left       Last check Host");
  EXPECT_THAT(
      list(),
      ElementsAre("> db                         ok       55m             5m ago     db.example",
                  "  long                       checking 1d 2h           5m ago     long.example",
                  "  mail                       failed   45s             5m ago     mail.example",
                  "  new                        enabled  3h 12m          <1m ago    new.example",
                  "  off                        disabled                 never      off.example",
                  "  web                        ok       55m             5m ago     web.example"));
}

TEST_F(ViewTest, WaitingClientsAreOnTopTheMostUrgentFirstAndCountDown) {
  three();
  view.update(waiting("web", 10 * kMinute));
  view.update(waiting("mail", 5 * kMinute, true));
  EXPECT_THAT(names(), ElementsAre("mail", "web", "db"));
  EXPECT_THAT(title(), HasSubstr("2 waiting"));
  EXPECT_THAT(list()[0], HasSubstr("waiting  approve in 5:00 "));
  EXPECT_THAT(list()[1], HasSubstr("waiting  deny in 10:00 "));
  EXPECT_THAT(list(24, kNow + 61'001)[1], HasSubstr("deny in 8:58 "));
  EXPECT_THAT(list(24, kNow + kHour)[1], HasSubstr("deny in 0:00 "));
  view.update(waiting("db", 90 * kMinute));
  EXPECT_THAT(list()[2], HasSubstr("deny in 1:30:00 "));
  view.update(client("mail"));
  EXPECT_THAT(names(), ElementsAre("web", "db", "mail"));
  auto disabled = waiting("web", kMinute);
  disabled.properties["Enabled"] = false;
  view.update(disabled);
  EXPECT_THAT(names(), ElementsAre("db", "mail", "web"));
  EXPECT_EQ(title(), " 3 clients, 1 waiting, 1 disabled");
}

TEST_F(ViewTest, TheSelectionStaysWithItsClient) {
  three();  // db, mail, web
  screen();
  type(U"j");
  screen();
  EXPECT_THAT(selected, StartsWith("> mail"));
  view.update(waiting("web", kMinute));
  screen();
  EXPECT_THAT(selected, StartsWith("> mail"));
  EXPECT_EQ(type(U"-").path, "/clients/mail");
  view.update(client("another"));
  EXPECT_EQ(type(U"-").path, "/clients/mail");
  view.clear();
  EXPECT_EQ(type(U"-").what, View::Request::What::kNothing);
  three();
  EXPECT_EQ(type(U"-").path, "/clients/mail");
}

TEST_F(ViewTest, NoKeyActsOnTheClientThatTookThePlaceOfAnother) {
  three();
  screen();
  type(U"j");
  view.remove("/clients/mail");
  EXPECT_EQ(type(U"a").what, View::Request::What::kNothing);
  EXPECT_THAT(footer(), HasSubstr("No client is selected"));
  EXPECT_EQ(selected, "");
  type(U"j");
  EXPECT_EQ(type(U"a").path, "/clients/web");
  view.remove("/clients/none");
  EXPECT_THAT(names(), ElementsAre("db", "web"));
  view.clear();
  type(U"a");
  EXPECT_THAT(footer(), HasSubstr("There is no client"));
}

TEST_F(ViewTest, EveryKeyOfTheOriginalsManual) {
  three();
  screen();
  using What = View::Request::What;
  using Act = View::Act;
  EXPECT_EQ(type(U"q").what, What::kQuit);
  EXPECT_EQ(type(U"Q").what, What::kQuit);
  EXPECT_EQ(view.press(control('l')).what, What::kRedraw);
  for (const auto& [key, act] :
       {std::pair(U'+', Act::kEnable), std::pair(U'-', Act::kDisable),
        std::pair(U'a', Act::kApprove), std::pair(U'd', Act::kDeny), std::pair(U's', Act::kCheck),
        std::pair(U'S', Act::kStopCheck), std::pair(U'C', Act::kCountAsChecked)}) {
    const auto request = view.press(key);
    EXPECT_EQ(request.what, What::kAct);
    EXPECT_EQ(request.act, act);
    EXPECT_EQ(request.name, "db");
  }
  for (const Key key : {Key{U'?'}, kF1}) {
    view.press(key);
    EXPECT_EQ(narrow(screen()[1]), " Keys");
    EXPECT_EQ(type(U"q").what, What::kNothing);  // any key returns
    EXPECT_THAT(names(), ElementsAre("db", "mail", "web"));
  }
  for (const Key key : {U'l', U'D'}) {
    EXPECT_THAT(screen(), Contains(L" Log"));
    view.press(key);
    EXPECT_THAT(screen(), Not(Contains(L" Log")));
    view.press(key);
  }
  for (const auto& [down, up] :
       {std::pair(kDown, kUp), std::pair(control('n'), control('p')), std::pair(Key{'j'}, Key{'k'}),
        std::pair(kPageDown, kPageUp), std::pair(control('v'), Key{'b'}),
        std::pair(Key{' '}, Key{'b'}), std::pair(Key{'f'}, kPageUp), std::pair(kEnd, kHome),
        std::pair(Key{'G'}, Key{'g'})}) {
    view.press(down);
    screen();
    EXPECT_THAT(selected, Not(StartsWith("> db"))) << static_cast<std::uint32_t>(down);
    view.press(up);
    screen();
    EXPECT_THAT(selected, StartsWith("> db")) << static_cast<std::uint32_t>(up);
  }
}

TEST_F(ViewTest, RemovingNeedsAYes) {
  three();
  screen();
  for (const Key key : {Key{'R'}, Key{'_'}, control('k')}) {
    EXPECT_EQ(view.press(key).what, View::Request::What::kNothing);
    EXPECT_EQ(footer(), " Remove \"db\" from the server? y/n");
    EXPECT_EQ(type(U"n").what, View::Request::What::kNothing);
    EXPECT_EQ(footer(), " Nothing was removed");
    view.press(key);
    EXPECT_EQ(view.press(kEnter).what, View::Request::What::kNothing);
    view.press(key);
    view.remove("/clients/web");  // whatever happens meanwhile
    const auto request = type(U"y");
    EXPECT_EQ(request.what, View::Request::What::kAct);
    EXPECT_EQ(request.act, View::Act::kRemove);
    EXPECT_EQ(request.path, "/clients/db");
  }
}

TEST_F(ViewTest, FilterByNameHostAndState) {
  three();
  auto failed = client("mail");
  failed.properties["LastCheckerStatus"] = std::int64_t{3};
  view.update(failed);
  screen();
  type(U"&");
  EXPECT_EQ(footer(), "Show only:");
  EXPECT_EQ(view.layout(24, 80, kNow).cursor, 11U);
  type(U"WEbx");
  view.press(kBackspace);
  EXPECT_EQ(footer(), "Show only: WEb");
  EXPECT_EQ(view.layout(24, 80, kNow).cursor, 14U);
  EXPECT_THAT(names(), SizeIs(3));
  view.press(kEnter);
  EXPECT_THAT(names(), ElementsAre("web"));
  EXPECT_THAT(title(), HasSubstr("3 clients, 1 failed; shown: 1 with \"web\""));
  EXPECT_THAT(selected, StartsWith("> web"));
  EXPECT_EQ(view.layout(24, 80, kNow).cursor, std::nullopt);
  view.press(kEscape);
  EXPECT_THAT(names(), SizeIs(3));
  type(U"&failed");
  view.press(kEnter);
  EXPECT_THAT(names(), ElementsAre("mail"));
  view.update(client("mail"));  // it has recovered
  EXPECT_THAT(names(), IsEmpty());
  type(U"&");
  view.press(kEnter);
  EXPECT_THAT(names(), SizeIs(3));
  type(U"&nothing");
  view.press(kEscape);
  EXPECT_THAT(names(), SizeIs(3));
}

TEST_F(ViewTest, SearchGoesRound) {
  three();
  screen();
  type(U"n");
  EXPECT_THAT(footer(), HasSubstr("Nothing to search for"));
  type(U"/EB.ex");
  EXPECT_EQ(footer(), "Search for: EB.ex");
  view.press(kEnter);
  screen();
  EXPECT_THAT(selected, StartsWith("> web"));
  type(U"/example");
  view.press(kEnter);
  const auto at = [&] {
    screen();
    return selected.substr(2, selected.find(' ', 2) - 2);
  };
  EXPECT_EQ(at(), "web");
  for (const auto& [key, name] :
       {std::pair(U'n', "db"), std::pair(U'n', "mail"), std::pair(U'N', "db"),
        std::pair(U'N', "web"), std::pair(U'N', "mail"), std::pair(U'n', "web")}) {
    view.press(key);
    EXPECT_EQ(at(), name);
  }
  type(U"/xyz");
  view.press(kEnter);
  EXPECT_EQ(footer(), " Not found: xyz");
  EXPECT_EQ(at(), "web");
  view.clear();
  type(U"n");
  EXPECT_EQ(footer(), " Not found: xyz");
}

TEST_F(ViewTest, TheLogTellsWhatHappened) {
  const auto tell = [&](std::string what, std::string name,
                        std::vector<std::pair<std::string, Value>> details = {}) {
    view.happened("10:00:00", {std::move(what), std::move(name), std::move(details)});
    const auto lines = log();
    return lines.empty() ? std::string() : lines.back();
  };
  EXPECT_EQ(tell("waiting", "web"), "10:00:00 web waits for approval");
  EXPECT_EQ(
      tell("waiting", "web", {{"delay", std::uint64_t{300'000}}, {"approved_by_default", false}}),
      "10:00:00 web waits for approval, and is denied in 5:00");
  EXPECT_EQ(
      tell("waiting", "web", {{"delay", std::uint64_t{3'700'000}}, {"approved_by_default", true}}),
      "10:00:00 web waits for approval, and is approved in 1:01:40");
  EXPECT_EQ(tell("granted", "web"), "10:00:00 web got its secret");
  EXPECT_EQ(tell("refused", "web", {{"reason", std::string("Denied")}}),
            "10:00:00 web was refused: Denied");
  EXPECT_EQ(tell("checked", "web", {{"ok", false}, {"status", std::int64_t{3}}}),
            "10:00:00 web: check failed, status 3");
  EXPECT_EQ(tell("expired", "web"), "10:00:00 web expired, and is disabled");
  for (const auto* what : {"enabled", "disabled", "added", "removed"}) {
    EXPECT_EQ(tell(what, "web"), concat("10:00:00 web was ", what));
  }
  EXPECT_EQ(
      tell("unknown-key", "", {{"key_id", std::string("AB")}, {"address", std::string("::1")}}),
      "10:00:00 unknown key from ::1: AB");
  EXPECT_EQ(tell("enabled", "a\x1b[2Jb\xe2\x80\xae"), "10:00:00 a?[2Jb? was enabled");
}

TEST_F(ViewTest, SuccessfulChecksAreLoggedOnlyOnRequest) {
  const auto checked = [&] {
    view.happened("10:00:00", {"checked", "web", {{"ok", true}, {"status", std::int64_t{0}}}});
    return log().size();
  };
  EXPECT_EQ(checked(), 0U);
  type(U"v");
  EXPECT_THAT(footer(), HasSubstr("Successful checks are logged"));
  EXPECT_EQ(checked(), 1U);
  EXPECT_EQ(log()[0], "10:00:00 web: check succeeded");
  type(U"v");
  EXPECT_EQ(checked(), 1U);
}

TEST_F(ViewTest, TheLogScrollsWrapsAndIsBounded) {
  for (int i = 0; i < 1200; ++i)
    view.note("1:00", std::to_wstring(i) + L" " + std::wstring(80, L'x'));
  EXPECT_THAT(log()[0], StartsWith("1:00 1197 "));  // 6 rows, 2 for each
  EXPECT_THAT(log()[1], StartsWith("xxxx"));
  type(U"w");
  EXPECT_THAT(log()[0], AllOf(StartsWith("1:00 1194 "), HasSubstr("x~")));
  type(U"\tk");
  EXPECT_THAT(log()[5], StartsWith("1:00 1198 "));
  EXPECT_THAT(screen(), Contains(L" Log (Tab: back to the clients), 1 lines below"));
  view.note("1:00", L"one more");  // who reads on is not disturbed
  EXPECT_THAT(log()[5], StartsWith("1:00 1198 "));
  view.press(kHome);
  EXPECT_THAT(log()[0], StartsWith("1:00 201 "));  // the oldest that is kept
  view.press(kPageDown);
  EXPECT_THAT(log()[0], StartsWith("1:00 207 "));
  view.press(kEnd);
  EXPECT_EQ(log()[5], "1:00 one more");
  type(U"\t");
  EXPECT_THAT(screen(), Contains(L" Log"));
}

TEST_F(ViewTest, AServerThatIsGone) {
  three();
  view.clear();
  view.happened("1:00", {"server-gone", "", {}});
  EXPECT_EQ(title(), " No server runs; waiting for it");
  EXPECT_EQ(log().back(), "1:00 The server is gone; waiting for it");
  three();
  view.happened("1:00", {"server-back", "", {}});
  EXPECT_EQ(title(), " 3 clients");
}

TEST_F(ViewTest, TheListScrollsOnlyWhereTheSelectionWouldLeaveIt) {
  for (int i = 0; i < 100; ++i) view.update(client(concat("c", 100 + i)));
  EXPECT_THAT(list(), SizeIs(14));  // 24 rows, of which the log has 6 and a heading
  for (int i = 0; i < 13; ++i) type(U"j");
  EXPECT_THAT(list()[0], StartsWith("  c100"));
  type(U"j");
  EXPECT_THAT(list()[0], StartsWith("  c101"));
  EXPECT_THAT(list()[13], StartsWith("> c114"));
  for (int i = 0; i < 13; ++i) type(U"k");
  EXPECT_THAT(list()[0], StartsWith("> c101"));
  type(U"f");
  screen();
  EXPECT_THAT(selected, StartsWith("> c115"));
  type(U"G");
  EXPECT_THAT(list()[13], StartsWith("> c199"));
  for (int i = 100; i < 190; ++i) view.remove(concat("/clients/c", i));
  EXPECT_THAT(list(), SizeIs(10));
}

TEST_F(ViewTest, EverySizeHasItsRows) {
  three();
  view.update(waiting(std::string(300, 'n'), kMinute));
  view.note("1:00", std::wstring(500, L'x'));
  view.note("1:00", L"\u4e2d\u6587\u4e2d\u6587");
  for (const auto* keys : {U"", U"?", U"R", U"&abc", U"\x1b"}) {
    type(keys);
    for (std::size_t rows = 1; rows < 30; ++rows) {
      for (const std::size_t columns : {1U, 2U, 3U, 10U, 17U, 40U, 79U, 80U, 81U, 200U}) {
        screen(rows, columns);
      }
    }
    view.press(kEscape);
  }
  EXPECT_THAT(screen(0, 0), IsEmpty());
}

TEST_F(ViewTest, NamesThatCouldHarm) {
  const std::string name = "a\x1b]0;x\x07\xe2\x80\xae\xe4\xb8\xad";
  view.update(client(name));
  const auto lines = screen();
  EXPECT_EQ(lines[2].substr(0, 12), L"> a?]0;x??\u4e2d ");
  const auto request = type(U"-");
  EXPECT_EQ(request.name, name);  // not what is shown
  type(U"R");
  EXPECT_EQ(screen().back(), L" Remove \"a?]0;x??\u4e2d\" from the server? y/n");
}

TEST_F(ViewTest, TheHintsAndTheHelpFit) {
  EXPECT_THAT(footer(), Not(HasSubstr("~")));
  type(U"?");
  const auto lines = screen();
  EXPECT_EQ(lines.back(), L" Any key returns to the clients");
  for (const auto& line : lines) EXPECT_THAT(narrow(line), Not(HasSubstr("~")));
  EXPECT_THAT(lines, Contains(HasSubstr(L"redraw the screen")));
}

}  // namespace
}  // namespace mandos::ctl
