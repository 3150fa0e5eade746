// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <memory>
#include <utility>

#include "monitor/client.h"

namespace mandos::monitor::test {

/// Gives a client settings of its own, to be changed before it is used. The next call gives it
/// others.
inline ClientSettings& own(Client& client) {
  auto copy = std::make_shared<ClientSettings>(*client.settings);
  ClientSettings& settings = *copy;
  client.settings = std::move(copy);
  return settings;
}

/// The settings in force, with `enabled` as it is now.
inline ClientSettings in_force(const Client& client) {
  ClientSettings settings = *client.settings;
  settings.enabled = client.enabled();
  return settings;
}

inline Reloaded reloaded(const ClientSettings& settings, double fraction) {
  return {std::make_shared<const ClientSettings>(settings), settings.enabled, fraction};
}

}  // namespace mandos::monitor::test
