// SPDX-License-Identifier: GPL-3.0-or-later
// The object "/": the server itself, and the object manager of the clients; and "/clients".
#pragma once

#include <string_view>

#include "bus-agent/mirror.h"
#include "bus-agent/outcome.h"
#include "bus-agent/statistics.h"

namespace mandos::bus_agent {

/// The data from which all reads are answered.
struct Known {
  const Mirror& clients;
  const Statistics& statistics;
  std::string_view service;  // the name that is announced; empty: none
};
/// The outcome of a call of `method` on the object at `path`, including those of clients.
Outcome call(const Known& known, std::string_view path, const Method& method);

void emit_added(const Client& client, const Emit& emit);
void emit_removed(const Client& client, const Emit& emit);
void emit_not_found(const door::bus_agent::ToBusAgent::NotFound& not_found, const Emit& emit);

}  // namespace mandos::bus_agent
