// SPDX-License-Identifier: GPL-3.0-or-later
// Between a client and what is kept of it, and between clients.conf and changes made at run time.
// Pure functions.
#pragma once

#include "monitor/client.h"
#include "monitor/state.h"

namespace mandos::monitor {

/// For each setting: what clients.conf says now if that is not what it said then, else what is in
/// force.
ClientSettings merge(const ClientSettings& file_then, const ClientSettings& file_now,
                     const ClientSettings& current);

/// What must be kept of `client`, of which clients.conf says `file`.
Saved to_saved(const Client& client, const ClientSettings& file, const Moment& now);

/// Whether a client that was removed over the bus stays so, by what clients.conf says now: until
/// its own section is edited. A change of DEFAULT or of a secfile brings nobody back.
bool stays_removed(const Saved& saved, const ClientSettings& file_now);

/// The client as it was kept, merged with what clients.conf says now; ready for Started, its number
/// and object path apart. Unless null: `file_changed` is whether clients.conf says something else
/// now, `as_kept` the client before that was merged.
Client from_saved(const Saved& saved, const ClientSettings& file_now, const Moment& now,
                  bool* file_changed = nullptr, Client* as_kept = nullptr);

}  // namespace mandos::monitor
