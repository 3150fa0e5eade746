// SPDX-License-Identifier: GPL-3.0-or-later
// Converts between a client and its saved state, and merges clients.conf with changes made at run
// time. Pure functions.
#pragma once

#include "monitor/client.h"
#include "monitor/state.h"

namespace mandos::monitor {

/// For each setting, and for whether the client is enabled: what clients.conf says if that has
/// changed since `file_then`, else what is in force.
Reloaded merge(const ClientSettings& file_then, const ClientSettings& file_now,
               const Client& current);
/// Whether `merged` differs from what is in force.
bool changes(const Reloaded& merged, const Client& current);

/// The state to save for `client`, whose settings in clients.conf are `file`.
Saved to_saved(const Client& client, const ClientSettings& file, const Moment& now);

/// Whether a client that was removed over the bus stays removed. It does until its own section in
/// clients.conf is edited; a change of DEFAULT or of a secfile does not bring it back.
bool stays_removed(const Saved& saved, const ClientSettings& file_now);

/// The saved client, merged with what clients.conf says now, and ready for Started, except for its
/// number and object path. Unless null, `file_changed` tells whether clients.conf has changed since
/// the state was saved, and `as_kept` is the client before the merge.
Client from_saved(const Saved& saved, const ClientSettings& file_now, const Moment& now,
                  bool* file_changed = nullptr, Client* as_kept = nullptr);

}  // namespace mandos::monitor
