// SPDX-License-Identifier: GPL-3.0-or-later
// A client on virtual time, and what the bus would show of it, for the tests of the state machine.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/text.h"
#include "monitor/client.h"

namespace mandos::monitor::test {

/// Milliseconds since the start of a test are what tests speak of. The two clocks start apart.
inline constexpr Instant kBootStart{std::chrono::hours(1000)};
inline constexpr WallTime kWallStart{std::chrono::sys_days{std::chrono::January / 2 / 2030}};
inline constexpr Moment moment(std::int64_t milliseconds) {
  return {kBootStart + Milliseconds(milliseconds), kWallStart + Milliseconds(milliseconds)};
}
inline std::int64_t since_start(Instant when) {
  return std::chrono::floor<Milliseconds>(when - kBootStart).count();
}
inline std::string since_start(const std::optional<WallTime>& when) {
  if (!when) return "none";
  return std::to_string(std::chrono::floor<Milliseconds>(*when - kWallStart).count());
}

/// In the order of Property.
inline constexpr std::array<std::string_view, Properties().size()> kPropertyNames = {
    "ApprovalDelay",
    "ApprovalDuration",
    "ApprovedByDefault",
    "Checker",
    "Enabled",
    "ExtendedTimeout",
    "Fingerprint",
    "Host",
    "Interval",
    "KeyID",
    "Secret",
    "Timeout",
    "ApprovalPending",
    "CheckerRunning",
    "Created",
    "Expires",
    "LastApprovalRequest",
    "LastCheckedOK",
    "LastCheckerStatus",
    "LastEnabled",
    "Name",
    "ObjectPath",
};

/// A property's value as text: booleans true and false, durations and stamps milliseconds.
inline std::string shown(const Client& client, Property property) {
  const ClientSettings& settings = *client.settings;
  const auto yes = [](bool value) { return std::string(value ? "true" : "false"); };
  switch (property) {
    case Property::kApprovalDelay:
      return std::to_string(settings.approval_delay.count());
    case Property::kApprovalDuration:
      return std::to_string(settings.approval_duration.count());
    case Property::kApprovalPending:
      return yes(client.approval_pending());
    case Property::kApprovedByDefault:
      return yes(settings.approved_by_default);
    case Property::kChecker:
      return settings.checker;
    case Property::kCheckerRunning:
      return yes(client.checker_running());
    case Property::kCreated:
      return since_start(client.created);
    case Property::kEnabled:
      return yes(client.enabled());
    case Property::kExpires:
      return since_start(client.expires_shown);
    case Property::kExtendedTimeout:
      return std::to_string(settings.extended_timeout.count());
    case Property::kFingerprint:
      return settings.fingerprint;
    case Property::kHost:
      return settings.host;
    case Property::kInterval:
      return std::to_string(settings.interval.count());
    case Property::kKeyId:
      return settings.key_id ? settings.key_id->text() : "";
    case Property::kLastApprovalRequest:
      return since_start(client.last_approval_request);
    case Property::kLastCheckedOk:
      return since_start(client.last_checked_ok);
    case Property::kLastCheckerStatus:
      return std::to_string(client.last_checker_status);
    case Property::kLastEnabled:
      return since_start(client.last_enabled);
    case Property::kName:
      return client.name;
    case Property::kObjectPath:
      return client.object_path;
    case Property::kSecret:
      if (!settings.secret) return "none";
      return {reinterpret_cast<const char*>(settings.secret->bytes().data()),
              settings.secret->bytes().size()};
    case Property::kTimeout:
      return std::to_string(settings.timeout.count());
  }
  return "";
}
inline std::vector<std::string> shown(const Client& client) {
  std::vector<std::string> values;
  for (std::size_t i = 0; i < Properties().size(); ++i) {
    values.push_back(shown(client, static_cast<Property>(i)));
  }
  return values;
}

inline SecretPtr secret(std::string_view text) {
  return std::make_shared<const Secret>(as_bytes(text));
}

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

/// react(), and a failure unless what the effects say of the state is true.
inline std::vector<Effect> checked_react(Client& client, const Event& event, const Moment& now) {
  const std::vector<std::string> before = shown(client);
  std::vector<Effect> effects;
  react(client, event, now, effects);
  const std::vector<std::string> after = shown(client);
  Properties told;
  for (std::size_t i = 0; i < effects.size(); ++i) {
    if (const auto* changed = std::get_if<Changed>(&effects[i])) {
      EXPECT_TRUE(told.none());
      told = changed->properties;
      EXPECT_TRUE(i + 1 == effects.size() ||
                  (i + 2 == effects.size() && std::holds_alternative<Save>(effects[i + 1])));
    }
    if (std::holds_alternative<Save>(effects[i])) {
      EXPECT_EQ(i + 1, effects.size());
    }
  }
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (before[i] != after[i]) {
      EXPECT_TRUE(told.test(i)) << kPropertyNames[i] << " changed from " << before[i] << " to "
                                << after[i] << " without a word";
    }
  }
  EXPECT_EQ(client.expires.has_value(), client.expires_shown.has_value());
  if (!std::holds_alternative<Started>(event)) {
    EXPECT_EQ(client.expires.has_value(), client.enabled());
    EXPECT_EQ(client.next_check.has_value(), client.enabled());
    if (client.expires) {
      EXPECT_GT(*client.expires, now.boot);
    }
    EXPECT_TRUE(client.waiting.empty() || (client.enabled() && !client.decision));
  }
  return effects;
}

}  // namespace mandos::monitor::test
