// SPDX-License-Identifier: GPL-3.0-or-later
// A monitor's registry with two clients, for tests that stand where another process should.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "monitor/registry.h"
#include "tests/support/client_settings.h"
#include "tests/support/memory_disk.h"
#include "tests/support/transcript_builder.h"

namespace mandos::monitor::test {

using mandos::test::ByteVector;
using mandos::test::Handshake;
using mandos::test::SigningKey;

inline const std::string kSecretText = "the secret of the good client";

class MonitorFixture : public testing::Test {
 protected:
  MonitorFixture() {
    add("good", good_key_, true);
    add("disabled", disabled_key_, false);
  }

  void add(const std::string& name, const SigningKey& key, bool enabled,
           const std::string& secret = kSecretText) {
    Registry::Entry entry;
    entry.client.name = name;
    auto& settings = own(entry.client);
    settings.enabled = entry.client.is_enabled = enabled;
    settings.key_id = key_id(key);
    settings.secret = std::make_shared<const Secret>(as_bytes(secret));
    settings.interval = settings.timeout = std::chrono::hours(24);
    registry_.add(std::move(entry));
  }

  static KeyId key_id(const SigningKey& key) {
    KeyId id;
    std::ranges::copy(mandos::test::hash_with(nettle_sha256, key.public_key), id.bytes.begin());
    return id;
  }

  /// Runs the loop until `done`, but no longer than ten seconds.
  template <class Predicate>
  bool run_until(Predicate done) {
    const Instant end = BootClock::now() + std::chrono::seconds(10);
    while (!done()) {
      if (BootClock::now() > end) return false;
      loop_.run_once(Milliseconds(10));
    }
    return true;
  }

  /// Whether the change was brought to disk.
  bool change(const std::string& name, const Event& event) {
    std::optional<bool> saved;
    registry_.change(name, event,
                     [&saved](const Status& done) { saved = static_cast<bool>(done); });
    return run_until([&saved] { return saved.has_value(); }) && *saved;
  }

  SigningKey good_key_ = mandos::test::ed25519_key(1);
  SigningKey disabled_key_ = mandos::test::ed25519_key(2);
  SigningKey unknown_key_ = mandos::test::ed25519_key(3);
  EventLoop loop_;
  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  Registry::Outlets outlets_{
      .start_checker = [this](CheckerId id, const std::string&) { started_.push_back(id); },
      .kill_checker = [this](CheckerId id) { killed_.push_back(id); },
      .waiting = [this](ConnectionId id) { return waiting(id); },
      .grant = [this](ConnectionId id, SecretPtr secret) { granted(id, std::move(secret)); },
      .refuse = [this](ConnectionId id) { refused(id); },
      .effects = [this](const Client& client,
                        std::span<const Effect> effects) { told(client, effects); },
      .not_found = [this](const KeyId& key_id,
                          const std::string& address) { stranger(key_id, address); }};
  MemoryDisk disk_{loop_};
  Registry registry_{loop_, log_, disk_, outlets_};
  std::vector<CheckerId> started_;
  std::vector<CheckerId> killed_;

  virtual const Proven* waiting(ConnectionId) { return nullptr; }
  virtual void granted(ConnectionId, SecretPtr) {}
  virtual void refused(ConnectionId) {}
  virtual void told(const Client&, std::span<const Effect>) {}
  virtual void stranger(const KeyId&, const std::string&) {}
};

}  // namespace mandos::monitor::test
