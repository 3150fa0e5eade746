// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/registry.h"

#include <utility>

#include "monitor/merge.h"

namespace mandos::monitor {

void Registry::Entry::set_file(const ClientSettings& settings) {
  const bool apart = !same_settings(settings, client.settings);
  file_apart = apart ? std::make_unique<ClientSettings>(settings) : nullptr;
}

Registry::Registry(EventLoop& loop, Log& log, Disk& disk, Outlets outlets)
    : loop_(loop),
      log_(log),
      outlets_(std::move(outlets)),
      saver_(loop, log, disk, [this](const std::string& name) { return snapshot(name); }) {}

void Registry::add(Entry entry) {
  auto slot = std::make_unique<Slot>();
  static_cast<Entry&>(*slot) = std::move(entry);
  slot->client.number = next_number_++;
  slot->client.object_path = outlets_.object_path(slot->client.name);
  by_number_[slot->client.number] = slot.get();
  index(*slot);
  by_name_[slot->client.name] = std::move(slot);
}

void Registry::index(Slot& slot) {
  if (const auto& id = slot.client.settings.key_id; id && *id != kKeyIdOfNothing) {
    by_key_[*id] = &slot;
  }
}

void Registry::start() {
  for (const auto& [name, slot] : by_name_) {
    if (slot->unsaved_at_start) saver_.changed(slot->client.name);
    deliver(*slot, Started{fraction()});
  }
}

void Registry::reload(const std::map<std::string, ClientSettings>& file, const Merge& merge) {
  std::vector<Slot*> gone;
  for (const auto& [name, slot] : by_name_)
    if (!file.contains(name)) gone.push_back(slot.get());
  for (Slot* slot : gone) take_away(*slot);
  by_key_.clear();
  for (const auto& [name, settings] : file) {
    if (const auto found = by_name_.find(name); found != by_name_.end()) {
      Slot& slot = *found->second;
      deliver(slot, Reloaded{merge(slot.file(), settings, slot.client.settings), fraction()});
      if (!same_settings(slot.file(), settings)) {  // else an equal secret would be held twice
        saver_.changed(slot.client.name);
        slot.set_file(settings);
      }
      index(slot);
    } else {
      Entry entry;
      entry.client.name = name;
      entry.client.created = Moment::now().wall;
      entry.client.settings = settings;
      add(std::move(entry));
      Slot& slot = *by_name_.at(name);
      deliver(slot, Started{fraction()});
      saver_.changed(slot.client.name);
      outlets_.added(slot.client);
    }
  }
}

std::optional<Saved> Registry::snapshot(const std::string& name) const {
  const Entry* entry = find(name);
  if (entry == nullptr) return std::nullopt;
  return to_saved(entry->client, entry->file(), Moment::now());
}

void Registry::request(ConnectionId connection, const KeyId& key_id, const std::string& address) {
  Slot& slot = *by_key_.at(key_id);
  connections_[connection] = {slot.client.number, address};
  deliver(slot, Requested{connection});
}

void Registry::hung_up(ConnectionId connection) {
  const auto found = connections_.find(connection);
  if (found == connections_.end()) return;
  Slot* slot = of_number(found->second.client);
  connections_.erase(found);
  if (slot != nullptr) deliver(*slot, HungUp{connection});
}

void Registry::delivered(ConnectionId connection) {
  const auto found = connections_.find(connection);
  if (found == connections_.end()) return;
  Slot* slot = of_number(found->second.client);
  connections_.erase(found);
  if (slot != nullptr) deliver(*slot, Delivered{});
}

void Registry::not_found(const KeyId& key_id, const std::string& address) {
  if (may_log()) audit(false, nullptr, key_id.text(), address, "Unknown key");
  outlets_.not_found(key_id, address);
}

void Registry::proof_refused(const std::string& address, const char* reason) {
  if (may_log()) audit(false, nullptr, "none", address, concat("No proof: ", reason));
}

void Registry::checker_finished(CheckerId checker, int wait_status) {
  if (Slot* slot = of_number(static_cast<std::uint32_t>(checker >> 32)); slot != nullptr) {
    deliver(*slot, CheckerFinished{checker, wait_status});
  }
}

const Registry::Entry* Registry::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second.get();
}

void Registry::change(const std::string& name, const Event& event, Done done) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return done(Error{"no such client"});
  deliver(*found->second, event);
  // What failed before and is asked for again changes nothing, but is as little on disk.
  saver_.confirm(name, std::move(done));
}

void Registry::remove(const std::string& name, Done done) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return done(Error{"no such client"});
  take_away(*found->second);
  saver_.confirm(name, std::move(done));
}

void Registry::take_away(Slot& slot) {
  deliver(slot, Removed{});
  outlets_.removed(slot.client);
  if (slot.timer) loop_.cancel(*slot.timer);
  saver_.changed(slot.client.name);
  if (const auto& id = slot.client.settings.key_id; id) {
    if (const auto key = by_key_.find(*id); key != by_key_.end() && key->second == &slot) {
      by_key_.erase(key);
    }
  }
  by_number_.erase(slot.client.number);
  by_name_.erase(slot.client.name);
}

Registry::Slot* Registry::of_number(std::uint32_t number) const {
  const auto found = by_number_.find(number);
  return found == by_number_.end() ? nullptr : found->second;
}

void Registry::deliver(Slot& slot, const Event& event) {
  std::vector<Effect> effects;
  const ClientSettings file = slot.file();
  react(slot.client, event, Moment::now(), effects);
  slot.set_file(file);
  for (const auto& effect : effects) carry_out(slot, effect);
  outlets_.effects(slot.client, effects);
  schedule(slot);
}

void Registry::carry_out(Slot& slot, const Effect& effect) {
  if (const auto* decided = std::get_if<Decided>(&effect)) {
    const bool granted_now = granted(decided->verdict);
    const auto& connection = connections_.at(decided->connection);
    audit(granted_now, &slot.client, slot.client.settings.key_id->text(), connection.address,
          text(decided->verdict));
    if (granted_now) {
      outlets_.grant(decided->connection, slot.client.settings.secret);
    } else {
      connections_.erase(decided->connection);
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

void Registry::schedule(Slot& slot) {
  const auto next = next_deadline(slot.client);
  if (slot.timer && next && slot.timer->first == *next) return;
  if (slot.timer) loop_.cancel(*slot.timer);
  slot.timer.reset();
  if (!next) return;
  slot.timer = loop_.at(*next, [this, &slot] {
    slot.timer.reset();
    deliver(slot, Due{});
  });
}

bool Registry::may_log() {
  if (!stranger_lines_.take(BootClock::now())) {
    ++suppressed_lines_;
    return false;
  }
  if (suppressed_lines_ > 0) {
    log_.write(LogLevel::kInfo, concat("audit: ", suppressed_lines_, " lines were suppressed"));
  }
  suppressed_lines_ = 0;
  return true;
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
