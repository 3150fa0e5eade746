// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/registry.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "monitor/checker_command.h"

namespace mandos::monitor {
namespace {

// How long refusals that were not logged are counted before their number is.
constexpr Milliseconds kReport = std::chrono::seconds(10);

}  // namespace

void Registry::Entry::set_file(SettingsPtr settings) {
  file = same_settings(*settings, *client.settings) ? client.settings : std::move(settings);
}

Registry::Registry(EventLoop& loop, Log& log, Disk& disk, Outlets outlets)
    : loop_(loop),
      log_(log),
      outlets_(std::move(outlets)),
      saver_(loop, log, disk, [this](const std::string& name) { return snapshot(name); }) {
  loop_.on_gap([this](Milliseconds late) { missed(late); });
}

void Registry::missed(Milliseconds late) {
  log_.warning("did not run for ", late.count() / 1000,
               " s: deadlines are moved, and clients are checked before they expire");
  missed_ += late;
  for (const auto& [name, slot] : by_name_) deliver(*slot, Missed{late});
}

void Registry::add(Entry entry) {
  if (!entry.file) entry.file = entry.client.settings;
  if (entry.client.removed) {
    saver_.changed(entry.client.name);
    return keep_removal(entry);
  }
  auto slot = std::make_unique<Slot>();
  static_cast<Entry&>(*slot) = std::move(entry);
  slot->client.number = static_cast<std::uint32_t>(by_number_.size());
  slot->client.object_path = outlets_.object_path(slot->client.name);
  by_number_.push_back(slot.get());
  index(*slot);
  by_name_[slot->client.name] = std::move(slot);
}

void Registry::start() {
  for (const auto& [name, slot] : by_name_) {
    if (slot->unsaved_at_start) saver_.changed(name);
    deliver(*slot, Started{fraction()});
  }
}

void Registry::reload(const std::map<std::string, ClientSettings>& file, const Merge& merge) {
  // Filled again below, all at once: keys may have moved from one client to another.
  by_key_.clear();
  for (auto slot = by_name_.begin(); slot != by_name_.end();) {
    const auto each = slot++;
    if (!file.contains(each->first)) drop(*each->second, kFile);
  }
  std::erase_if(removed_, [&](const auto& removal) {
    if (file.contains(removal.first)) return false;
    saver_.changed(removal.first);
    return true;
  });
  for (const auto& [name, settings] : file) {
    if (const auto removal = removed_.find(name); removal != removed_.end()) {
      if (stays_removed(removal->second, settings)) continue;
      removed_.erase(removal);
    }
    Slot* slot = of_name(name);
    if (slot != nullptr) {
      Reloaded merged = merge(*slot->file, settings, slot->client);
      if (!same_settings(*slot->file, settings)) {  // else an equal secret would be held twice
        saver_.changed(name);
        slot->file = std::make_shared<const ClientSettings>(settings);
      }
      merged.fraction = fraction();
      if (changes(merged, slot->client)) deliver(*slot, merged, kFile);
      slot->client.settings = merged.settings;  // also an equal one, for its section
      slot->set_file(slot->file);
    } else {
      Entry entry;
      entry.client.name = name;
      entry.client.created = Moment::now().wall;
      entry.client.begin_with(settings);
      add(std::move(entry));
      slot = of_name(name);
      log_.write(LogLevel::kInfo, added_line(name, settings.enabled, kFile));
      deliver(*slot, Started{fraction()});
      saver_.changed(name);
      outlets_.added(slot->client);
    }
  }
  for (const auto& [name, slot] : by_name_) index(*slot);
}

std::vector<std::string> Registry::disabled_by(const std::map<std::string, ClientSettings>& file,
                                               const Merge& merge) const {
  std::vector<std::string> lines;
  std::vector<Effect> effects;  // that nobody carries out
  for (const auto& [name, settings] : file) {
    const Slot* const slot = of_name(name);
    if (slot == nullptr || !slot->client.enabled()) continue;
    Client after = slot->client;
    const auto merged = merge(*slot->file, settings, after);
    if (!changes(merged, after)) continue;
    react(after, merged, Moment::now(), effects);
    if (after.enabled()) continue;
    lines.push_back(concat("client ", escaped(name), ": disabled at once by this reload: ",
                           merged.enabled ? concat("timeout ", attribute(after, "timeout"),
                                                   ", last answer ", last_answer(after))
                                          : "enabled = no"));
  }
  return lines;
}

std::optional<Saved> Registry::snapshot(const std::string& name) const {
  const Slot* slot = of_name(name);
  if (slot != nullptr) return to_saved(slot->client, *slot->file, Moment::now());
  const auto removal = removed_.find(name);
  return removal == removed_.end() ? std::optional<Saved>() : removal->second;
}

void Registry::request(ConnectionId connection, Proven& proven) {
  const auto found = by_key_.find(proven.key);
  if (found == by_key_.end()) return outlets_.refuse(connection);
  proven.client = found->second->client.number;
  deliver(*found->second, Requested{connection}, proven.address);
}

bool Registry::may_go_on(const Proven& proven, const SecretPtr& secret) {
  Slot* slot = holder(proven);
  if (slot != nullptr) deliver(*slot, Due{});
  // A change to an equal secret keeps the object.
  if (slot != nullptr && slot->client.enabled() && slot->client.settings->secret == secret) {
    return true;
  }
  if (may_tell(slot != nullptr ? slot->refusals : stranger_lines_)) {
    audit(false, slot != nullptr ? &slot->client : nullptr, proven.key.text(), proven.address,
          "Revoked while it was sent");
  }
  return false;
}

void Registry::change(const std::string& name, const Event& event, Done done, std::string_view by) {
  Slot* slot = of_name(name);
  if (slot == nullptr) return done(Error{"no such client"});
  deliver(*slot, event, by);
  // What failed before and is asked for again changes nothing, but is as little on disk.
  saver_.confirm(name, std::move(done));
}

void Registry::remove(const std::string& name, Done done, std::string_view by) {
  Slot* slot = of_name(name);
  if (slot == nullptr) return done(Error{"no such client"});
  deliver(*slot, Removed{}, by);
  keep_removal(*slot);
  drop(*slot, by);
  saver_.confirm(name, std::move(done));
}

// Without its secret, of which a hash is enough to see whether the section is the same.
void Registry::keep_removal(const Entry& entry) {
  Saved& kept = removed_[entry.client.name];
  kept = to_saved(entry.client, *entry.file, Moment::now());
  kept.client.set_own_secret(false);
  kept.secret.reset();
}

void Registry::drop(Slot& slot, std::string_view by) {
  if (!slot.client.removed) deliver(slot, Removed{}, by);
  outlets_.removed(slot.client);
  stranger_lines_.suppressed += slot.refusals.suppressed;
  saver_.changed(slot.client.name);
  std::erase_if(by_key_, [&slot](const auto& key) { return key.second == &slot; });
  by_number_[slot.client.number] = nullptr;
  by_name_.erase(by_name_.find(slot.client.name));
}

void Registry::deliver(Slot& slot, const Event& event, std::string_view by) {
  std::vector<Effect> effects;
  const Client before = slot.client;
  react(slot.client, event, Moment::now(), effects);
  if (slot.client.settings != before.settings) slot.set_file(slot.file);
  // Before what follows from it. A peer can begin to wait, and hang up, again and again.
  const bool of_a_peer =
      std::holds_alternative<Requested>(event) || std::holds_alternative<HungUp>(event);
  for (const auto& line : fate(before, slot.client, event, by)) {
    if (!of_a_peer || may_tell(slot.refusals)) {
      log_.write(LogLevel::kInfo, line);
    }
  }
  for (auto& effect : effects) carry_out(slot, effect);
  outlets_.effects(slot.client, effects);
  schedule(slot);
  // At once, or the next monitor would take it for a client that nobody could check.
  if (before.enabled() && !slot.client.enabled() && !slot.client.removed) {
    saver_.confirm(slot.client.name, [](const Status&) {});
  }
  if (slot.client.graces > before.graces) {
    // At once, or a monitor that crashes sooner would not know of it. Within this life, the count
    // holds without the disk too.
    saver_.confirm(
        slot.client.name,
        [this, name = slot.client.name, taken_back = std::holds_alternative<Started>(event),
         unsaved = Unsaved{slot.client.expires, before.expires}](auto& saved) {
          Slot* const same = of_name(name);
          if (!saved && taken_back && same != nullptr) deliver(*same, unsaved);
        });
  }
}

void Registry::carry_out(Slot& slot, Effect& effect) {
  if (auto* decided = std::get_if<Decided>(&effect)) {
    const Proven* const connection = outlets_.waiting(decided->connection);
    if (connection == nullptr) {
      decided->shown = false;
      return;
    }
    // The event that this was due at may have changed what it was decided by.
    if (const Client& now = slot.client; granted(decided->verdict)) {
      if (now.decision && !now.decision->approved) decided->verdict = Verdict::kDenied;
      if (now.settings->key_id != connection->key) decided->verdict = Verdict::kKeyChanged;
      if (!now.enabled()) decided->verdict = Verdict::kDisabled;
    }
    const bool granted_now = granted(decided->verdict);
    decided->shown = granted_now || may_tell(slot.refusals);
    if (decided->shown) {
      audit(granted_now, &slot.client, connection->key.text(), connection->address,
            text(decided->verdict));
    }
    if (granted_now) {
      outlets_.grant(decided->connection, slot.client.settings->secret);
    } else {
      outlets_.refuse(decided->connection);
    }
  } else if (const auto* start_checker = std::get_if<StartChecker>(&effect)) {
    outlets_.start_checker(start_checker->checker, start_checker->command);
  } else if (const auto* kill_checker = std::get_if<KillChecker>(&effect)) {
    outlets_.kill_checker(kill_checker->checker);
  } else if (const auto* unusable = std::get_if<CheckerUnusable>(&effect)) {
    log_.error("client ", escaped(slot.client.name), ": checker: ", unusable->why);
  } else if (std::holds_alternative<Save>(effect)) {
    saver_.changed(slot.client.name);
  }
}

std::string Registry::summary() {
  const auto count = [this](auto of) {
    return std::ranges::count_if(
        by_name_, of, [](const auto& entry) -> const Client& { return entry.second->client; });
  };
  const auto failing = count([](const Client& c) { return c.enabled() && c.failed_checks > 0; });
  const auto answering = count([](const Client& c) {
    return c.last_checker_status == 0 && !c.failed_checks && c.enabled();
  });
  // One client that does not answer says nothing of us.
  if (all_fail_ ? answering > 0 : failing > 1 && answering == 0) {
    all_fail_ = !all_fail_;
    log_.error(
        all_fail_ ? "every check of every client fails: if the server's own network or its checker "
                    "program is the reason, repair it before the clients' timeouts disable them"
                  : "checks of clients succeed again");
  }
  return concat(count(&Client::enabled), " enabled, ",
                count([](const Client& c) { return !c.enabled(); }), " disabled, ",
                count(&Client::approval_pending), " waiting; ", failing, " checks failing");
}

void Registry::schedule(Slot& slot) {
  const auto next = next_deadline(slot.client);
  if (slot.timer && next && slot.timer->first == *next) return;
  if (slot.timer) loop_.cancel(*slot.timer);
  slot.timer.reset();
  if (!next) return;
  slot.timer = loop_.at(*next, [this, number = slot.client.number] {
    if (Slot* const due = of_number(number)) {
      due->timer.reset();
      deliver(*due, Due{});
    }
  });
}

bool Registry::may_tell(Lines& lines) {
  if (lines.rate.take(BootClock::now())) return true;
  ++lines.suppressed;
  if (!std::exchange(report_is_due_, true)) loop_.after(kReport, [this] { report_suppressed(); });
  return false;
}

void Registry::report_suppressed() {
  report_is_due_ = false;
  const auto report = [this](Lines& lines, const std::string& whose = "") {
    if (const auto count = std::exchange(lines.suppressed, 0)) {
      log_.write(LogLevel::kInfo, concat("audit: ", count, " lines were suppressed", whose));
    }
  };
  report(stranger_lines_);
  for (const auto& [name, slot] : by_name_) {
    if (slot->refusals.suppressed > 0) {
      report(slot->refusals, concat(" of client=\"", escaped(name), "\""));
    }
  }
}

// The words are documented in mandos(8), "LOGGING": scripts match them. Always written, whatever
// the log level.
void Registry::audit(bool granted, const Client* client, const std::string& key_id,
                     const std::string& address, std::string_view reason) {
  log_.write(LogLevel::kInfo,
             concat("audit: verdict=", granted ? "granted" : "refused", " client=\"",
                    client != nullptr ? escaped(client->name) : "", "\" key_id=", key_id,
                    " address=", escaped(address), " reason=\"", reason, "\""));
}

}  // namespace mandos::monitor
