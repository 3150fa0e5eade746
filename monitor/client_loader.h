// SPDX-License-Identifier: GPL-3.0-or-later
// Brings the clients of clients.conf, and what is saved of them, into the registry.
#pragma once

#include <set>
#include <string>

#include "common/log.h"
#include "monitor/clients_conf.h"
#include "monitor/registry.h"
#include "monitor/state.h"

namespace mandos::monitor {

class ClientLoader {
 public:
  /// References must outlive this.
  ClientLoader(Log& log, Registry& registry) : log_(log), registry_(registry) {}

  /// Adds all clients, before Registry::start().
  void start(const LoadedClients& loaded, StateStore::Loaded kept);
  /// Whether such a reload must be left to a fresh monitor: for what we may not open, or for state
  /// that this one has not loaded.
  bool needs_fresh_monitor(const LoadedClients& loaded) const;
  /// Changes the registry's clients to those of `loaded`, which has no problems.
  void reload(const LoadedClients& loaded);
  /// Gives up the state of clients that clients.conf does not have.
  void forget_absent();
  /// For the status: that clients are missing because their files had errors at the start; empty:
  /// they had none.
  const std::string& errors() const { return errors_; }

 private:
  Log& log_;
  Registry& registry_;
  std::string errors_;
  std::set<std::string> absent_;                   // clients without a section whose state is kept
  decltype(StateStore::Loaded::damaged) damaged_;  // the state files of others without a section
};

}  // namespace mandos::monitor
