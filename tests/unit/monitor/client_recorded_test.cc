// SPDX-License-Identifier: GPL-3.0-or-later
// Plays on the state machine what tests/system/record_original.py played on the original server,
// and compares what the bus shows, step by step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tests/unit/monitor/client_driver.h"

namespace mandos::monitor {
namespace {

using test::kPropertyNames;
using test::moment;
using test::shown;
using test::since_start;

/// A JSON value, as far as the recordings need it (RFC 8259 without \u escapes and exponents).
struct Json {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  double number = 0;  // of a boolean 0 or 1
  std::string string;
  std::vector<Json> items;
  std::map<std::string, Json> members;

  const Json& operator[](const std::string& name) const {
    static const Json kNothing;
    const auto found = members.find(name);
    return found == members.end() ? kNothing : found->second;
  }
  const Json& operator[](std::size_t index) const { return items.at(index); }
  std::int64_t integer() const { return static_cast<std::int64_t>(number); }
  bool boolean() const { return number != 0; }
  /// As shown() has it; null is "none".
  std::string text() const {
    switch (kind) {
      case Kind::kNull:
        return "none";
      case Kind::kBool:
        return boolean() ? "true" : "false";
      case Kind::kNumber:
        return std::to_string(integer());
      default:
        return string;
    }
  }
};

class JsonReader {
 public:
  explicit JsonReader(std::string text) : text_(std::move(text)) {}

  Json value() {
    Json json;
    if (take('{')) {
      json.kind = Json::Kind::kObject;
      while (!take('}')) {
        take(',');
        const std::string name = value().string;
        take(':');
        json.members[name] = value();
      }
    } else if (take('[')) {
      json.kind = Json::Kind::kArray;
      while (!take(']')) {
        take(',');
        json.items.push_back(value());
      }
    } else if (take('"')) {
      json.kind = Json::Kind::kString;
      for (char c = text_.at(at_++); c != '"'; c = text_.at(at_++)) {
        json.string += c == '\\' ? text_.at(at_++) : c;
      }
    } else {
      const std::size_t end = text_.find_first_of(",]}\n ", at_);
      const std::string word = text_.substr(at_, end - at_);
      at_ = end;
      if (word == "true" || word == "false") {
        json.kind = Json::Kind::kBool;
        json.number = word == "true" ? 1 : 0;
      } else if (word != "null") {
        json.kind = Json::Kind::kNumber;
        json.number = std::stod(word);
      }
    }
    return json;
  }

 private:
  bool take(char c) {
    at_ = text_.find_first_not_of(" \n", at_);
    if (text_.at(at_) != c) return false;
    ++at_;
    return true;
  }
  std::string text_;
  std::size_t at_ = 0;
};

/// Where the state machine differs on purpose, and which fault of the original is the reason.
struct Difference {
  const char* where;
  const char* what;
  const char* fault;
};
constexpr char kEarlierEnd[] = "the end of an earlier approval ends a later one too";
constexpr char kDenied[] = "a denial is ignored when there is no approval_delay";
constexpr char kLateRefusal[] =
    "a client that is disabled while it waits learns it only when the delay is over";
constexpr char kWrongReason[] = "its refusal then names the wrong reason";
constexpr char kGivenAway[] =
    "a client that was disabled or expired while it waited is given its secret";
constexpr char kHungUp[] = "a peer that hung up is noticed only when the delay is over";
constexpr char kGivenToNobody[] = "a peer that hung up counts as having got the secret";
constexpr char kStamp[] = "a restart forgets when a disabled client was enabled";
constexpr Difference kDifferences[] = {
    {"approve_twice step 5", "ApprovalPending Expires LastApprovalRequest answers signals",
     kEarlierEnd},
    {"bad_checker step 11", "CheckerRunning signals",
     "a checker command with an unknown name ends the client's checks for ever"},
    {"checking step 9", "signals",
     "the wait status of a killed checker is not what wait(2) gives but that minus 256"},
    {"deny_without_delay step 2", "Expires answers signals", kDenied},
    {"deny_without_delay step 3", "Expires", kDenied},
    {"deny_without_delay step 4", "Expires", kDenied},
    {"disabled_while_waiting_default_no step 2", "ApprovalPending answers signals", kLateRefusal},
    {"disabled_while_waiting_default_no step 3", "answers signals", kWrongReason},
    {"disabled_while_waiting_default_yes step 2", "ApprovalPending answers signals", kLateRefusal},
    {"disabled_while_waiting_default_yes step 3", "answers signals", kGivenAway},
    {"expired_while_waiting step 3", "ApprovalPending answers signals", kLateRefusal},
    {"expired_while_waiting step 4", "answers signals", kGivenAway},
    {"hang_up_while_waiting step 3", "ApprovalPending", kHungUp},
    {"hang_up_while_waiting step 4", "Expires signals", kGivenToNobody},
    {"restart_extended step 2", "Expires", "a restart cuts an extended timeout short"},
    {"restart_keeps_settings step 7", "LastEnabled", kStamp},
    {"restart_past_expiry_last_failed step 5", "LastEnabled", kStamp},
    {"restart_past_expiry_last_ok step 3", "Expires",
     "the timeout given at a restart is forgotten again"},
    {"restart_past_expiry_never_checked step 2", "LastEnabled", kStamp},
};

/// How far the moments of the original's acts may lie behind its orders, in milliseconds.
constexpr std::int64_t kSlack = 500;

/// A script on the state machine.
class Replay {
 public:
  explicit Replay(const Json& recording) : recording_(recording) {
    const Json& start = recording["start"];
    client_.name = "one";
    client_.object_path = "/clients/one";
    client_.created = moment(0).wall;
    ClientSettings settings;
    settings.key_id = KeyId::parse(std::string(64, 'A'));
    settings.secret = test::secret("a secret");
    settings.host = start["Host"].string;
    settings.checker = start["Checker"].string;
    settings.enabled = start["Enabled"].boolean();
    settings.approved_by_default = start["ApprovedByDefault"].boolean();
    settings.timeout = Milliseconds(start["Timeout"].integer());
    settings.extended_timeout = Milliseconds(start["ExtendedTimeout"].integer());
    settings.interval = Milliseconds(start["Interval"].integer());
    settings.approval_delay = Milliseconds(start["ApprovalDelay"].integer());
    settings.approval_duration = Milliseconds(start["ApprovalDuration"].integer());
    client_.begin_with(settings);
  }

  /// The places where it differs from the recording, as "step N: WHAT", with both values.
  std::map<std::string, std::string> differences() {
    std::map<std::string, Json> theirs = recording_["start"].members;
    happen(0, Started{part(recording_["first_check"])});
    compare("start", theirs);
    int number = 0;
    for (const Json& step : recording_["steps"].items) {
      signals_.clear();
      answers_.clear();
      play(step["at"].integer(), step["do"]);
      pass(step["seen_at"].integer());
      for (const auto& [name, value] : step["changed"].members) theirs[name] = value;
      const std::string where = concat("step ", ++number);
      compare(where, theirs);
      std::vector<std::string> signals;
      for (const Json& signal : step["signals"].items) {
        std::string text;
        for (const Json& item : signal.items) text += (text.empty() ? "" : " ") + item.text();
        signals.push_back(normal(text));
      }
      if (signals != signals_) {
        differences_[where + ": signals"] =
            concat(testing::PrintToString(signals), ", ours ", testing::PrintToString(signals_));
      }
      std::map<std::string, std::string> answers;
      for (const auto& [name, value] : step["answers"].members) answers[name] = value.string;
      if (answers != answers_) {
        differences_[where + ": answers"] =
            concat(testing::PrintToString(answers), ", ours ", testing::PrintToString(answers_));
      }
    }
    return differences_;
  }

 private:
  double part(const Json& first_check) const {
    return first_check.number / static_cast<double>(client_.settings->interval.count());
  }

  /// Moments and the key ID are not the same in two runs.
  static std::string normal(std::string_view text) {
    // Whether `text` begins like `shape`, in which 0 stands for any digit.
    const auto begins = [&](std::string_view shape) {
      return text.size() >= shape.size() &&
             std::equal(shape.begin(), shape.end(), text.begin(), [](char wanted, char found) {
               return wanted == '0' ? found >= '0' && found <= '9' : wanted == found;
             });
    };
    std::string out;
    while (!text.empty()) {
      if (begins("0000-00-00 00:00:00")) {
        text.remove_prefix(19);
        if (begins(".000000")) text.remove_prefix(7);
        out += "MOMENT";
      } else if (std::min(text.find_first_not_of("0123456789ABCDEF"), text.size()) == 64) {
        text.remove_prefix(64);
        out += "KEY";
      } else {
        out += text.front();
        text.remove_prefix(1);
      }
    }
    return out;
  }

  void compare(const std::string& where, const std::map<std::string, Json>& theirs) {
    for (std::size_t i = 0; i < kPropertyNames.size(); ++i) {
      const auto property = static_cast<Property>(i);
      const auto found = theirs.find(std::string(kPropertyNames[i]));
      if (found == theirs.end()) continue;
      const std::string original = found->second.text();
      const std::string ours = shown(client_, property);
      bool same = original == ours;
      if (property == Property::kExpires || property == Property::kLastEnabled ||
          property == Property::kLastCheckedOk || property == Property::kLastApprovalRequest) {
        same = same || (original != "none" && ours != "none" &&
                        std::abs(std::stoll(original) - std::stoll(ours)) <= kSlack);
      }
      if (!same) {
        differences_[concat(where, ": ", kPropertyNames[i])] = concat(original, ", ours ", ours);
      }
    }
  }

  void happen(std::int64_t at, const Event& event) {
    for (const Effect& effect : test::checked_react(client_, event, moment(at))) {
      std::visit(test::Overloaded{
                     [&](const Decided& e) {
                       const std::string name(1, static_cast<char>(e.connection));
                       answers_[name] = granted(e.verdict) ? "a secret" : "";
                       if (granted(e.verdict)) {
                         happen(at, Delivered{});
                       } else {
                         signals_.push_back(concat("Rejected ", text(e.verdict)));
                       }
                     },
                     [&](const StartChecker& e) {
                       signals_.push_back(normal(concat("CheckerStarted ", e.command)));
                       // The others end by themselves.
                       if (e.command.find("RECORDED") == e.command.npos) {
                         ends_[at + 5] = {e.checker, e.command == "false" ? 1 << 8 : 0};
                       }
                     },
                     [&](const KillChecker& e) {
                       ends_[at + 5] = {e.checker, 15};
                     },
                     [&](const CheckerCompleted& e) {
                       signals_.push_back(normal(concat("CheckerCompleted ", e.exit_code, ' ',
                                                        e.wait_status, ' ', e.command)));
                     },
                     [&](const NeedApproval& e) {
                       signals_.push_back(concat("NeedApproval ", e.delay.count(),
                                                 e.approved_by_default ? " true" : " false"));
                     },
                     [&](const GotSecret&) { signals_.emplace_back("GotSecret"); },
                     [](const auto&) {},
                 },
                 effect);
    }
  }

  /// What happens by itself up to `until`.
  void pass(std::int64_t until) {
    while (true) {
      const std::optional<Instant> due = next_deadline(client_);
      const bool end = !ends_.empty() && (!due || ends_.begin()->first <= since_start(*due));
      const std::int64_t at = end ? ends_.begin()->first : due ? since_start(*due) : until;
      if (at >= until) return;
      if (end) {
        const CheckerFinished finished = ends_.begin()->second;
        ends_.erase(ends_.begin());
        happen(at, finished);
      } else {
        happen(at, Due{});
      }
    }
  }

  void play(std::int64_t at, const Json& what) {
    pass(at);
    const std::string& verb = what[0].string;
    if (verb == "wait" || verb == "until_checker") return;
    if (verb == "restart") {
      restart();
      happen(what[1].integer(), Started{part(what[2])});
    } else if (verb == "checker_exits" || verb == "checker_killed") {
      ASSERT_TRUE(client_.checker_running());
      const auto number = static_cast<int>(what[1].integer());
      happen(at,
             CheckerFinished{client_.checker->id, verb == "checker_exits" ? number << 8 : number});
    } else if (verb == "connect") {
      happen(at, Requested{static_cast<ConnectionId>(what[1].string.at(0))});
    } else if (verb == "hang_up") {
      happen(at, HungUp{static_cast<ConnectionId>(what[1].string.at(0))});
    } else if (verb == "Approve") {
      happen(at, Approve{what[1].boolean()});
    } else if (verb == "CheckedOK") {
      happen(at, CheckedOk{});
    } else {
      ASSERT_EQ(verb, "Set");
      const auto found = std::find(kPropertyNames.begin(), kPropertyNames.end(), what[1].string);
      const auto property = static_cast<Property>(found - kPropertyNames.begin());
      Set set{property, what[2].string};
      if (what[2].kind == Json::Kind::kBool) set.value = what[2].boolean();
      if (what[2].kind == Json::Kind::kNumber) set.value = Milliseconds(what[2].integer());
      if (property == Property::kSecret) set.value = test::secret(what[2].string);
      ASSERT_TRUE(writable(set)) << what[1].string;
      happen(at, set);
    }
  }

  /// What lies on disk survives.
  void restart() {
    Client next;
    next.name = client_.name;
    next.object_path = client_.object_path;
    next.created = client_.created;
    next.settings = client_.settings;
    next.is_enabled = client_.is_enabled;
    next.last_enabled = client_.last_enabled;
    next.last_checked_ok = client_.last_checked_ok;
    next.last_approval_request = client_.last_approval_request;
    next.last_checker_status = client_.last_checker_status;
    next.expires = client_.expires;
    next.expires_shown = client_.expires_shown;
    client_ = std::move(next);
    ends_.clear();
  }

  const Json& recording_;
  Client client_;
  std::vector<std::string> signals_;
  std::map<std::string, std::string> answers_;
  std::map<std::int64_t, CheckerFinished> ends_;
  std::map<std::string, std::string> differences_;
};

TEST(ClientRecorded, DoesWhatTheOriginalDoesExceptItsFaults) {
  struct Found {
    std::string what;
    std::string values;
  };
  std::map<std::string, Found> found;
  int recordings = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MANDOS_TEST_DATA "/recorded")) {
    if (entry.path().extension() != ".json") continue;
    SCOPED_TRACE(entry.path().filename());
    ++recordings;
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const Json recording = JsonReader(text.str()).value();
    ASSERT_GT(recording["steps"].items.size(), 0U);
    for (const auto& [where, values] : Replay(recording).differences()) {
      const std::size_t colon = where.find(": ");
      Found& here = found[concat(entry.path().stem().string(), ' ', where.substr(0, colon))];
      here.what += (here.what.empty() ? "" : " ") + where.substr(colon + 2);
      here.values += concat('\n', where.substr(colon + 2), " of the original: ", values);
    }
  }
  EXPECT_GT(recordings, 20);
  for (const Difference& known : kDifferences) {
    EXPECT_EQ(found[known.where].what, known.what)
        << known.where << ", where " << known.fault << ':' << found[known.where].values;
    found.erase(known.where);
  }
  for (const auto& [where, here] : found) ADD_FAILURE() << where << here.values;
}

}  // namespace
}  // namespace mandos::monitor
