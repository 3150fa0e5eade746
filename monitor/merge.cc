// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/merge.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>

namespace mandos::monitor {
namespace {

using std::chrono::microseconds;

std::string bytes(std::span<const std::uint8_t> span) { return {span.begin(), span.end()}; }

std::string hash_of(const SecretPtr& secret) {
  return secret ? bytes(sha256({secret->bytes()})) : std::string();
}

using Kept = state::Settings;

constexpr std::tuple kTimes{
    std::tuple(&Client::last_enabled, &state::SavedClient::has_last_enabled,
               &state::SavedClient::last_enabled, &state::SavedClient::set_last_enabled),
    std::tuple(&Client::last_checked_ok, &state::SavedClient::has_last_checked_ok,
               &state::SavedClient::last_checked_ok, &state::SavedClient::set_last_checked_ok),
    std::tuple(&Client::last_approval_request, &state::SavedClient::has_last_approval_request,
               &state::SavedClient::last_approval_request,
               &state::SavedClient::set_last_approval_request)};

/// Calls `visit(ClientSettings::*, getter, setter)` for each row.
template <class Rows, class Visitor>
void for_each_row(const Rows& rows, const Visitor& visit) {
  std::apply([&](const auto&... row) { (std::apply(visit, row), ...); }, rows);
}

template <class T>
const T& on_disk(const T& value) {
  return value;
}
std::int64_t on_disk(Milliseconds duration) { return duration.count(); }
std::string on_disk(const std::optional<KeyId>& id) { return id ? bytes(id->bytes) : ""; }

template <class T, class Field>
void take(T& to, const Field& from) {
  to = T(from);
}
void take(std::optional<KeyId>& to, const std::string& from) {
  if (from.size() != KeyId().bytes.size()) return;
  to.emplace();
  std::ranges::copy(as_bytes(from), to->bytes.begin());
}

// Both without the secret.
void put(Kept& to, const ClientSettings& from) {
#define ROW(type, name, ...) to.set_##name(on_disk(from.name));
  MANDOS_CLIENT_SETTINGS(ROW, MANDOS_NO_ROW, ROW, ROW)
#undef ROW
}
ClientSettings get(const Kept& from) {
  ClientSettings to;
#define ROW(type, name, ...) take(to.name, from.name());
  MANDOS_CLIENT_SETTINGS(ROW, MANDOS_NO_ROW, ROW, ROW)
#undef ROW
  return to;
}

std::int64_t stamp(WallTime time) { return time.time_since_epoch().count(); }

std::uint64_t since_boot(const Moment& now) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<microseconds>(now.boot.time_since_epoch()).count());
}

/// Within the years that can be shown, whatever the disk says.
WallTime time_of(std::int64_t stamp) {
  constexpr std::int64_t kEndOf9999 = 253'402'300'799'999'999;
  return WallTime(microseconds(std::clamp(stamp, std::int64_t{0}, kEndOf9999)));
}

}  // namespace

Reloaded merge(const ClientSettings& file_then, const ClientSettings& file_now,
               const Client& current) {
  auto to = std::make_shared<ClientSettings>(*current.settings);
  for_each_setting([&](Property, auto member) {
    if (!same_setting(file_then.*member, file_now.*member)) {
      replace((*to).*member, file_now.*member);
    }
  });
  to->enabled = file_now.enabled;
  to->section = file_now.section;
  return {to, file_then.enabled != file_now.enabled ? file_now.enabled : current.enabled()};
}

bool changes(const Reloaded& merged, const Client& current) {
  return merged.enabled != current.enabled() || !same_settings(*merged.settings, *current.settings);
}

Saved to_saved(const Client& client, const ClientSettings& file, const Moment& now) {
  Saved saved;
  auto& to = saved.client;
  to.set_version(1);
  to.set_name(client.name);
  put(*to.mutable_file(), file);
  put(*to.mutable_current(), *client.settings);
  to.mutable_current()->set_enabled(client.enabled());
  to.mutable_file()->set_secret_sha256(hash_of(file.secret));
  if (client.settings->secret && !same_setting(client.settings->secret, file.secret)) {
    to.set_own_secret(true);
    saved.secret = client.settings->secret;
  }
  to.set_created(stamp(client.created));
  for_each_row(kTimes, [&](auto member, auto, auto, auto set) {
    if (client.*member) (to.*set)(stamp(*(client.*member)));
  });
  // By the wall clock of now: as it stood when the expiry was set, it may have been wrong.
  const auto in_wall_time = [&now](Instant when) {
    return stamp(now.wall + std::chrono::duration_cast<microseconds>(when - now.boot));
  };
  if (client.expires) to.set_expires(in_wall_time(*client.expires));
  if (client.decision && client.decision->until > now.boot) {
    to.set_approved(client.decision->approved);
    to.set_decided_until(in_wall_time(client.decision->until));
  }
  to.set_saved(stamp(now.wall));
  to.set_saved_since_boot(since_boot(now));
  to.set_last_checker_status(client.last_checker_status);
  to.set_removed(client.removed);
  if (client.removed) to.set_section_sha256(bytes(client.settings->section));
  to.set_graces(client.graces);
  to.set_unjudged(client.unjudged);
  to.set_failed_checks(client.failed_checks);
  return saved;
}

// Files of before there was a hash have none; Registry::add() gives them one.
bool stays_removed(const Saved& saved, const ClientSettings& file_now) {
  return saved.client.removed() && (saved.client.section_sha256().empty() ||
                                    saved.client.section_sha256() == bytes(file_now.section));
}

Client from_saved(const Saved& saved, const ClientSettings& file_now, const Moment& now,
                  bool* file_changed, Client* as_kept) {
  const auto& from = saved.client;
  ClientSettings file_then = get(from.file());
  ClientSettings current = get(from.current());
  current.enabled = file_then.enabled;
  // Only the hash of the file's secret was kept, which is enough to see whether it is the same.
  if (from.file().secret_sha256() == hash_of(file_now.secret)) file_then.secret = file_now.secret;
  current.secret = saved.secret ? saved.secret : file_then.secret;

  const bool is_back = from.removed() && !stays_removed(saved, file_now);
  if (file_changed != nullptr) *file_changed = is_back || !same_settings(file_then, file_now);
  Client client;
  client.name = from.name();
  client.removed = from.removed();
  client.unjudged = from.unjudged();
  client.graces = std::min(from.graces(), kMostGraces);
  client.settings = std::make_shared<const ClientSettings>(current);
  client.is_enabled = from.current().enabled();
  client.created = time_of(from.created());
  for_each_row(kTimes, [&](auto member, auto has, auto get, auto) {
    if ((from.*has)()) client.*member = time_of((from.*get)());
  });
  const bool same_boot = from.has_saved_since_boot() && from.saved_since_boot() <= since_boot(now);
  const microseconds ago = same_boot ? microseconds(since_boot(now) - from.saved_since_boot())
                                     : now.wall - time_of(from.saved());
  // A wall clock that was set back prolongs nothing.
  const auto left = [&](std::int64_t until) {
    constexpr microseconds kLongest = kLongestDuration;
    return std::clamp(time_of(until) - time_of(from.saved()) - std::max(ago, microseconds(0)),
                      -kLongest, kLongest);
  };
  if (from.has_expires()) {
    client.expires = now.boot + left(from.expires());
    client.expires_shown = now.wall + left(from.expires());
  }
  if (left(from.decided_until()) > microseconds(0) &&
      (ago >= microseconds(0) || !from.approved())) {
    client.decision = {from.approved(), now.boot + left(from.decided_until())};
  }
  client.last_checker_status = static_cast<std::int16_t>(from.last_checker_status());
  client.failed_checks = from.failed_checks();
  if (as_kept != nullptr) *as_kept = client;
  if (is_back) {
    Client added;
    added.name = from.name();
    added.created = now.wall;
    added.begin_with(file_now);
    return added;
  }
  const auto merged = merge(file_then, file_now, client);
  client.settings = merged.settings;
  client.is_enabled = merged.enabled;
  // As at a reload.
  if (from.approved() && client.settings->key_id != current.key_id) client.decision.reset();
  return client;
}

}  // namespace mandos::monitor
