// SPDX-License-Identifier: GPL-3.0-or-later
// All clients: finds them, passes them events, keeps their timers, and carries out the effects that
// the state machine returns. Reaches the doors through Outlets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "common/token_bucket.h"
#include "monitor/client.h"
#include "monitor/fate.h"
#include "monitor/merge.h"
#include "monitor/saver.h"

namespace mandos::monitor {

/// A connection that proved a key. The door that it came through owns it. All others know only its
/// number, and look it up with Registry::Outlets::waiting, so that no one uses one that is gone.
struct Proven {
  KeyId key;
  std::string address;
  std::uint32_t client = 0;  // Client::number
};

class Registry {
 public:
  /// A client, and what clients.conf says of it now.
  struct Entry {
    Client client;
    SettingsPtr file;  // null until it is added: as in force. Equal ones are one object.
    bool unsaved_at_start = true;
    void set_file(SettingsPtr settings);
  };
  struct Outlets {
    std::function<void(CheckerId, const std::string& command)> start_checker;
    std::function<void(CheckerId)> kill_checker;
    /// The connection while it waits for a decision; null once it is decided or gone.
    std::function<const Proven*(ConnectionId)> waiting;
    std::function<void(ConnectionId, SecretPtr)> grant;
    std::function<void(ConnectionId)> refuse;
    // For the bus.
    /// The path of a client's object. Called before the client gets its first event.
    std::function<std::string(const std::string& name)> object_path = [](const auto&) {
      return std::string();
    };
    /// All effects of one event, after they were carried out.
    std::function<void(const Client&, std::span<const Effect>)> effects = [](const auto&, auto) {};
    std::function<void(const Client&)> added = [](const auto&) {};
    std::function<void(const Client&)> removed = [](const auto&) {};
    std::function<void(const KeyId&, const std::string& address)> not_found = [](const auto&,
                                                                                 const auto&) {};
  };
  Registry(EventLoop& loop, Log& log, Disk& disk, Outlets outlets);

  /// Adds a client, before start(). If it was saved on disk, its `expires` must be set.
  void add(Entry entry);
  /// Starts every client's life.
  void start();
  /// clients.conf was read again. `merge` is the function of merge.h.
  using Merge = std::function<Reloaded(const ClientSettings& file_then,
                                       const ClientSettings& file_now, const Client& current)>;
  void reload(const std::map<std::string, ClientSettings>& file, const Merge& merge);
  /// The clients that such a reload would disable: one line each, for the first ones.
  std::vector<std::string> disabled_by(const std::map<std::string, ClientSettings>& file,
                                       const Merge& merge) const;
  /// Brings the clients' state to disk.
  Saver& saver() { return saver_; }

  // From the networkers.
  bool known(const KeyId& key_id) const { return by_key_.contains(key_id); }
  /// A connection proved the key of a client. grant() or refuse() follows, perhaps much later,
  /// unless hung_up() comes first.
  void request(ConnectionId connection, Proven& proven);
  void hung_up(ConnectionId connection, const Proven& proven) {
    if (Slot* slot = of_number(proven.client)) deliver(*slot, HungUp{connection}, proven.address);
  }
  /// Whether a granted connection may get the next part of `secret`. It may not once its client is
  /// disabled or removed, or has another key or another secret. So nobody gets the rest of a
  /// replaced secret.
  bool may_go_on(const Proven& proven, const SecretPtr& secret);
  void delivered(const Proven& proven) {
    if (Slot* slot = holder(proven)) deliver(*slot, Delivered{});
  }
  void not_found(const KeyId& key_id, const std::string& address) {
    if (!may_tell(stranger_lines_)) return;
    audit(false, nullptr, key_id.text(), address, "Unknown key");
    outlets_.not_found(key_id, address);
  }
  void proof_refused(const std::string& address, const char* reason) {
    if (!may_tell(stranger_lines_)) return;
    audit(false, nullptr, "none", address, concat("No proof: ", reason));
  }

  /// The time without that in which this process did not run, for limits on peers.
  Instant time_served() const { return BootClock::now() - missed_; }

  // From the checker-runner.
  void checker_finished(CheckerId checker, int wait_status) {
    if (Slot* slot = owner(checker)) deliver(*slot, CheckerFinished{checker, wait_status});
  }
  void checker_lost(CheckerId checker) {
    if (Slot* slot = owner(checker)) deliver(*slot, CheckerLost{checker});
  }

  // From the bus. The Status tells whether the change is on disk; it is in force in either case.
  using Done = Saver::Done;
  const Entry* find(const std::string& name) const { return of_name(name); }
  /// Calls `done`, perhaps at once, when the change is on disk or could not be saved. `by` is who
  /// asked, for the log.
  void change(const std::string& name, const Event& event, Done done,
              std::string_view by = "the bus");
  /// Removes the client until its section changes, also over restarts. `done` as above.
  void remove(const std::string& name, Done done, std::string_view by = "the bus");
  /// For the status, such as "47 enabled, 2 disabled, 1 waiting; 3 checks failing". Must be called
  /// often, because it also logs when every check of every client fails, and when that ends.
  std::string summary();
  std::size_t size() const { return by_name_.size(); }
  template <class Visitor>
  void for_each(Visitor&& visit) const {
    for (const auto& [name, slot] : by_name_) visit(slot->client);
  }

 private:
  struct Lines {
    TokenBucket rate;
    unsigned long suppressed = 0;
  };
  struct Slot : Entry {
    std::optional<EventLoop::TimerId> timer;
    Lines refusals{{1, 20}};  // that are logged and signaled
  };

  void missed(Milliseconds late);
  void deliver(Slot& slot, const Event& event, std::string_view by = kTimeout);
  void carry_out(Slot& slot, Effect& effect);
  std::optional<Saved> snapshot(const std::string& name) const;
  void schedule(Slot& slot);
  void index(Slot& slot) {
    const auto& id = slot.client.settings->key_id;
    if (id && *id != kKeyIdOfNothing) by_key_[*id] = &slot;
  }
  void keep_removal(const Entry& entry);
  void drop(Slot& slot, std::string_view by);
  Slot* of_name(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second.get();
  }
  Slot* of_number(std::uint32_t number) const {
    return number < by_number_.size() ? by_number_[number] : nullptr;
  }
  Slot* owner(CheckerId checker) const {
    return of_number(static_cast<std::uint32_t>(checker >> 32));
  }
  /// The client whose key the connection proved, if it still has that key.
  Slot* holder(const Proven& proven) const {
    Slot* slot = of_number(proven.client);
    return slot != nullptr && slot->client.settings->key_id == proven.key ? slot : nullptr;
  }
  void audit(bool granted, const Client* client, const std::string& key_id,
             const std::string& address, std::string_view reason);
  /// Whether a refusal may be logged and signaled. If not, it is counted for report_suppressed().
  bool may_tell(Lines& lines);
  void report_suppressed();
  double fraction() { return std::uniform_real_distribution<>(0, 1)(random_); }

  EventLoop& loop_;
  Log& log_;
  Outlets outlets_;
  std::map<std::string, std::unique_ptr<Slot>> by_name_;
  std::map<std::string, Saved> removed_;  // over the bus, while clients.conf still has them
  std::unordered_map<KeyId, Slot*, KeyIdHash> by_key_;
  // No number is used twice, so a late request for a client that is gone finds none. 0 is no
  // client's number.
  std::vector<Slot*> by_number_{nullptr};
  std::mt19937_64 random_{std::random_device{}()};  // only spreads checkers over time
  Lines stranger_lines_{{10, 100}};
  bool report_is_due_ = false;
  bool all_fail_ = false;
  Milliseconds missed_{0};  // in all
  Saver saver_;
};

}  // namespace mandos::monitor
