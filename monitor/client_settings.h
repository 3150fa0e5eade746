// SPDX-License-Identifier: GPL-3.0-or-later
// The one place that describes the settings of a client (mandos-clients.conf(5)).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/clock.h"
#include "monitor/key_id.h"
#include "monitor/secret.h"

namespace mandos::monitor {

/// How a setting is used. A checker command may contain it: %(NAME)s.
inline constexpr unsigned kForCheckers = 1;
/// Whether, and when, a client gets its secret depends on this setting. So an option whose name
/// resembles it is an error, not a warning.
inline constexpr unsigned kGuard = 2;

/// The table of settings. The member of ClientSettings, the option in clients.conf, its default and
/// its limits, the merge with run-time changes, the saved state, the property on the bus and the
/// expansion in checker commands all follow from the row; only the rules that the setting is made
/// for are elsewhere (monitor/client.cc). Each row also needs a field in proto/state.proto and in
/// proto/bus_agent.proto, with the same name. A saved value is compared with the file's to tell
/// whether the file has changed, so there is no setting that is not saved.
///
/// Each use of the table says what becomes of a row of each kind:
///   IDENTITY  says who the client is. Has no default, and only clients.conf changes it.
///             set_NAME() in monitor/clients_conf.cc reads it.
///   PAYLOAD   is the secret: neither shown, nor saved with the rest, nor used in a command.
///   SETTING   has a default, and can be changed over the bus.
///   STATE     likewise, but clients.conf says only what it is at first. From then on it is state:
///             the member of Client with the same name. The log has its own words for each change.
/// The columns are type, name, name on the bus, default, least value of a duration in clients.conf
/// (in seconds), and uses. The rows are in the order of the names, and the log keeps this order.
// clang-format off
#define MANDOS_CLIENT_SETTINGS(IDENTITY, PAYLOAD, SETTING, STATE) \
  SETTING(Milliseconds, approval_delay, ApprovalDelay, std::chrono::seconds(0), 0, kForCheckers | kGuard) \
  SETTING(Milliseconds, approval_duration, ApprovalDuration, std::chrono::seconds(1), 0, kForCheckers) \
  SETTING(bool, approved_by_default, ApprovedByDefault, true, 0, kGuard) \
  SETTING(std::string, checker, Checker, "fping -q -- %(host)s", 0, 0) \
  STATE(bool, enabled, Enabled, true, 0, kForCheckers | kGuard) \
  SETTING(Milliseconds, extended_timeout, ExtendedTimeout, std::chrono::minutes(15), 0, 0) \
  IDENTITY(std::string, fingerprint, Fingerprint, {}, 0, kForCheckers) \
  SETTING(std::string, host, Host, "", 0, kForCheckers) \
  SETTING(Milliseconds, interval, Interval, std::chrono::minutes(2), 1, kForCheckers) \
  IDENTITY(std::optional<KeyId>, key_id, KeyId, {}, 0, kForCheckers) \
  PAYLOAD(SecretPtr, secret, Secret, {}, 0, 0) \
  SETTING(Milliseconds, timeout, Timeout, std::chrono::minutes(5), 0, kForCheckers)
// clang-format on

/// For a kind of row from which nothing follows.
#define MANDOS_NO_ROW(...)

/// What clients.conf says of one client, defaults included. `checker` still has its run-time
/// expansions in it, such as %(host)s. `fingerprint` is in upper case, without spaces; it never
/// matches, because RFC 6091 is gone from GnuTLS.
struct ClientSettings {
#define ROW(type, name, property, preset, ...) type name = preset;
  MANDOS_CLIENT_SETTINGS(ROW, ROW, ROW, ROW)
#undef ROW
  /// SHA-256 of the section's own options, without DEFAULT and what a secfile contains. No setting:
  /// says whether an administrator edited the section (see stays_removed()).
  std::array<std::uint8_t, 32> section{};
};
/// Shared by all who hold them, and never changed: other settings are another object.
using SettingsPtr = std::shared_ptr<const ClientSettings>;

}  // namespace mandos::monitor
