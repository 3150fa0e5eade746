// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/support/client_settings.h"
#include "tests/unit/monitor/client_driver.h"

namespace mandos::monitor {
namespace {

using test::kPropertyNames;
using test::moment;
using test::shown;
using test::since_start;

/// An effect as a few words.
std::string told(const Client& client, const Effect& effect) {
  return std::visit(
      test::Overloaded{
          [](const Decided& e) { return concat("Decided ", e.connection, ' ', text(e.verdict)); },
          [](const StartChecker& e) { return concat("StartChecker ", e.checker, ' ', e.command); },
          [](const KillChecker& e) { return concat("KillChecker ", e.checker); },
          [](const CheckerUnusable&) { return std::string("CheckerUnusable"); },
          [](const CheckerCompleted& e) {
            return concat("CheckerCompleted ", e.exit_code, ' ', e.wait_status, ' ', e.command);
          },
          [](const NeedApproval& e) {
            return concat("NeedApproval ", e.delay.count(), e.approved_by_default ? " yes" : " no");
          },
          [](const GotSecret&) { return std::string("GotSecret"); },
          [&](const Changed& e) {
            std::set<std::string> by_name;
            for (std::size_t i = 0; i < e.properties.size(); ++i) {
              if (!e.properties.test(i)) continue;
              by_name.insert(
                  concat(' ', kPropertyNames[i], '=', shown(client, static_cast<Property>(i))));
            }
            return std::accumulate(by_name.begin(), by_name.end(), std::string("Changed"));
          },
          [](const Save&) { return std::string("Save"); },
      },
      effect);
}

/// At `at` milliseconds, this happens; what is due earlier happens by itself.
struct Step {
  std::int64_t at;
  Event event;
};

/// Plays the steps, and goes on to `end` milliseconds. One line for each event with effects.
std::string played(Client& client, const std::vector<Step>& steps, std::int64_t end) {
  std::string out;
  const auto happen = [&](std::int64_t at, const Event& event) {
    const std::vector<Effect> effects = test::checked_react(client, event, moment(at));
    for (std::size_t i = 0; i < effects.size(); ++i) {
      out += (i == 0 ? concat(at, ": ") : "; ") + told(client, effects[i]);
    }
    if (!effects.empty()) out += '\n';
  };
  const auto pass = [&](std::int64_t until) {
    for (int dues = 0; dues < 1000; ++dues) {
      const std::optional<Instant> due = next_deadline(client);
      if (!due || since_start(*due) >= until) return;
      happen(since_start(*due), Due{});
      EXPECT_NE(next_deadline(client), due);
    }
    FAIL() << "timers without end";
  };
  for (const Step& step : steps) {
    pass(step.at);
    happen(step.at, step.event);
  }
  pass(end);
  return out;
}

/// timeout 300 s, extended_timeout 900 s, interval 100 s, no approval needed.
ClientSettings usual() {
  ClientSettings settings;
  settings.host = "host";
  settings.checker = "check";
  settings.interval = Milliseconds(100000);
  settings.secret = test::secret("secret");
  return settings;
}
ClientSettings with_approval(Milliseconds delay, bool by_default, Milliseconds duration) {
  ClientSettings settings = usual();
  settings.approval_delay = delay;
  settings.approved_by_default = by_default;
  settings.approval_duration = duration;
  return settings;
}
ClientSettings disabled() {
  ClientSettings settings = usual();
  settings.enabled = false;
  return settings;
}
template <class T>
ClientSettings with(T ClientSettings::*member, T value, ClientSettings settings = usual()) {
  settings.*member = std::move(value);
  return settings;
}

struct Row {
  const char* rule;
  ClientSettings settings;
  std::vector<Step> steps;
  std::int64_t end;
  const char* expected;
};

constexpr int kExit0 = 0;
constexpr int kExit7 = 7 << 8;
constexpr int kSignal9 = 9;
constexpr int kStopped = 0x137f;

/// Every client starts at 0 with its first check half an interval away: at 50000, expiry 150000.
void play(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.rule);
    Client client;
    client.name = "one";
    client.begin_with(row.settings);
    EXPECT_EQ(played(client, {{0, Started{0.5}}}, 0),
              row.settings.enabled ? "0: Changed Expires=150000 LastEnabled=0; Save\n" : "");
    EXPECT_EQ(played(client, row.steps, row.end), row.expected);
  }
}

Set set(Property property, auto value) { return {property, Set::Value(std::move(value))}; }
Set duration(Property property, std::int64_t milliseconds) {
  return {property, Milliseconds(milliseconds)};
}

TEST(Client, Checking) {
  const Set start = set(Property::kCheckerRunning, true);
  const Set stop = set(Property::kCheckerRunning, false);
  play({
      {"the first checker runs at its random moment; expiry one interval later, no check at it",
       usual(),
       {},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "150000: KillChecker 0; Changed CheckerRunning=false Enabled=false Expires=none; Save\n"},
      {"a success sets the expiry to now + timeout; later checkers run every interval",
       usual(),
       {{50010, CheckerFinished{0, kExit0}}, {150020, CheckerFinished{1, kExit7}}},
       250001,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50010: CheckerCompleted 0 0 check; Changed CheckerRunning=false Expires=350010 "
       "LastCheckedOK=50010 LastCheckerStatus=0; Save\n"
       "150000: StartChecker 1 check; Changed CheckerRunning=true\n"
       "150020: CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; "
       "Save\n"
       "250000: StartChecker 2 check; Changed CheckerRunning=true\n"},
      {"a failure leaves the expiry",
       usual(),
       {{50010, CheckerFinished{0, kExit7}}},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50010: CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; "
       "Save\n"
       "150000: Changed Enabled=false Expires=none; Save\n"},
      {"a checker that a signal killed has status -1",
       usual(),
       {{50010, CheckerFinished{0, kSignal9}}},
       50011,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50010: CheckerCompleted -1 9 check; Changed CheckerRunning=false LastCheckerStatus=-1; "
       "Save\n"},
      {"a wait status that says no end counts as one by a signal",
       usual(),
       {{50010, CheckerFinished{0, kStopped}}},
       50011,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50010: CheckerCompleted -1 4991 check; Changed CheckerRunning=false "
       "LastCheckerStatus=-1; Save\n"},
      {"no second checker while one runs, which may do so until the expiry",
       usual(),
       {{60000, CheckedOk{}}, {200000, start}},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "60000: Changed Expires=360000 LastCheckedOK=60000 LastCheckerStatus=0; Save\n"
       "150000: Save\n"  // of how often it did not answer
       "250000: Save\n"
       "350000: Save\n"
       "360000: KillChecker 0; Changed CheckerRunning=false Enabled=false Expires=none; Save\n"},
      {"a checker that was stopped counts for nothing, whatever its end",
       usual(),
       {{51000, stop}, {51005, stop}, {51010, CheckerFinished{0, kExit0}}},
       51011,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "51000: KillChecker 0; Changed CheckerRunning=false\n"},
      {"a new one waits for the end of one that was stopped",
       usual(),
       {{51000, stop}, {51001, start}, {51002, start}, {51010, CheckerFinished{0, kSignal9}}},
       51011,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "51000: KillChecker 0; Changed CheckerRunning=false\n"
       "51001: Changed CheckerRunning=true\n"
       "51010: StartChecker 1 check; Changed CheckerRunning=true\n"},
      {"a new one that waits can be stopped as well",
       usual(),
       {{51000, stop}, {51001, start}, {51002, stop}, {51010, CheckerFinished{0, kSignal9}}},
       51011,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "51000: KillChecker 0; Changed CheckerRunning=false\n"
       "51001: Changed CheckerRunning=true\n"
       "51002: Changed CheckerRunning=false\n"},
      {"an interval that begins while a stopped one is dying starts one after it",
       usual(),
       {{60000, CheckedOk{}}, {149999, stop}, {150005, CheckerFinished{0, kSignal9}}},
       150006,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "60000: Changed Expires=360000 LastCheckedOK=60000 LastCheckerStatus=0; Save\n"
       "149999: KillChecker 0; Changed CheckerRunning=false\n"
       "150000: Changed CheckerRunning=true\n"
       "150005: StartChecker 1 check; Changed CheckerRunning=true\n"},
      {"the end of an unknown checker, or a second end, is ignored",
       usual(),
       {{50001, CheckerFinished{7, kExit0}},
        {50010, CheckerFinished{0, kExit7}},
        {50020, CheckerFinished{0, kExit0}}},
       50021,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50010: CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; "
       "Save\n"},
      {"a command that cannot be expanded is tried again at the next interval",
       with(&ClientSettings::checker, std::string("%(nothing)s")),
       {{60000, CheckedOk{}}, {160000, set(Property::kChecker, std::string("good"))}},
       250001,
       "50000: CheckerUnusable; Save\n"
       "60000: Changed Expires=360000 LastCheckedOK=60000 LastCheckerStatus=0; Save\n"
       "150000: CheckerUnusable; Save\n"
       "160000: Changed Checker=good; Save\n"
       "250000: StartChecker 0 good; Changed CheckerRunning=true\n"},
      {"a disabled client has no timers", disabled(), {}, 1000000, ""},
      {"a disabled client can be checked, without an expiry",
       disabled(),
       {{10, start}, {20, CheckerFinished{0, kExit0}}},
       1000000,
       "10: StartChecker 0 check; Changed CheckerRunning=true\n"
       "20: CheckerCompleted 0 0 check; Changed CheckerRunning=false LastCheckedOK=20 "
       "LastCheckerStatus=0; Save\n"},
      {"a checker that is wanted at once but cannot be expanded does not run",
       with(&ClientSettings::checker, std::string("%")),
       {{10, start}},
       11,
       "10: CheckerUnusable; Save\n"},
  });
}

TEST(Client, EnabledAndDisabled) {
  const Set enable = set(Property::kEnabled, true);
  const Set disable = set(Property::kEnabled, false);
  play({
      {"enabling starts a new cycle: first checker one interval later, expiry another one later",
       disabled(),
       {{1000, enable}, {101010, CheckerFinished{0, kExit7}}},
       1000000,
       "1000: Changed Enabled=true Expires=201000 LastEnabled=1000; Save\n"
       "101000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "101010: CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; "
       "Save\n"
       "201000: Changed Enabled=false Expires=none; Save\n"},
      {"enabling an enabled client changes nothing", usual(), {{1000, enable}}, 1001, ""},
      {"disabling a disabled client changes nothing", disabled(), {{1000, disable}}, 1001, ""},
      {"disabling kills the checker",
       usual(),
       {{60000, disable}, {60005, CheckerFinished{0, kExit0}}},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "60000: KillChecker 0; Changed CheckerRunning=false Enabled=false Expires=none; Save\n"},
      {"disabling a client takes the checker away that waits for its turn",
       usual(),
       {{60000, set(Property::kCheckerRunning, false)},
        {60001, set(Property::kCheckerRunning, true)},
        {60002, disable},
        {60003, CheckerFinished{0, kSignal9}}},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "60000: KillChecker 0; Changed CheckerRunning=false\n"
       "60001: Changed CheckerRunning=true\n"
       "60002: Changed CheckerRunning=false Enabled=false Expires=none; Save\n"},
      {"CheckedOK restarts the timeout, durably",
       usual(),
       {{1000, CheckedOk{}}, {2000, set(Property::kLastCheckedOk, std::string("whatever"))}},
       2001,
       "1000: Changed Expires=301000 LastCheckedOK=1000 LastCheckerStatus=0; Save\n"
       "2000: Changed Expires=302000 LastCheckedOK=2000; Save\n"},
      {"CheckedOK does not enable",
       disabled(),
       {{1000, CheckedOk{}}},
       1000000,
       "1000: Changed LastCheckedOK=1000 LastCheckerStatus=0; Save\n"},
      {"a given secret sets the expiry to now + extended_timeout, every time",
       usual(),
       {{1000, Delivered{}}, {2000, Delivered{}}},
       2001,
       "1000: GotSecret; Changed Expires=901000; Save\n"
       "2000: GotSecret; Changed Expires=902000; Save\n"},
      {"an extended_timeout that is shorter shortens",
       with(&ClientSettings::extended_timeout, Milliseconds(5000)),
       {{1000, Delivered{}}},
       1000000,
       "1000: GotSecret; Changed Expires=6000; Save\n"
       "6000: Changed Enabled=false Expires=none; Save\n"},
      {"a given secret does not enable",
       disabled(),
       {{1000, Delivered{}}},
       1000000,
       "1000: GotSecret\n"},
      {"who is taken away loses checker and connections",
       with_approval(Milliseconds(100000), true, Milliseconds(0)),
       {{50001, Requested{1}}, {50002, Removed{}}},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50001: NeedApproval 100000 yes; Changed ApprovalPending=true LastApprovalRequest=50001; "
       "Save\n"
       "50002: KillChecker 0; Decided 1 Disabled; Changed ApprovalPending=false "
       "CheckerRunning=false Enabled=false Expires=none; Save\n"},
      {"a disabled client that is taken away loses its checker",
       disabled(),
       {{1000, set(Property::kCheckerRunning, true)}, {1001, Removed{}}},
       1000000,
       "1000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "1001: KillChecker 0; Changed CheckerRunning=false\n"},
  });
}

TEST(Client, Settings) {
  play({
      {"a longer timeout moves the expiry by the difference",
       usual(),
       {{1000, duration(Property::kTimeout, 310000)}},
       1001,
       "1000: Changed Expires=160000 Timeout=310000; Save\n"},
      {"a shorter timeout can disable now",
       usual(),
       {{60000, duration(Property::kTimeout, 210000)}},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "60000: KillChecker 0; Changed CheckerRunning=false Enabled=false Expires=none "
       "Timeout=210000; Save\n"},
      {"a timeout that did not change changes nothing",
       usual(),
       {{1000, duration(Property::kTimeout, 300000)}},
       1001,
       ""},
      {"the timeout of a disabled client",
       disabled(),
       {{1000, duration(Property::kTimeout, 1)}},
       1001,
       "1000: Changed Timeout=1; Save\n"},
      {"a new interval starts a checker now, and from then on",
       usual(),
       {{1000, duration(Property::kInterval, 10000)}, {1010, CheckerFinished{0, kExit7}}},
       11001,
       "1000: StartChecker 0 check; Changed CheckerRunning=true Interval=10000; Save\n"
       "1010: CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; "
       "Save\n"
       "11000: StartChecker 1 check; Changed CheckerRunning=true\n"},
      {"the interval of a disabled client",
       disabled(),
       {{1000, duration(Property::kInterval, 10000)}},
       1000000,
       "1000: Changed Interval=10000; Save\n"},
      {"the other settings",
       usual(),
       {{1, set(Property::kHost, std::string("other"))},
        {2, set(Property::kChecker, std::string("other"))},
        {3, duration(Property::kExtendedTimeout, 1)},
        {4, duration(Property::kApprovalDelay, 2)},
        {5, duration(Property::kApprovalDuration, 3)},
        {6, set(Property::kApprovedByDefault, false)},
        {7, set(Property::kSecret, test::secret("other"))},
        {8, set(Property::kSecret, test::secret("other"))}},
       9,
       "1: Changed Host=other; Save\n"
       "2: Changed Checker=other; Save\n"
       "3: Changed ExtendedTimeout=1; Save\n"
       "4: Changed ApprovalDelay=2; Save\n"
       "5: Changed ApprovalDuration=3; Save\n"
       "6: Changed ApprovedByDefault=false; Save\n"
       "7: Changed Secret=other; Save\n"},
      {"what cannot be written is ignored",
       usual(),
       {{1, set(Property::kName, std::string("x"))},
        {1, set(Property::kKeyId, std::string("x"))},
        {1, set(Property::kFingerprint, std::string("x"))},
        {1, set(Property::kObjectPath, std::string("x"))},
        {1, set(Property::kCreated, std::string("x"))},
        {1, set(Property::kExpires, std::string("x"))},
        {1, set(Property::kLastEnabled, std::string("x"))},
        {1, set(Property::kLastApprovalRequest, std::string("x"))},
        {1, set(Property::kApprovalPending, true)},
        {1, duration(Property::kLastCheckerStatus, 0)},
        {1, set(Property::kEnabled, std::string("false"))},
        {1, set(Property::kTimeout, true)},
        {1, set(Property::kHost, true)},
        {1, set(Property::kSecret, std::string("x"))},
        {1, set(Property::kSecret, SecretPtr())}},
       2,
       ""},
  });
}

TEST(Client, Approval) {
  const ClientSettings yes = with_approval(Milliseconds(10000), true, Milliseconds(5000));
  const ClientSettings no = with_approval(Milliseconds(10000), false, Milliseconds(5000));
  play({
      {"without a delay the secret is given at once, whatever the default",
       with(&ClientSettings::approved_by_default, false),
       {{10, Requested{1}}},
       11,
       "10: Decided 1 No approval needed\n"},
      {"disabled comes first",
       with(&ClientSettings::enabled, false, yes),
       {{10, Approve{true}}, {20, Requested{1}}},
       21,
       "10: Save\n20: Decided 1 Disabled\n"},
      {"undecided, approved by default",
       yes,
       {{10, Requested{1}}},
       20000,
       "10: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "10010: Decided 1 Approved by default; Changed ApprovalPending=false\n"},
      {"undecided, denied by default",
       no,
       {{10, Requested{1}}},
       20000,
       "10: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "10010: Decided 1 Approval timed out; Changed ApprovalPending=false\n"},
      {"one approval answers everybody who waits",
       no,
       {{10, Requested{1}}, {20, Requested{2}}, {30, Approve{true}}},
       20000,
       "10: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: NeedApproval 10000 no; Changed LastApprovalRequest=20; Save\n"
       "30: Decided 1 Approved; Decided 2 Approved; Changed ApprovalPending=false; Save\n"},
      {"one denial too",
       yes,
       {{10, Requested{1}}, {20, Requested{2}}, {30, Approve{false}}},
       20000,
       "10: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: NeedApproval 10000 yes; Changed LastApprovalRequest=20; Save\n"
       "30: Decided 1 Denied; Decided 2 Denied; Changed ApprovalPending=false; Save\n"},
      {"each waits for its own time",
       no,
       {{10, Requested{1}}, {20, Requested{2}}},
       20000,
       "10: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: NeedApproval 10000 no; Changed LastApprovalRequest=20; Save\n"
       "10010: Decided 1 Approval timed out\n"
       "10020: Decided 2 Approval timed out; Changed ApprovalPending=false\n"},
      {"a decision holds for approval_duration, then nothing is decided",
       yes,
       {{100, Approve{true}}, {5099, Requested{1}}, {5100, Requested{2}}},
       5101,
       "100: Save\n5099: Decided 1 Approved\n"
       "5100: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=5100; "
       "Save\n"},
      {"so does a denial",
       yes,
       {{100, Approve{false}}, {5099, Requested{1}}, {5100, Requested{2}}},
       5101,
       "100: Save\n5099: Decided 1 Denied\n"
       "5100: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=5100; "
       "Save\n"},
      {"a second decision holds for its own time",
       yes,
       {{100, Approve{false}}, {3000, Approve{true}}, {7999, Requested{1}}, {8000, Requested{2}}},
       8001,
       "100: Save\n3000: Save\n7999: Decided 1 Approved\n"
       "8000: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=8000; "
       "Save\n"},
      {"one that holds for no time answers only who waits now",
       with_approval(Milliseconds(10000), false, Milliseconds(0)),
       {{10, Requested{1}}, {20, Approve{true}}, {20, Requested{2}}},
       21,
       "10: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: Decided 1 Approved; Changed ApprovalPending=false; Save\n"
       "20: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=20; Save\n"},
      {"a denial holds without a delay too",
       with(&ClientSettings::approval_duration, Milliseconds(5000)),
       {{10, Approve{false}}, {20, Requested{1}}, {5010, Requested{2}}},
       5011,
       "10: Save\n20: Decided 1 Denied\n"
       "5010: Decided 2 No approval needed\n"},
      {"who hangs up is forgotten at once and not answered",
       yes,
       {{10, Requested{1}},
        {20, Requested{2}},
        {30, HungUp{1}},
        {31, HungUp{1}},
        {40, HungUp{3}},
        {50, HungUp{2}}},
       20000,
       "10: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: NeedApproval 10000 yes; Changed LastApprovalRequest=20; Save\n"
       "50: Changed ApprovalPending=false\n"},
      {"disabled while waiting",
       yes,
       {{10, Requested{1}}, {20, set(Property::kEnabled, false)}},
       20000,
       "10: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: Decided 1 Disabled; Changed ApprovalPending=false Enabled=false Expires=none; Save\n"},
      {"expired while waiting",
       with_approval(Milliseconds(200000), true, Milliseconds(5000)),
       {{10, Requested{1}}, {50001, CheckerFinished{0, kExit7}}},
       1000000,
       "10: NeedApproval 200000 yes; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50001: CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; "
       "Save\n"
       "150000: Decided 1 Disabled; Changed ApprovalPending=false Enabled=false Expires=none; "
       "Save\n"},
      {"the default counts as it stands when the delay is over",
       no,
       {{10, Requested{1}}, {20, set(Property::kApprovedByDefault, true)}},
       20000,
       "10: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: Changed ApprovedByDefault=true; Save\n"
       "10010: Decided 1 Approved by default; Changed ApprovalPending=false\n"},
      {"a new delay is for connections to come",
       no,
       {{10, Requested{1}}, {20, duration(Property::kApprovalDelay, 0)}, {30, Requested{2}}},
       20000,
       "10: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: Changed ApprovalDelay=0; Save\n"
       "30: Decided 2 No approval needed\n"
       "10010: Decided 1 Approval timed out; Changed ApprovalPending=false\n"},
      {"a decision made while disabled holds when enabled within its time",
       with(&ClientSettings::enabled, false, yes),
       {{10, Approve{true}}, {20, set(Property::kEnabled, true)}, {30, Requested{1}}},
       31,
       "10: Save\n20: Changed Enabled=true Expires=200020 LastEnabled=20; Save\n"
       "30: Decided 1 Approved\n"},
      {"who asks at the very moment of expiry is too late",
       usual(),
       {{50001, CheckerFinished{0, kExit7}}, {150000, Requested{1}}},
       150001,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "50001: CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; "
       "Save\n"
       "150000: Decided 1 Disabled; Changed Enabled=false Expires=none; Save\n"},
      {"an approval at the very moment when the delay is over is too late",
       no,
       {{10, Requested{1}}, {10010, Approve{true}}},
       10011,
       "10: NeedApproval 10000 no; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "10010: Decided 1 Approval timed out; Changed ApprovalPending=false; Save\n"},
  });
}

// Else whoever holds one key could take every place that there is for those who wait.
TEST(Client, NoMoreThan32ConnectionsWait) {
  Client client;
  client.begin_with(with_approval(Milliseconds(10000), false, Milliseconds(0)));
  client.is_enabled = true;
  client.expires = Instant(std::chrono::hours(1));
  client.next_check = Instant(std::chrono::hours(1));
  std::vector<Effect> effects;
  for (ConnectionId id = 1; id <= 40; ++id) {
    react(client, Requested{id}, {Instant(Milliseconds(id)), {}}, effects);
  }
  EXPECT_EQ(client.waiting.size(), 32U);
  EXPECT_EQ(client.waiting.front().connection, 9U);
  ConnectionId next = 1;
  for (const auto& effect : effects) {
    if (const auto* decided = std::get_if<Decided>(&effect)) {
      EXPECT_EQ(decided->connection, next++) << "who has waited the longest gives way";
      EXPECT_EQ(decided->verdict, Verdict::kApprovalTimedOut);
    }
  }
  EXPECT_EQ(next, 9U);
  effects.clear();
  react(client, Approve{true}, {Instant(Milliseconds(100)), {}}, effects);
  EXPECT_EQ(std::ranges::count_if(effects, [](const Effect& e) { return e.index() == 0; }), 32);
}

TEST(Client, Reload) {
  const ClientSettings approval = with_approval(Milliseconds(10000), true, Milliseconds(0));
  ClientSettings keyed = usual();
  keyed.key_id = KeyId::parse(std::string(64, '1'));
  ClientSettings rekeyed = approval;
  rekeyed.key_id = keyed.key_id;
  const ClientSettings lasting = with_approval(Milliseconds(10000), true, Milliseconds(5000));
  play({
      {"what did not change keeps its timers",
       usual(),
       {{1000, test::reloaded(usual(), 0.1)}},
       50001,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"},
      {"a setting",
       usual(),
       {{1000, test::reloaded(with(&ClientSettings::host, std::string("other")), 0)}},
       1001,
       "1000: Changed Host=other; Save\n"},
      {"the secret",
       usual(),
       {{1000, test::reloaded(with(&ClientSettings::secret, test::secret("other")), 0)}},
       1001,
       "1000: Changed Secret=other; Save\n"},
      {"the key ID",
       usual(),
       {{1000, test::reloaded(keyed, 0)}},
       1001,
       "1000: Changed KeyID=1111111111111111111111111111111111111111111111111111111111111111; "
       "Save\n"},
      {"another key ends every wait",
       approval,
       {{10, Requested{1}}, {20, Requested{2}}, {30, test::reloaded(rekeyed, 0)}},
       20000,
       "10: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: NeedApproval 10000 yes; Changed LastApprovalRequest=20; Save\n"
       "30: Decided 1 Key changed; Decided 2 Key changed; Changed ApprovalPending=false "
       "KeyID=1111111111111111111111111111111111111111111111111111111111111111; Save\n"},
      {"an approval was for the old key",
       lasting,
       {{10, Approve{true}}, {20, test::reloaded(rekeyed, 0)}, {30, Requested{1}}},
       31,
       "10: Save\n20: Changed ApprovalDuration=0 "
       "KeyID=1111111111111111111111111111111111111111111111111111"
       "111111111111; Save\n"
       "30: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=30; Save\n"},
      {"a timeout moves the expiry",
       usual(),
       {{1000, test::reloaded(with(&ClientSettings::timeout, Milliseconds(310000)), 0)}},
       1001,
       "1000: Changed Expires=160000 Timeout=310000; Save\n"},
      {"a timeout that is over disables, and the same reload does not enable again",
       usual(),
       {{1000, test::reloaded(with(&ClientSettings::timeout, Milliseconds(1)), 0)}},
       1000000,
       "1000: Changed Enabled=false Expires=none Timeout=1; Save\n"},
      {"a new interval keeps the part of it that is still to go",
       usual(),
       {{10000, test::reloaded(with(&ClientSettings::interval, Milliseconds(10000)), 0)}},
       14001,
       "10000: Changed Interval=10000; Save\n"
       "14000: StartChecker 0 check; Changed CheckerRunning=true\n"},
      {"enabled now: the first check is at a random moment, since many may be",
       disabled(),
       {{1000, test::reloaded(usual(), 0.25)}},
       26001,
       "1000: Changed Enabled=true Expires=126000 LastEnabled=1000; Save\n"
       "26000: StartChecker 0 check; Changed CheckerRunning=true\n"},
      {"disabled now",
       usual(),
       {{1000, test::reloaded(disabled(), 0)}},
       1000000,
       "1000: Changed Enabled=false Expires=none; Save\n"},
      {"a client that expires at that moment is not enabled by settings merged before",
       usual(),
       {{150000, test::reloaded(usual(), 0)}},
       1000000,
       "50000: StartChecker 0 check; Changed CheckerRunning=true\n"
       "150000: KillChecker 0; Changed CheckerRunning=false Enabled=false Expires=none; Save\n"},
      {"who waits goes on waiting",
       approval,
       {{10, Requested{1}},
        {20, test::reloaded(with(&ClientSettings::approval_delay, Milliseconds(5), approval), 0)}},
       20000,
       "10: NeedApproval 10000 yes; Changed ApprovalPending=true LastApprovalRequest=10; Save\n"
       "20: Changed ApprovalDelay=5; Save\n"
       "10010: Decided 1 Approved by default; Changed ApprovalPending=false\n"},
  });
}

TEST(Client, StartWithWhatWasKept) {
  constexpr std::int64_t kNow = 500000;
  constexpr std::int64_t kNone = -1;
  struct StartRow {
    const char* rule;
    bool enabled;
    std::int64_t expires;
    bool ever_ok;
    std::int16_t status;
    std::int64_t expires_after;  // kNone: disabled
    std::int64_t last_enabled_after;
    std::int64_t next_check_after = kNow + 50000;
    std::uint32_t graces = 0;
    bool unjudged = false;
  };
  const StartRow rows[] = {
      {"a new client", true, kNone, false, -2, 650000, kNow},
      {"an expiry that is too soon for a first check", true, kNow + 1, true, 0, 650000, 3},
      {"the same, last checker failed: no grace", true, kNow + 1, true, 1, kNow + 1, 3, kNow},
      {"the same, never checked", true, kNow + 100000, false, -2, kNow + 100000, 3, kNow + 25000},
      {"the same, the graces are used up", true, kNow + 1, true, 0, kNow + 1, 3, kNow, kMostGraces},
      {"the last grace", true, kNow + 1, true, 0, 650000, 3, kNow + 50000, kMostGraces - 1},
      {"an expiry with time left is kept", true, kNow + 250000, false, -2, 750000, 3},
      {"an extended one too", true, kNow + 900000, false, -2, 1400000, 3},
      {"one beyond all timeouts is the work of a wall clock that went back", true,
       kNow + 31536000000, true, 0, 1400000, 3},
      {"past its expiry, last checker succeeded", true, kNow, true, 0, 800000, 3},
      {"past its expiry, the graces are used up", true, kNow, true, 0, kNone, 3, kNone,
       kMostGraces},
      {"past its expiry, last checker failed", true, kNow, true, 1, kNone, 3},
      {"past its expiry, last checker killed", true, kNow - 1, true, -1, kNone, 3},
      {"past its expiry, no checker has succeeded ever", true, kNow - 1, false, 0, kNone, 3},
      {"past its expiry, no checker has finished", true, kNow - 1, false, -2, kNone, 3},
      {"past its expiry, no checker has finished since it was added", true, kNow - 1, false, -2,
       800000, 3, kNow + 50000, 0, true},
      {"past its expiry, no checker has finished since it was enabled", true, kNow - 1, true, 1,
       800000, 3, kNow + 50000, 0, true},
      {"the same, the graces are used up", true, kNow, true, 1, kNone, 3, kNone, kMostGraces, true},
      {"disabled", false, kNone, true, 0, kNone, 3},
      {"disabled, with an expiry that should not be there", false, kNow + 5, true, 0, kNone, 3},
  };
  for (const StartRow& row : rows) {
    SCOPED_TRACE(row.rule);
    Client client;
    client.begin_with(usual());
    client.is_enabled = row.enabled;
    if (row.expires != kNone) {
      client.expires = moment(row.expires).boot;
      if (row.enabled) client.expires_shown = moment(row.expires).wall;
    }
    client.graces = row.graces;
    client.unjudged = row.unjudged;
    if (row.ever_ok) client.last_checked_ok = moment(1).wall;
    client.last_checker_status = row.status;
    client.last_enabled = moment(3).wall;
    const std::vector<Effect> effects = test::checked_react(client, Started{0.5}, moment(kNow));
    EXPECT_EQ(client.enabled(), row.expires_after != kNone);
    EXPECT_EQ(client.expires ? since_start(*client.expires) : kNone, row.expires_after);
    EXPECT_EQ(since_start(client.expires_shown),
              row.expires_after == kNone ? "none" : std::to_string(row.expires_after));
    EXPECT_EQ(client.next_check ? since_start(*client.next_check) : kNone,
              row.expires_after == kNone ? kNone : row.next_check_after);
    EXPECT_EQ(since_start(client.last_enabled), std::to_string(row.last_enabled_after));
    EXPECT_EQ(effects.empty(), !row.enabled || row.expires == row.expires_after);
    const bool put_off = row.enabled && row.expires < row.expires_after && row.expires != kNone;
    EXPECT_EQ(client.graces, row.graces + (put_off ? 1 : 0));
  }
}

/// A client that started at 0 and whose checker succeeded (or not) at 1: expiry 300001 (150000),
/// checks at 50000, 150000 and so on.
Client checked(bool succeeded, const ClientSettings& settings = usual()) {
  Client client;
  client.begin_with(settings);
  test::checked_react(client, Started{0.5}, moment(0));
  if (succeeded) test::checked_react(client, CheckedOk{}, moment(1));
  return client;
}
std::string happened(Client& client, const Event& event, std::int64_t at) {
  std::string out;
  for (const auto& effect : test::checked_react(client, event, moment(at))) {
    out += (out.empty() ? "" : "; ") + told(client, effect);
  }
  return out;
}

TEST(Client, WhatWeMissedIsHeldAgainstNobody) {
  Client client = checked(true);
  EXPECT_EQ(happened(client, Missed{Milliseconds(9000)}, 40000), "") << "nothing was missed";
  EXPECT_EQ(client.graces, 0);
  EXPECT_EQ(since_start(client.next_check.value()), 59000);
  // Its expiry has passed: another timeout, and a check as soon as it would have come, which
  // decides.
  EXPECT_EQ(happened(client, Missed{Milliseconds(350000)}, 400000), "Changed Expires=700000; Save");
  EXPECT_EQ(client.graces, 1);
  EXPECT_EQ(since_start(client.next_check.value()), 409000);
  EXPECT_EQ(happened(client, Due{}, 409000), "StartChecker 0 check; Changed CheckerRunning=true");
  EXPECT_EQ(
      happened(client, CheckerFinished{0, kExit7}, 409001),
      "CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; Save");
  // It has not passed, but the check that would have moved it could not run.
  client = checked(true);
  EXPECT_EQ(happened(client, Missed{Milliseconds(240000)}, 290000),
            "StartChecker 0 check; Changed CheckerRunning=true Expires=390000; Save");
}

TEST(Client, WhoHasNotBeenCheckedYetGetsAGrace) {
  Client client = checked(false);
  EXPECT_EQ(happened(client, Missed{Milliseconds(350000)}, 400000),
            "StartChecker 0 check; Changed CheckerRunning=true Expires=700000; Save");
  EXPECT_EQ(happened(client, CheckerLost{0}, 699000),
            "Changed CheckerRunning=false Expires=800000; Save");
  // Since it was enabled: what was before says nothing.
  client = checked(true);
  happened(client, Due{}, 50000);
  happened(client, CheckerFinished{0, kExit7}, 50001);
  happened(client, set(Property::kEnabled, false), 50002);
  happened(client, set(Property::kEnabled, true), 50003);
  EXPECT_EQ(client.last_checker_status, 7);
  for (std::uint32_t i = 1; i <= kMostGraces; ++i) {
    happened(client, Missed{Milliseconds(0)}, i * 1000000);
    EXPECT_TRUE(client.enabled());
  }
  happened(client, Missed{Milliseconds(0)}, 9000000);
  EXPECT_FALSE(client.enabled());
}

TEST(Client, WithoutAGraceThereIsTimeForACheckNevertheless) {
  Client client = checked(true);
  happened(client, Due{}, 150000);
  happened(client, CheckerFinished{0, kExit7}, 150001);
  // Not at 350000, when it has expired, but at half the time.
  EXPECT_EQ(happened(client, Missed{Milliseconds(100000)}, 250001), "");
  EXPECT_EQ(since_start(client.next_check.value()), 275000);
  EXPECT_EQ(since_start(client.expires.value()), 300001);
}

TEST(Client, OnlyAClientWhoseLastCheckDidNotFailGetsAGrace) {
  Client failed = checked(true);
  happened(failed, Due{}, 50000);
  happened(failed, CheckerFinished{0, kExit7}, 50001);
  EXPECT_EQ(happened(failed, Missed{Milliseconds(1000)}, 300001),
            "Changed Enabled=false Expires=none; Save");
  Client off = checked(true, disabled());
  EXPECT_EQ(happened(off, Missed{Milliseconds(1000)}, 1000000), "");
}

TEST(Client, GracesAreFewUntilACheckSucceeds) {
  Client client = checked(true);
  std::int64_t now = 0;
  for (std::uint32_t i = 0; i < kMostGraces; ++i) {
    now += 1000000;
    happened(client, Missed{Milliseconds(900000)}, now);
    EXPECT_TRUE(client.enabled());
    EXPECT_EQ(since_start(client.expires.value()), now + 300000);
  }
  Client other = client;
  now += 1000000;
  happened(other, Missed{Milliseconds(900000)}, now);
  EXPECT_FALSE(other.enabled());
  happened(client, CheckerFinished{0, kExit0}, now - 900000);
  EXPECT_EQ(client.graces, 0);
  happened(client, Missed{Milliseconds(900000)}, now);
  EXPECT_TRUE(client.enabled());
}

TEST(Client, ConnectionsWaitLongerForWhatWeMissed) {
  Client client = checked(true, with_approval(Milliseconds(10000), false, Milliseconds(1000)));
  happened(client, Requested{1}, 1000);
  EXPECT_EQ(happened(client, Missed{Milliseconds(20000)}, 31000 - 1), "");
  EXPECT_EQ(since_start(client.waiting.at(0).deadline), 32000);
  EXPECT_EQ(happened(client, Approve{true}, 31000 - 1),
            "Decided 1 Approved; Changed ApprovalPending=false; Save");
}

TEST(Client, ACheckerThatWasLostSaysNothing) {
  Client client = checked(true);
  happened(client, Due{}, 250000);  // and its expiry is 300001
  EXPECT_EQ(happened(client, CheckerLost{1}, 250001), "") << "another one";
  EXPECT_EQ(happened(client, CheckerLost{0}, 250001),
            "Changed CheckerRunning=false Expires=450000; Save");
  EXPECT_EQ(client.last_checker_status, 0);
  EXPECT_EQ(happened(client, CheckerFinished{0, kExit7}, 250002), "") << "it is over";
  // One that was stopped is gone to the outside already.
  client = checked(true);
  happened(client, Due{}, 50000);
  happened(client, set(Property::kCheckerRunning, false), 50001);
  EXPECT_EQ(happened(client, CheckerLost{0}, 50002), "");
  EXPECT_FALSE(client.checker);
}

// It may have found no answer in time because it, or its program, was stopped with us.
TEST(Client, ACheckerThatWasStoppedWithUsFailsForNobody) {
  Client client = checked(true);
  happened(client, Due{}, 250000);  // and its expiry is 300001
  happened(client, Missed{Milliseconds(40000)}, 291000);
  EXPECT_EQ(happened(client, CheckerFinished{0, kExit7}, 291001),
            "StartChecker 1 check; Changed CheckerRunning=true");
  EXPECT_EQ(client.last_checker_status, 0);
  EXPECT_EQ(client.failed_checks, 0);
  EXPECT_GE(since_start(client.expires.value()), 390000);
  // The next one was not.
  EXPECT_EQ(
      happened(client, CheckerFinished{1, kExit7}, 291002),
      "CheckerCompleted 7 1792 check; Changed CheckerRunning=false LastCheckerStatus=7; Save");
  // One that succeeds has.
  client = checked(true);
  happened(client, Due{}, 250000);
  happened(client, Missed{Milliseconds(40000)}, 291000);
  EXPECT_EQ(happened(client, CheckerFinished{0, kExit0}, 291001),
            "CheckerCompleted 0 0 check; Changed CheckerRunning=false Expires=591001 "
            "LastCheckedOK=291001; Save");
  // One that an administrator stopped is not started again.
  client = checked(true);
  happened(client, Due{}, 50000);
  happened(client, set(Property::kCheckerRunning, false), 50001);
  happened(client, Missed{Milliseconds(9000)}, 59002);
  EXPECT_EQ(happened(client, CheckerFinished{0, kExit7}, 59003), "");
}

TEST(Client, WhoHasHungUpIsNotDecidedEvenIfItsTimeIsUp) {
  Client client = checked(true, with_approval(Milliseconds(10000), true, Milliseconds(1000)));
  happened(client, Requested{1}, 1000);
  happened(client, Requested{2}, 1000);
  EXPECT_EQ(happened(client, HungUp{1}, 11000),
            "Decided 2 Approved by default; Changed ApprovalPending=false");
}

TEST(Client, TheFirstCheckLiesWithinTheInterval) {
  for (const double fraction : {0.0, 0.25, 0.999999, 1.0, 7.0, -1.0}) {
    Client client;
    client.begin_with(usual());
    test::checked_react(client, Started{fraction}, moment(0));
    EXPECT_EQ(since_start(client.next_check.value()),
              static_cast<std::int64_t>(100000 * std::min(std::max(fraction, 0.0), 1.0)));
  }
}

TEST(Client, LateByManyIntervalsChecksOnceAndKeepsItsPlaceInTheInterval) {
  Client client;
  client.begin_with(usual());
  test::own(client).timeout = std::chrono::hours(24);
  test::checked_react(client, Started{0.5}, moment(0));
  test::checked_react(client, CheckedOk{}, moment(1));
  const std::vector<Effect> effects = test::checked_react(client, Due{}, moment(1234567));
  EXPECT_EQ(effects.size(), 2);
  EXPECT_EQ(since_start(client.next_check.value()), 1250000);
}

TEST(Client, LateForEverythingExpiresAndGivesNothing) {
  Client client;
  client.begin_with(with_approval(Milliseconds(10000), true, Milliseconds(100)));
  test::checked_react(client, Started{0.5}, moment(0));
  test::checked_react(client, Requested{1}, moment(1));
  const std::vector<Effect> effects = test::checked_react(client, Due{}, moment(99999999));
  EXPECT_EQ(std::get<Decided>(effects.at(0)).verdict, Verdict::kDisabled);
  EXPECT_FALSE(next_deadline(client));
}

TEST(Client, NothingIsDueBeforeItsTime) {
  Client client;
  client.begin_with(with_approval(Milliseconds(10000), true, Milliseconds(100)));
  test::checked_react(client, Started{0.5}, moment(0));
  test::checked_react(client, Requested{1}, moment(1));
  EXPECT_TRUE(test::checked_react(client, Due{}, moment(10000)).empty());
  EXPECT_EQ(since_start(next_deadline(client).value()), 10001);
}

TEST(Client, AWallClockThatJumpsChangesOnlyStamps) {
  const std::vector<Step> steps = {{1000, Requested{1}},
                                   {2000, CheckedOk{}},
                                   {3000, Approve{true}},
                                   {4000, duration(Property::kTimeout, 400000)},
                                   {50010, CheckerFinished{0, kExit0}},
                                   {60000, Delivered{}}};
  constexpr std::chrono::hours kYear(24 * 365);
  std::vector<std::vector<std::size_t>> kinds;
  for (const auto jump : {kYear * 0, kYear, -kYear}) {
    Client client;
    client.begin_with(with_approval(Milliseconds(10000), true, Milliseconds(100)));
    std::vector<std::size_t> kind;
    const auto happen = [&](std::int64_t at, const Event& event) {
      Moment now = moment(at);
      if (at > 1500) now.wall += jump;
      for (const Effect& effect : test::checked_react(client, event, now)) {
        kind.push_back(effect.index());
      }
      EXPECT_TRUE(client.enabled());
    };
    happen(0, Started{0.5});
    for (const Step& step : steps) {
      if (step.at == 50010) happen(50000, Due{});
      happen(step.at, step.event);
    }
    EXPECT_EQ(since_start(client.expires.value()), 960000);
    kinds.push_back(kind);
  }
  EXPECT_EQ(kinds[0], kinds[1]);
  EXPECT_EQ(kinds[0], kinds[2]);
}

TEST(Client, DurationsWithoutBoundDoNotOverflow) {
  constexpr Milliseconds kMost = Milliseconds::max();
  Client client;
  client.begin_with(usual());
  auto& settings = test::own(client);
  settings.timeout = settings.extended_timeout = settings.interval = kMost;
  settings.approval_delay = settings.approval_duration = kMost;
  test::checked_react(client, Started{1.0}, moment(0));
  const Event events[] = {Requested{1},
                          Approve{true},
                          Delivered{},
                          CheckedOk{},
                          duration(Property::kTimeout, 1),
                          duration(Property::kTimeout, kMost.count()),
                          CheckedOk{},
                          duration(Property::kInterval, kMost.count()),
                          duration(Property::kInterval, kMost.count() - 1),
                          test::reloaded(usual(), 0.5),
                          duration(Property::kTimeout, kMost.count()),
                          set(Property::kEnabled, false),
                          set(Property::kEnabled, true),
                          duration(Property::kTimeout, 300000)};
  std::int64_t now = 0;
  for (const Event& event : events) {
    test::checked_react(client, event, moment(++now));
    EXPECT_TRUE(!client.expires || *client.expires > moment(now).boot);
  }
  EXPECT_FALSE(client.enabled()) << "a timeout that became short is over";
}

TEST(Client, AnIntervalOfNothingDoesNotCheckWithoutEnd) {
  Client client;
  client.begin_with(usual());
  test::own(client).interval = Milliseconds(0);
  test::checked_react(client, Started{0.5}, moment(0));
  test::checked_react(client, CheckedOk{}, moment(0));
  test::checked_react(client, Due{}, moment(0));
  EXPECT_EQ(since_start(client.next_check.value()), 1);
}

TEST(Client, CheckersOfDifferentClientsHaveDifferentNumbers) {
  Client client;
  client.begin_with(disabled());
  client.number = 7;
  const std::vector<Effect> effects =
      test::checked_react(client, set(Property::kCheckerRunning, true), moment(0));
  EXPECT_EQ(std::get<StartChecker>(effects.at(0)).checker, CheckerId{7} << 32U);
}

TEST(Client, ADueIsAnEndOfWaiting) {
  // next_deadline() names each timer when it is the only one or the first.
  Client client;
  client.begin_with(with_approval(Milliseconds(10000), true, Milliseconds(5000)));
  EXPECT_FALSE(next_deadline(client));
  test::checked_react(client, Started{0.5}, moment(0));
  EXPECT_EQ(since_start(next_deadline(client).value()), 50000);
  test::checked_react(client, Requested{1}, moment(1));
  EXPECT_EQ(since_start(next_deadline(client).value()), 10001);
  test::checked_react(client, Approve{true}, moment(2));
  EXPECT_EQ(since_start(next_deadline(client).value()), 5002);
  test::checked_react(client, duration(Property::kTimeout, 300000 - 150000 + 1000), moment(3));
  EXPECT_EQ(since_start(next_deadline(client).value()), 1000);
}

}  // namespace
}  // namespace mandos::monitor
