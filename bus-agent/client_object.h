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

/// What a call of `method` on the client's object comes to. Nothing is changed here.
Outcome call_client(const Client& client, const Method& method);

/// All that can be read, as "a{sv}", floating.
GVariant* readable_properties(const Client& client);
/// The interfaces of a client's object with their properties, as "a{sa{sv}}", floating.
GVariant* interfaces_and_properties(const Client& client);
/// The interfaces alone, as "as", floating.
GVariant* interface_names();

/// Tells that the properties that are present in `change` have changed; `client` is how it is now.
void emit_changed(const Client& client, const Client& change, const Emit& emit);
void emit_signal(const Client& client, const door::bus_agent::ToBusAgent::Signal& signal,
                 const Emit& emit);

/// Text for the bus, which carries nothing but UTF-8; floating.
GVariant* text_variant(const std::string& bytes);
/// YYYY-MM-DDTHH:MM:SS.ffffff in UTC, or, of 0, nothing; floating.
GVariant* time_variant(std::int64_t microseconds);

}  // namespace mandos::bus_agent
