// SPDX-License-Identifier: GPL-3.0-or-later
// A monitor's registry with three clients, for a fuzzer that stands where another process should.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "monitor/registry.h"
#include "tests/fuzz/peer.h"
#include "tests/support/client_settings.h"
#include "tests/support/memory_disk.h"
#include "tests/support/transcript_builder.h"

namespace mandos::fuzz {

inline constexpr std::string_view kSecretText = "the secret that no one gets without a proof";

/// "good" gets its secret at once, "asking" when it is approved, "disabled" never.
class MonitorWorld {
 public:
  /// The keys of those three, and one that nobody knows.
  static const std::array<test::SigningKey, 4>& keys() {
    static const std::array<test::SigningKey, 4> made = {
        test::ed25519_key(1), test::ed25519_key(2), test::ed25519_key(3), test::ed25519_key(4)};
    return made;
  }
  static constexpr std::array<std::string_view, 3> kNames{"good", "asking", "disabled"};

  explicit MonitorWorld(Log& log, monitor::Registry::Outlets outlets)
      : disk(loop), registry(loop, log, disk, std::move(outlets)) {
    // Of two parts, so that the second has to be asked for.
    static const auto secret = [] {
      std::string bytes;
      while (bytes.size() < 40000) bytes += kSecretText;
      return std::make_shared<const monitor::Secret>(as_bytes(bytes));
    }();
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      monitor::Registry::Entry entry;
      entry.client.name = kNames[i];
      auto& settings = monitor::test::own(entry.client);
      settings.enabled = entry.client.is_enabled = kNames[i] != "disabled";
      settings.approved_by_default = kNames[i] != "asking";
      settings.approval_delay = Milliseconds(settings.approved_by_default ? 0 : 3600'000);
      const auto digest = test::hash_with(nettle_sha256, keys().at(i).public_key);
      settings.key_id.emplace();
      std::ranges::copy(digest, settings.key_id->bytes.begin());
      settings.secret = secret;
      // clients.conf sets no bound to it.
      if (!settings.enabled) settings.fingerprint = std::string(100000, 'A');
      settings.interval = settings.timeout = std::chrono::hours(24);
      registry.add(std::move(entry));
    }
  }

  EventLoop loop;
  monitor::test::MemoryDisk disk;
  monitor::Registry registry;
};

/// The outlets that a target does not look at.
inline monitor::Registry::Outlets quiet_outlets() {
  return {.start_checker = [](monitor::CheckerId, const std::string&) {},
          .kill_checker = [](monitor::CheckerId) {},
          .waiting = [](monitor::ConnectionId) -> const monitor::Proven* { return nullptr; },
          .grant = [](monitor::ConnectionId, const monitor::SecretPtr&) {},
          .refuse = [](monitor::ConnectionId) {}};
}

}  // namespace mandos::fuzz
