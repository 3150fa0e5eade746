// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/client_loader.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "monitor/fate.h"
#include "monitor/merge.h"

namespace mandos::monitor {

void ClientLoader::start(const LoadedClients& loaded, StateStore::Loaded kept) {
  const Moment now = Moment::now();
  const bool is_first_start = kept.clients.empty() && kept.damaged.empty();
  const auto tell = [this](const std::string& line) { log_.write(LogLevel::kInfo, line); };
  for (const auto& [name, settings] : loaded.clients) {
    Registry::Entry entry;
    if (const auto found = kept.clients.find(name); found != kept.clients.end()) {
      Client before;
      entry.client = from_saved(found->second, settings, now, &entry.unsaved_at_start, &before);
      std::ranges::for_each(fate(before, entry.client, Started{}, kFile), tell);
    } else {
      entry.client.name = name;
      entry.client.created = now.wall;
      entry.client.begin_with(settings);
      if (kept.damaged.erase(state_file_name(name)) > 0) {
        entry.client.is_enabled = false;
        log_.error("client ", escaped(name), ": disabled, since its saved state is damaged (",
                   escaped(state_file_name(name)), ".damaged); enable it if it was enabled before");
        tell(damaged_line(name));
      } else if (!is_first_start) {
        tell(added_line(name, settings.enabled, kFile));
      }
    }
    entry.set_file(std::make_shared<const ClientSettings>(settings));
    kept.clients.erase(name);
    registry_.add(std::move(entry));
  }
  // The state of a client whose section is missing is for the monitor that finds it again: its file
  // may be on a file system that is not mounted yet.
  if (!loaded.problems.empty()) errors_ = "; others have errors in clients.conf, see the log";
  for (const auto& [name, client] : kept.clients) absent_.insert(name);
  damaged_ = std::move(kept.damaged);
  if (!absent_.empty()) {
    log_.warning("the saved state of ", absent_.size(),
                 " clients that have no section, or one with an error, is kept until a reload: ",
                 escaped(*absent_.begin()), absent_.size() > 1 ? ", ..." : "");
  }
}

bool ClientLoader::needs_fresh_monitor(const LoadedClients& loaded) const {
  // What we may not open a fresh monitor may, whose jail is made for where the files are now. And
  // the state of clients that were missing at the start is for that to load, or to find damaged.
  return !loaded.problems.empty() || std::ranges::any_of(loaded.clients, [&](const auto& client) {
    return absent_.contains(client.first) || damaged_.contains(state_file_name(client.first));
  });
}

void ClientLoader::reload(const LoadedClients& loaded) {
  errors_.clear();
  registry_.reload(loaded.clients, merge);
  forget_absent();
}

void ClientLoader::forget_absent() {
  for (const auto& name : std::exchange(absent_, {})) {
    log_.write(LogLevel::kInfo, fate_line("removed", name, kFile));
    registry_.saver().changed(name);
  }
}

}  // namespace mandos::monitor
