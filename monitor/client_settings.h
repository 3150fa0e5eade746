// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "common/clock.h"
#include "monitor/key_id.h"
#include "monitor/secret.h"

namespace mandos::monitor {

/// What clients.conf says of one client (mandos-clients.conf(5)), defaults included.
struct ClientSettings {
  std::optional<KeyId> key_id;
  /// OpenPGP fingerprint, upper case without spaces. Never matches (RFC 6091 is gone from GnuTLS).
  std::string fingerprint;
  SecretPtr secret;
  std::string host;
  /// Command for the shell, run-time expansions (%(host)s) still in it.
  std::string checker = "fping -q -- %(host)s";
  bool enabled = true;
  Milliseconds timeout = std::chrono::minutes(5);
  Milliseconds extended_timeout = std::chrono::minutes(15);
  Milliseconds interval = std::chrono::minutes(2);
  bool approved_by_default = true;
  Milliseconds approval_delay{0};
  Milliseconds approval_duration = std::chrono::seconds(1);
  /// SHA-256 of the section's own options, without DEFAULT and what a secfile contains. No setting:
  /// says whether an administrator edited the section (see stays_removed()).
  std::array<std::uint8_t, 32> section{};
};

}  // namespace mandos::monitor
