// SPDX-License-Identifier: GPL-3.0-or-later
// A year of many clients on virtual time, with checkers, administrators, reloads, restarts and wall
// clocks that jump, all at random; what must always hold is checked after every event, against a
// model that knows only what has happened.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/support/client_settings.h"
#include "tests/support/sanitized.h"
#include "tests/unit/monitor/client_driver.h"

namespace mandos::monitor {
namespace {

#ifdef MANDOS_SANITIZED
constexpr std::size_t kClients = 500;
#else
constexpr std::size_t kClients = 10000;
#endif
constexpr auto kDay = std::chrono::hours(24);
constexpr auto kYear = kDay * 365;
/// Events from outside in the year, for each client.
constexpr std::int64_t kActsForEach = 150;

/// What has happened to a client, as far as its rights depend on it.
struct Model {
  Client client;
  double reliability = 1;  // how often its checker succeeds
  Instant expires{};       // if enabled
  std::optional<Client::Decision> decision;
  std::map<ConnectionId, Instant> waiting;  // until when an answer must have come
  std::optional<CheckerId> process;         // a checker that has not ended
  bool process_killed = false;
  Instant armed = Instant::max();  // the timer that the loop holds
};

struct Entry {
  Instant when;
  std::size_t client;
  Event event;
  std::uint32_t life;  // of the server: what it waited for dies with it
  bool operator<(const Entry& other) const { return when > other.when; }
};

class World {
 public:
  void run() {
    models_.resize(kClients);
    for (std::size_t i = 0; i < kClients; ++i) {
      Client& client = models_[i].client;
      client.number = static_cast<std::uint32_t>(i);
      client.name = "client";
      client.begin_with(random_settings());
      models_[i].reliability = chance(0.1) ? 0.3 : 0.98;
      start(i);
    }
    const auto act_every =
        std::chrono::nanoseconds(kYear) / (kActsForEach * static_cast<std::int64_t>(kClients));
    Instant next_act = now_.boot + act_every;
    Instant next_restart = now_.boot + random_duration(kDay, kDay * 40);
    Instant next_reload = now_.boot + random_duration(kDay, kDay * 40);
    const Instant end = now_.boot + kYear;
    while (now_.boot < end && !testing::Test::HasFailure()) {
      if (!queue_.empty() && queue_.top().when <= next_act) {
        const Entry entry = queue_.top();
        queue_.pop();
        if (entry.life != life_) continue;
        go_to(entry.when);
        Model& model = models_[entry.client];
        if (std::holds_alternative<Due>(entry.event)) {
          if (entry.when != model.armed) continue;
          model.armed = Instant::max();
        }
        // A checker that was killed has two ends in the queue: the first counts.
        const auto* finished = std::get_if<CheckerFinished>(&entry.event);
        if (finished != nullptr && model.process != finished->checker) continue;
        happen(entry.client, entry.event);
        continue;
      }
      go_to(next_act);
      next_act += act_every;
      act(static_cast<std::size_t>(random_() % kClients));
      if (now_.boot > next_reload) {
        next_reload += random_duration(kDay, kDay * 40);
        reload_all();
      }
      if (now_.boot > next_restart) {
        restart();
        next_restart = now_.boot + random_duration(kDay, kDay * 40);
        next_act = now_.boot + act_every;
      }
      if (chance(1e-5)) wall_ahead_ += std::chrono::hours(24 * 365) * (chance(0.5) ? 1 : -1);
    }
  }

  std::map<std::string, std::size_t> counts;

 private:
  bool chance(double probability) {
    return std::uniform_real_distribution<double>(0, 1)(random_) < probability;
  }
  Milliseconds random_duration(Milliseconds least, Milliseconds most) {
    return Milliseconds(
        std::uniform_int_distribution<std::int64_t>(least.count(), most.count())(random_));
  }
  double fraction() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  ClientSettings random_settings() {
    ClientSettings settings;
    settings.host = "host";
    settings.checker = chance(0.01) ? "%(nothing)s" : "check %(host)s";
    settings.enabled = chance(0.9);
    settings.interval = random_duration(kDay, kDay * 5);
    settings.timeout = settings.interval * (2 + static_cast<int>(random_() % 4));
    settings.extended_timeout = settings.timeout * 2;
    settings.approved_by_default = chance(0.5);
    settings.approval_delay = chance(0.5) ? Milliseconds(0) : random_duration(kDay / 24, kDay);
    settings.approval_duration = random_duration(Milliseconds(0), kDay);
    return settings;
  }

  void go_to(Instant when) {
    ASSERT_GE(when, now_.boot);
    now_.boot = when;
    now_.wall = test::kWallStart + wall_ahead_ +
                std::chrono::floor<WallTime::duration>(when - test::kBootStart);
  }
  void later(Milliseconds delay, std::size_t i, Event event) {
    queue_.push({now_.boot + delay, i, std::move(event), life_});
  }

  void start(std::size_t i) { happen(i, Started{fraction()}); }

  /// Something from outside.
  void act(std::size_t i) {
    Model& model = models_[i];
    const bool yes = chance(0.5);
    const auto pick = random_() % 100;
    const auto set = [&](Property property, Set::Value value) {
      happen(i, Set{property, std::move(value)});
    };
    if (pick < 40) return happen(i, Requested{++connections_});
    if (pick < 50)
      return happen(i, HungUp{model.waiting.empty() ? 0 : model.waiting.begin()->first});
    if (pick < 65) return happen(i, Approve{yes});
    if (pick < 70) return happen(i, CheckedOk{});
    if (pick < 76) return set(Property::kEnabled, chance(0.8));
    if (pick < 80) return set(Property::kCheckerRunning, yes);
    ClientSettings fresh = random_settings();
    if (pick < 83) return set(Property::kTimeout, fresh.timeout);
    if (pick < 86) return set(Property::kInterval, fresh.interval);
    if (pick < 88) return set(Property::kExtendedTimeout, fresh.extended_timeout);
    if (pick < 91) return set(Property::kApprovalDelay, fresh.approval_delay);
    if (pick < 93) return set(Property::kApprovalDuration, fresh.approval_duration);
    if (pick < 95) return set(Property::kApprovedByDefault, yes);
    if (pick < 97) return set(Property::kChecker, fresh.checker);
    fresh.enabled = model.client.enabled() != chance(0.2);
    happen(i, test::reloaded(fresh, fraction()));
  }

  void reload_all() {
    ++counts["reload of all"];
    std::set<Instant> checks;
    std::size_t enabled = 0;
    for (std::size_t i = 0; i < kClients; ++i) {
      ClientSettings settings = *models_[i].client.settings;
      settings.interval = kDay * 3;
      settings.enabled = true;
      happen(i, test::reloaded(settings, fraction()));
      enabled += models_[i].client.enabled() ? 1 : 0;
      if (models_[i].client.next_check) checks.insert(*models_[i].client.next_check);
    }
    EXPECT_GT(checks.size(), enabled * 9 / 10) << "a herd";
  }

  void restart() {
    ++counts["restart"];
    ++life_;
    go_to(now_.boot + random_duration(std::chrono::minutes(1), kDay * 2));
    if (chance(0.3)) wall_ahead_ -= std::chrono::hours(24 * 365);
    go_to(now_.boot);
    for (std::size_t i = 0; i < kClients; ++i) {
      Model& model = models_[i];
      Client kept;
      kept.number = model.client.number;
      kept.name = model.client.name;
      kept.settings = model.client.settings;
      kept.is_enabled = model.client.is_enabled;
      kept.last_enabled = model.client.last_enabled;
      kept.last_checked_ok = model.client.last_checked_ok;
      kept.last_approval_request = model.client.last_approval_request;
      kept.last_checker_status = model.client.last_checker_status;
      kept.graces = model.client.graces;
      kept.unjudged = model.client.unjudged;
      if (model.client.expires_shown) {
        kept.expires = now_.boot + (*model.client.expires_shown - now_.wall);
        kept.expires_shown = model.client.expires_shown;
      }
      model.client = std::move(kept);
      model.decision.reset();
      model.waiting.clear();
      model.process.reset();
      model.armed = Instant::max();
      start(i);
      const ClientSettings& settings = *model.client.settings;
      if (model.client.enabled()) {
        EXPECT_LE(*model.client.expires,
                  now_.boot + std::max({settings.timeout, settings.extended_timeout,
                                        settings.interval * 2}));
      }
    }
  }

  /// One event, and all that must hold of it.
  void happen(std::size_t i, const Event& event) {
    Model& model = models_[i];
    Client& client = model.client;
    const bool started = std::holds_alternative<Started>(event);
    const bool was_enabled = client.enabled() && (started || model.expires > now_.boot);
    const bool expires_now = client.enabled() && !started && model.expires <= now_.boot;
    const bool check_due = !started && was_enabled && *client.next_check <= now_.boot;
    const bool had_process = model.process.has_value();
    const Milliseconds old_timeout = client.settings->timeout;
    effects_.clear();
    if (const auto* request = std::get_if<Requested>(&event)) {
      model.waiting[request->connection] = now_.boot + client.settings->approval_delay;
    } else if (const auto* hung_up = std::get_if<HungUp>(&event)) {
      // Even one whose time is up just now is not answered any more.
      model.waiting.erase(hung_up->connection);
    } else if (const auto* finished = std::get_if<CheckerFinished>(&event)) {
      EXPECT_EQ(model.process, finished->checker);
      model.process.reset();
    }
    const bool decision_over = model.decision && model.decision->until <= now_.boot;
    if (decision_over) model.decision.reset();
    if (const auto* approve = std::get_if<Approve>(&event)) {
      model.decision = {approve->approved, now_.boot + client.settings->approval_duration};
    }
    if (++events_ % 64 == 0) {
      effects_ = test::checked_react(client, event, now_);
    } else {
      react(client, event, now_, effects_);
    }

    bool tried = false;
    for (const Effect& effect : effects_) {
      if (const auto* decided = std::get_if<Decided>(&effect)) {
        answered(model, *decided, event);
        if (granted(decided->verdict) && chance(0.9)) later(Milliseconds(500), i, Delivered{});
      } else if (const auto* begun = std::get_if<StartChecker>(&effect)) {
        tried = true;
        EXPECT_FALSE(model.process) << "two checkers at once";
        model.process = begun->checker;
        model.process_killed = false;
        if (!chance(0.01)) {
          const int status = chance(model.reliability) ? 0 : chance(0.2) ? 11 : 1 << 8;
          later(random_duration(Milliseconds(1), chance(0.01) ? kDay * 7 : Milliseconds(60000)), i,
                CheckerFinished{begun->checker, status});
        }
      } else if (const auto* kill = std::get_if<KillChecker>(&effect)) {
        ++counts["checker killed"];
        EXPECT_EQ(model.process, kill->checker);
        EXPECT_FALSE(model.process_killed);
        model.process_killed = true;
        later(Milliseconds(20), i, CheckerFinished{kill->checker, 9});
      } else if (std::holds_alternative<CheckerUnusable>(effect)) {
        tried = true;
      }
    }
    if (check_due && was_enabled && client.enabled()) {
      EXPECT_TRUE(tried || had_process || model.process) << "a check was forgotten";
    }
    if (expires_now) ++counts["expired"];
    follow_expiry(model, event, was_enabled, old_timeout);
    check(model, started);

    const std::optional<Instant> due = next_deadline(client);
    if (due && *due < model.armed) {
      model.armed = *due;
      queue_.push({*due, i, Due{}, life_});
    } else if (!due || *due > model.armed) {
      model.armed = due.value_or(Instant::max());
      if (due) queue_.push({*due, i, Due{}, life_});
    }
  }

  void answered(Model& model, const Decided& decided, const Event& event) {
    ++counts[std::string(text(decided.verdict))];
    const auto waiting = model.waiting.find(decided.connection);
    ASSERT_NE(waiting, model.waiting.end()) << "answered twice, or never asked";
    const bool over = waiting->second <= now_.boot;
    model.waiting.erase(waiting);
    const Client& client = model.client;
    if (granted(decided.verdict)) {
      EXPECT_TRUE(client.enabled()) << text(decided.verdict);
      EXPECT_GT(model.expires, now_.boot) << text(decided.verdict);
      EXPECT_FALSE(model.decision && !model.decision->approved && !over) << text(decided.verdict);
    }
    switch (decided.verdict) {
      case Verdict::kNoApprovalNeeded:
        EXPECT_EQ(client.settings->approval_delay, Milliseconds(0));
        EXPECT_TRUE(std::holds_alternative<Requested>(event));
        break;
      case Verdict::kApproved:
      case Verdict::kDenied:
        ASSERT_TRUE(model.decision);
        EXPECT_EQ(model.decision->approved, granted(decided.verdict));
        break;
      case Verdict::kApprovedByDefault:
      case Verdict::kApprovalTimedOut:
        EXPECT_TRUE(over);
        break;
      case Verdict::kKeyChanged:
        ADD_FAILURE() << "no key changes in this world";
        break;
      case Verdict::kDisabled:
        // Unless this very event enabled it again.
        EXPECT_TRUE(!client.enabled() || model.expires <= now_.boot);
    }
  }

  /// The model's own idea of the expiry, from the manual's rules.
  void follow_expiry(Model& model, const Event& event, bool was_enabled, Milliseconds old_timeout) {
    const Client& client = model.client;
    const ClientSettings& settings = *client.settings;
    const auto* finished = std::get_if<CheckerFinished>(&event);
    const auto* set = std::get_if<Set>(&event);
    if (!was_enabled || std::holds_alternative<Started>(event)) {
      if (client.enabled()) {
        EXPECT_TRUE(std::holds_alternative<Started>(event) ||
                    std::holds_alternative<Reloaded>(event) ||
                    (set != nullptr && set->property == Property::kEnabled))
            << "enabled by itself";
        EXPECT_TRUE(std::holds_alternative<Started>(event) ||
                    *client.expires <= now_.boot + settings.interval * 2);
        model.expires = *client.expires;
      }
      return;
    }
    if (std::holds_alternative<Delivered>(event)) {
      model.expires = now_.boot + settings.extended_timeout;
    } else if (std::holds_alternative<CheckedOk>(event) ||
               (finished != nullptr && finished->wait_status == 0 && !model.process_killed)) {
      model.expires = now_.boot + settings.timeout;
    }
    model.expires += settings.timeout - old_timeout;
    const bool asked = (set != nullptr && set->property == Property::kEnabled) ||
                       std::holds_alternative<Reloaded>(event);
    if (client.enabled()) {
      EXPECT_EQ(*client.expires, model.expires);
    } else if (!asked) {
      EXPECT_LE(model.expires, now_.boot) << "disabled by itself before its expiry";
    }
  }

  void check(Model& model, bool started) {
    const Client& client = model.client;
    ASSERT_EQ(client.waiting.size(), model.waiting.size()) << "a connection without an answer";
    const std::optional<Instant> due = next_deadline(client);
    for (const auto& [connection, deadline] : model.waiting) {
      EXPECT_GT(deadline, now_.boot);
      ASSERT_TRUE(due);
      EXPECT_LE(*due, deadline) << "a timer was lost";
    }
    if (!client.enabled()) {
      EXPECT_TRUE(model.waiting.empty());
      EXPECT_FALSE(client.expires || client.next_check);
      return;
    }
    ASSERT_TRUE(client.expires && client.next_check && due);
    EXPECT_GT(*client.expires, now_.boot) << "enabled past its expiry";
    EXPECT_TRUE(started || *client.next_check > now_.boot);
    EXPECT_LE(*client.next_check, now_.boot + client.settings->interval);
    EXPECT_LE(*due, std::min(*client.expires, *client.next_check)) << "a timer was lost";
  }

  std::mt19937_64 random_{20300102};  // NOLINT: the same year every time
  std::vector<Model> models_;
  std::priority_queue<Entry> queue_;
  std::vector<Effect> effects_;
  Moment now_ = test::moment(0);
  std::chrono::hours wall_ahead_{0};
  ConnectionId connections_ = 0;
  std::uint32_t life_ = 0;
  std::size_t events_ = 0;

 public:
  std::size_t events() const { return events_; }
};

TEST(ClientSimulation, AYear) {
  World world;
  world.run();
  // All of it has really happened.
  for (const char* what :
       {"No approval needed", "Approved", "Approved by default", "Disabled", "Denied",
        "Approval timed out", "expired", "checker killed", "restart", "reload of all"}) {
    EXPECT_GT(world.counts[what], 3U) << what;
    RecordProperty(what, std::to_string(world.counts[what]));
    std::cout << what << ": " << world.counts[what] << '\n';
  }
  EXPECT_GT(world.events(), kClients * 200);
  std::cout << world.events() << " events\n";
}

}  // namespace
}  // namespace mandos::monitor
