// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/client.h"

#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "monitor/checker_command.h"

namespace mandos::monitor {
namespace {

/// A quarter of the places that the networker has by default for those of one source who wait or
/// are served: whoever holds one key does not keep others out, be it from one source or from many.
constexpr std::size_t kMostWaiting = 32;

Milliseconds bounded(Milliseconds duration) {
  return std::clamp(duration, Milliseconds(0), kLongestDuration);
}

/// What one event does to a client.
class Reaction {
 public:
  Reaction(Client& client, const Moment& now, std::vector<Effect>& out)
      : c_(client), now_(now), out_(out), was_enabled_(client.enabled()) {}

  /// Whatever is due by now. The expiry comes first, so that nothing is granted and no checker
  /// started at or after it, however late this is called.
  void settle() {
    if (c_.expires && *c_.expires <= now_.boot) disable();
    if (c_.decision && c_.decision->until <= now_.boot) c_.decision.reset();
    // Who waits is enabled and undecided: disable() and Approve leave nobody waiting.
    for (const Client::Waiting& waiting : c_.waiting) {
      if (waiting.deadline > now_.boot) continue;
      out_.emplace_back(Decided{waiting.connection, c_.settings->approved_by_default
                                                        ? Verdict::kApprovedByDefault
                                                        : Verdict::kApprovalTimedOut});
    }
    forget_waiting([&](const auto& waiting) { return waiting.deadline <= now_.boot; });
    if (c_.next_check && *c_.next_check <= now_.boot) {
      // Whole intervals, so that clients which were spread out stay so when all are late.
      *c_.next_check += ((now_.boot - *c_.next_check) / step() + 1) * step();
      // Whoever does not end in time does not answer, which the exit status will say later, if
      // ever.
      if (c_.checker && !c_.checker->killed) count_failure();
      start_checker();
    }
  }

  void operator()(const Due&) {}

  void operator()(const Started& event) {
    if (!c_.enabled()) {
      c_.expires.reset();
      c_.expires_shown.reset();
      return;
    }
    if (!c_.expires) {
      stamp(c_.last_enabled, Property::kLastEnabled);
      return first_check(event.fraction);
    }
    // A wall clock that went back while nothing ran must not make the client live longer.
    const Instant latest = from_now(std::max(c_.settings->timeout, c_.settings->extended_timeout));
    if (*c_.expires > latest) expire_at(latest);
    c_.next_check = part_of_interval(event.fraction);
    allow_a_check();
    if (*c_.expires <= now_.boot) return disable();
  }

  void operator()(const CheckerFinished& event) {
    if (!c_.checker || c_.checker->id != event.checker) return;
    const Client::Checker done = *std::exchange(c_.checker, std::nullopt);
    if (!done.killed || done.start_again) touch(Property::kCheckerRunning);
    if (done.killed) {
      if (done.start_again) start_checker();
      return;
    }
    const auto exit_code = static_cast<std::int16_t>(
        WIFEXITED(event.wait_status) ? WEXITSTATUS(event.wait_status) : -1);
    if (exit_code != 0 && done.stopped) {
      grace();
      return start_checker();
    }
    if (exit_code == 0) {
      checked_ok();
    } else {
      checker_status(exit_code);
    }
    out_.emplace_back(CheckerCompleted{exit_code, event.wait_status, done.command});
  }

  void operator()(const CheckerLost& event) {
    if (!c_.checker || c_.checker->id != event.checker) return;
    if (c_.checker_running()) touch(Property::kCheckerRunning);
    c_.checker.reset();
    grace();
  }

  void operator()(const Missed& event) {
    // A second more, for what was said to us meanwhile.
    for (auto& waiting : c_.waiting) waiting.deadline += event.late + std::chrono::seconds(1);
    if (c_.checker) c_.checker->stopped = true;
    if (!c_.next_check) return;
    *c_.next_check += event.late;  // all clients alike, so that they stay spread out
    allow_a_check();
  }

  void operator()(const Unsaved& event) {
    if (c_.expires == event.given) expire_at(event.before);
  }

  void operator()(const Requested& event) {
    const auto decide = [&](Verdict verdict) {
      out_.emplace_back(Decided{event.connection, verdict});
    };
    if (!c_.enabled()) return decide(Verdict::kDisabled);
    if (c_.decision) return decide(c_.decision->approved ? Verdict::kApproved : Verdict::kDenied);
    if (c_.settings->approval_delay <= Milliseconds(0)) return decide(Verdict::kNoApprovalNeeded);
    stamp(c_.last_approval_request, Property::kLastApprovalRequest);
    if (c_.waiting.empty()) touch(Property::kApprovalPending);
    if (c_.waiting.size() >= kMostWaiting) {
      out_.emplace_back(Decided{c_.waiting.front().connection, Verdict::kApprovalTimedOut});
      c_.waiting.erase(c_.waiting.begin());
    }
    c_.waiting.push_back({event.connection, from_now(c_.settings->approval_delay)});
    out_.emplace_back(NeedApproval{c_.settings->approval_delay, c_.settings->approved_by_default});
  }

  void operator()(const HungUp& event) {
    forget_waiting([&](const auto& waiting) { return waiting.connection == event.connection; });
  }

  void operator()(const Delivered&) {
    if (c_.enabled()) expire_at(from_now(c_.settings->extended_timeout));
    out_.emplace_back(GotSecret{});
  }

  void operator()(const Approve& event) {
    // One that holds for no time still answers those who wait now.
    c_.decision = {event.approved, from_now(c_.settings->approval_duration)};
    save_ = true;
    decide_waiting(event.approved ? Verdict::kApproved : Verdict::kDenied);
  }

  void operator()(const CheckedOk&) { checked_ok(); }

  void operator()(const Set& set) {
    if (!writable(set)) return;
    if (set.property == Property::kCheckerRunning) {
      return std::get<bool>(set.value) ? start_checker() : stop_checker();
    }
    if (set.property == Property::kLastCheckedOk) return checked_ok();
    if (set.property == Property::kEnabled) {
      return std::get<bool>(set.value) ? enable(1.0) : disable();
    }
    auto settings = std::make_shared<ClientSettings>(*c_.settings);
#define SETTING(type, name, which, ...) \
  if (set.property == Property::k##which) replace(settings->name, std::get<type>(set.value));
    MANDOS_CLIENT_SETTINGS(MANDOS_NO_ROW, SETTING, SETTING, MANDOS_NO_ROW)
#undef SETTING
    adopt(std::move(settings));
    if (set.property == Property::kInterval && c_.enabled()) {
      c_.next_check = now_.boot + step();
      start_checker();
    }
  }

  void operator()(const Reloaded& event) {
    const Milliseconds old_step = step();
    adopt(event.settings);
    if (changed_.test(static_cast<std::size_t>(Property::kKeyId))) {
      decide_waiting(Verdict::kKeyChanged);
      if (c_.decision && c_.decision->approved) c_.decision.reset();
    }
    if (c_.next_check && step() != old_step) {
      // The same part of the interval is still to go: many clients changed at once stay spread out.
      const double rest = std::chrono::duration<double>(*c_.next_check - now_.boot) / old_step;
      c_.next_check = part_of_interval(rest);
    }
    // Against what the caller saw: settle() may have disabled the client since.
    if (event.enabled && !was_enabled_) enable(event.fraction);
    if (!event.enabled) disable();
  }

  void operator()(const Removed&) {
    disable();
    stop_checker();
    c_.decision.reset();
    c_.removed = true;
  }

  void finish() {
    if (changed_.any()) out_.emplace_back(Changed{changed_});
    if (save_) out_.emplace_back(Save{});
  }

 private:
  Instant from_now(Milliseconds duration) const { return now_.boot + bounded(duration); }
  /// The interval, but never nothing, lest checks be due without end.
  Milliseconds step() const { return std::max(bounded(c_.settings->interval), Milliseconds(1)); }
  Instant part_of_interval(double fraction) const {
    const double part = static_cast<double>(step().count()) * std::clamp(fraction, 0.0, 1.0);
    return now_.boot + Milliseconds(static_cast<Milliseconds::rep>(part));
  }

  void touch(Property property) { changed_.set(static_cast<std::size_t>(property)); }
  void stamp(std::optional<WallTime>& field, Property property) {
    field = now_.wall;
    touch(property);
    save_ = true;
  }
  void checker_status(std::int16_t status) {
    if (c_.last_checker_status != status) touch(Property::kLastCheckerStatus);
    c_.last_checker_status = status;
    c_.unjudged = false;
    if (status != 0) return count_failure();
    c_.failed_checks = 0;
    save_ = true;
  }
  void count_failure() {
    ++c_.failed_checks;
    save_ = true;
  }
  void expire_at(std::optional<Instant> when) {
    c_.expires = when;
    c_.expires_shown =
        when ? std::optional(now_.wall + std::chrono::floor<WallTime::duration>(*when - now_.boot))
             : std::nullopt;
    touch(Property::kExpires);
    save_ = true;
  }

  /// A new cycle: the client has until one interval after its first check.
  void first_check(double fraction) {
    c_.unjudged = true;
    c_.next_check = part_of_interval(fraction);
    expire_at(*c_.next_check + step());
  }
  void enable(double fraction) {
    if (c_.enabled()) return;
    c_.is_enabled = true;
    touch(Property::kEnabled);
    c_.graces = 0;
    c_.failed_checks = 0;
    stamp(c_.last_enabled, Property::kLastEnabled);
    first_check(fraction);
  }
  void grace() {
    const bool failed = !c_.unjudged && (!c_.last_checked_ok || c_.last_checker_status != 0);
    if (!c_.next_check || failed || c_.graces >= kMostGraces) return;
    Instant least = std::max(*c_.next_check, now_.boot) + step();
    if (*c_.expires <= now_.boot) least = std::max(least, from_now(c_.settings->timeout));
    if (*c_.expires >= least) return;
    ++c_.graces;
    expire_at(least);
  }
  /// Without a grace there is time for a check nevertheless, if any is left.
  void allow_a_check() {
    grace();
    if (*c_.expires >= *c_.next_check + step()) return;
    const std::chrono::duration<double> left = *c_.expires - now_.boot;
    const std::chrono::duration<double> wait = *c_.next_check - now_.boot;
    c_.next_check = part_of_interval(wait / step() * (left / (2 * step())));
  }
  void disable() {
    if (!c_.enabled()) return;
    c_.is_enabled = false;
    touch(Property::kEnabled);
    expire_at(std::nullopt);
    c_.next_check.reset();
    stop_checker();
    decide_waiting(Verdict::kDisabled);
  }

  void checked_ok() {
    c_.graces = 0;
    stamp(c_.last_checked_ok, Property::kLastCheckedOk);
    checker_status(0);
    if (c_.enabled()) expire_at(from_now(c_.settings->timeout));
  }

  void start_checker() {
    if (c_.checker) {
      // Never two at once, not even while the old one is dying.
      if (c_.checker->killed && !std::exchange(c_.checker->start_again, true)) {
        touch(Property::kCheckerRunning);
      }
      return;
    }
    Result<std::string> command = expand_checker(c_);
    if (!command) {
      out_.emplace_back(CheckerUnusable{command.error()});
      return count_failure();
    }
    const CheckerId id = CheckerId{c_.number} << 32U | c_.checkers_started++;
    c_.checker = {id, *command};
    out_.emplace_back(StartChecker{id, *std::move(command)});
    touch(Property::kCheckerRunning);
  }
  void stop_checker() {
    if (!c_.checker_running()) return;
    touch(Property::kCheckerRunning);
    c_.checker->start_again = false;
    if (std::exchange(c_.checker->killed, true)) return;
    out_.emplace_back(KillChecker{c_.checker->id});
  }

  template <class Predicate>
  void forget_waiting(Predicate predicate) {
    if (std::erase_if(c_.waiting, predicate) > 0 && c_.waiting.empty()) {
      touch(Property::kApprovalPending);
    }
  }
  void decide_waiting(Verdict verdict) {
    for (const auto& waiting : c_.waiting) out_.emplace_back(Decided{waiting.connection, verdict});
    forget_waiting([](const auto&) { return true; });
  }

  void adopt(SettingsPtr settings) {
    const SettingsPtr old = std::exchange(c_.settings, std::move(settings));
    for_each_setting([&](Property property, auto member) {
      if (property == Property::kEnabled || same_setting((*old).*member, (*c_.settings).*member)) {
        return;
      }
      touch(property);
      save_ = true;
    });
    if (old->timeout == c_.settings->timeout || !c_.expires) return;
    expire_at(*c_.expires + (bounded(c_.settings->timeout) - bounded(old->timeout)));
    if (*c_.expires <= now_.boot) disable();
  }

  Client& c_;
  const Moment& now_;
  std::vector<Effect>& out_;
  const bool was_enabled_;
  Properties changed_;
  bool save_ = false;
};

}  // namespace

void react(Client& client, const Event& event, const Moment& now, std::vector<Effect>& out) {
  Reaction reaction(client, now, out);
  // Who is gone must be forgotten before anything that is due decides it, and what was missed must
  // be made good before anything is judged by it.
  const bool first = std::holds_alternative<HungUp>(event) ||
                     std::holds_alternative<Missed>(event) ||
                     std::holds_alternative<Unsaved>(event);
  if (first) std::visit(reaction, event);
  if (!std::holds_alternative<Started>(event)) reaction.settle();
  if (!first) std::visit(reaction, event);
  reaction.finish();
}

std::optional<Instant> next_deadline(const Client& client) {
  std::optional<Instant> next;
  const auto consider = [&](Instant when) { next = std::min(next.value_or(when), when); };
  if (client.expires) consider(*client.expires);
  if (client.next_check) consider(*client.next_check);
  if (client.decision) consider(client.decision->until);
  for (const Client::Waiting& waiting : client.waiting) consider(waiting.deadline);
  return next;
}

bool writable(const Set& set) {
#define SETTING(type, name, which, ...) \
  if (set.property == Property::k##which) return std::holds_alternative<type>(set.value);
  MANDOS_CLIENT_SETTINGS(MANDOS_NO_ROW, MANDOS_NO_ROW, SETTING, SETTING)
#undef SETTING
  if (set.property == Property::kCheckerRunning) return std::holds_alternative<bool>(set.value);
  if (set.property == Property::kLastCheckedOk) {
    return std::holds_alternative<std::string>(set.value);
  }
  const auto* secret = std::get_if<SecretPtr>(&set.value);
  return set.property == Property::kSecret && secret != nullptr && *secret;
}

std::string_view text(Verdict verdict) {
  static constexpr std::string_view kTexts[] = {
      "No approval needed", "Approved",   "Approved by default", "Disabled", "Denied",
      "Approval timed out", "Key changed"};
  return kTexts[static_cast<std::size_t>(verdict)];
}

bool same_setting(const SecretPtr& one, const SecretPtr& other) {
  if (one == other || !one || !other) return one == other;  // not a byte is read
  return std::ranges::equal(one->bytes(), other->bytes());
}

bool same_settings(const ClientSettings& one, const ClientSettings& other) {
  bool same = true;
  for_each_setting(
      [&](Property, auto member) { same &= same_setting(one.*member, other.*member); });
  return same;
}

}  // namespace mandos::monitor
