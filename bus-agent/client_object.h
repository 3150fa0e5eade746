// SPDX-License-Identifier: GPL-3.0-or-later
// The objects /clients/NAME: methods, properties and signals of one client, under both interface
// names.
#pragma once

#include <cstdint>
#include <string>

#include "bus-agent/mirror.h"
#include "bus-agent/outcome.h"

namespace mandos::bus_agent {

inline constexpr char kSecretInterface[] = "se.recompile.Mandos.Client.Secret";

/// The outcome of a call of `method` on the client's object. Changes nothing here.
Outcome call_client(const Client& client, const Method& method);

/// All readable properties, as "a{sv}", floating.
GVariant* readable_properties(const Client& client);
/// The interfaces of a client's object with their properties, as "a{sa{sv}}", floating.
GVariant* interfaces_and_properties(const Client& client);
/// The interfaces only, as "as", floating.
GVariant* interface_names();

/// Signals the properties that are present in `change`; `client` is the present state.
void emit_changed(const Client& client, const Client& change, const Emit& emit);
void emit_signal(const Client& client, const door::bus_agent::ToBusAgent::Signal& signal,
                 const Emit& emit);

/// A string for the bus, which accepts only UTF-8; floating.
GVariant* text_variant(const std::string& bytes);
/// YYYY-MM-DDTHH:MM:SS.ffffff in UTC; for 0, an empty string; floating.
GVariant* time_variant(std::int64_t microseconds);

}  // namespace mandos::bus_agent
