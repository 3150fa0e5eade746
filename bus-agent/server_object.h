// SPDX-License-Identifier: GPL-3.0-or-later
// The object / : the server itself, and the manager of the clients' objects; and /clients between.
#pragma once

#include <string_view>

#include "bus-agent/mirror.h"
#include "bus-agent/outcome.h"
#include "bus-agent/statistics.h"

namespace mandos::bus_agent {

/// All that reads are answered from.
struct Known {
  const Mirror& clients;
  const Statistics& statistics;
  std::string_view service;  // that is announced; empty: none
};
/// What a call of `method` on the object at `path` comes to, a client's object too.
Outcome call(const Known& known, std::string_view path, const Method& method);

void emit_added(const Client& client, const Emit& emit);
void emit_removed(const Client& client, const Emit& emit);
void emit_not_found(const door::bus_agent::ToBusAgent::NotFound& not_found, const Emit& emit);

}  // namespace mandos::bus_agent
