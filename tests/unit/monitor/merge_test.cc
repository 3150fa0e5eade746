// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "monitor/fate.h"
#include "tests/support/client_settings.h"

namespace mandos::monitor {
namespace {

using namespace std::chrono_literals;

SecretPtr secret(std::string_view bytes) { return std::make_shared<const Secret>(as_bytes(bytes)); }

// Three values of each setting's type that differ.
void give(bool& value, int which) { value = which % 2 != 0; }
void give(Milliseconds& value, int which) { value = Milliseconds(1000 + which); }
void give(std::string& value, int which) { value = concat("value ", which, "\xff"); }
void give(SecretPtr& value, int which) { value = secret(concat("secret ", which)); }
void give(std::optional<KeyId>& value, int which) {
  value.emplace();
  value->bytes.fill(static_cast<std::uint8_t>(which));
}

ClientSettings all(int which) {
  ClientSettings settings;
  for_each_setting([&](Property, auto member) { give(settings.*member, which); });
  return settings;
}

bool same(const ClientSettings& one, const ClientSettings& other) {
  bool equal = true;
  for_each_setting(
      [&](Property, auto member) { equal = equal && same_setting(one.*member, other.*member); });
  return equal;
}
bool same(const Client& client, const ClientSettings& settings) {
  return same(test::in_force(client), settings);
}
bool same(const Reloaded& merged, const ClientSettings& settings) {
  Client client;
  client.settings = merged.settings;
  client.is_enabled = merged.enabled;
  return same(client, settings);
}

constexpr Moment kNow{Instant(1000h), WallTime(2'000'000'000s)};

/// Through the disk's form and back.
Client restarted(const Client& client, const ClientSettings& file_then,
                 const ClientSettings& file_now, const Moment& saved_at = kNow,
                 const Moment& loaded_at = kNow) {
  Saved saved = to_saved(client, file_then, saved_at);
  state::SavedClient read;
  EXPECT_TRUE(read.ParseFromString(saved.client.SerializeAsString()));
  saved.client = read;
  return from_saved(saved, file_now, loaded_at);
}

Client client_with(const ClientSettings& settings) {
  Client client;
  client.name = "one";
  client.begin_with(settings);
  return client;
}

TEST(Merge, UnchangedInTheFileKeepsTheRunTimeValue) {
  EXPECT_TRUE(same(merge(all(0), all(0), client_with(all(1))), all(1)));
  EXPECT_TRUE(same(restarted(client_with(all(1)), all(0), all(0)), all(1)));
}

TEST(Merge, ChangedInTheFileWins) {
  EXPECT_TRUE(same(merge(all(0), all(3), client_with(all(2))), all(3)));
  EXPECT_TRUE(same(restarted(client_with(all(2)), all(0), all(3)), all(3)));
}

TEST(Merge, NeverChangedFollowsTheFile) {
  EXPECT_TRUE(same(merge(all(0), all(0), client_with(all(0))), all(0)));
  EXPECT_TRUE(same(restarted(client_with(all(0)), all(0), all(1)), all(1)));
}

TEST(Merge, EachSettingIsJudgedAlone) {
  for_each_setting([](Property property, auto member) {
    SCOPED_TRACE(static_cast<int>(property));
    ClientSettings file_now = all(0);
    give(file_now.*member, 1);
    ClientSettings expected = all(2);
    give(expected.*member, 1);
    EXPECT_TRUE(same(merge(all(0), file_now, client_with(all(2))), expected));
    EXPECT_TRUE(same(restarted(client_with(all(2)), all(0), file_now), expected));
    EXPECT_FALSE(same(expected, all(2)) && property != Property::kEnabled &&
                 property != Property::kApprovedByDefault);
  });
}

TEST(Merge, AbsentValues) {
  ClientSettings none;
  none.fingerprint.clear();
  EXPECT_TRUE(same(restarted(client_with(none), none, none), none));
  EXPECT_TRUE(same(restarted(client_with(none), none, all(1)), all(1)));
  EXPECT_TRUE(same(restarted(client_with(all(1)), all(1), none), none));
  EXPECT_TRUE(same(restarted(client_with(all(1)), none, none), all(1)));
}

TEST(SavedSecret, OnlyKeptWhenChangedAtRunTime) {
  const auto same_bytes = client_with([] {
    auto settings = all(0);
    settings.secret = secret("secret 0");  // the same, elsewhere in memory
    return settings;
  }());
  EXPECT_EQ(to_saved(same_bytes, all(0), kNow).secret, nullptr);
  const Saved changed = to_saved(client_with(all(1)), all(0), kNow);
  ASSERT_NE(changed.secret, nullptr);
  EXPECT_TRUE(same_setting(changed.secret, secret("secret 1")));
  for (const char* word : {"secret 0", "secret 1"}) {
    EXPECT_EQ(changed.client.SerializeAsString().find(word), std::string::npos);
  }
}

TEST(SavedSecret, LostWhenTheFilesSecretChanged) {
  auto file_now = all(0);
  file_now.secret = secret("a new one");
  EXPECT_TRUE(same_setting(restarted(client_with(all(1)), all(0), file_now).settings->secret,
                           file_now.secret));
}

TEST(SavedSecret, MadeEmptyAtRunTime) {
  auto settings = all(0);
  settings.secret = secret("");
  const Saved saved = to_saved(client_with(settings), all(0), kNow);
  EXPECT_TRUE(saved.client.own_secret());
  const auto restored = from_saved(saved, all(0), kNow);
  ASSERT_NE(restored.settings->secret, nullptr);
  EXPECT_TRUE(restored.settings->secret->bytes().empty());
}

TEST(SavedClient, StampsAndStatus) {
  Client client = client_with(all(1));
  EXPECT_EQ(restarted(client, all(1), all(1)).last_enabled, std::nullopt);
  EXPECT_EQ(restarted(client, all(1), all(1)).expires, std::nullopt);
  EXPECT_EQ(restarted(client, all(1), all(1)).last_checker_status, -2);
  client.created = WallTime(1'234'567'890'123'456us);
  client.last_enabled = WallTime(1us);
  client.last_checked_ok = WallTime(1'999'999'999'999'999us);
  client.last_approval_request = WallTime(0us);
  client.last_checker_status = -1;
  client.graces = 2;
  client.unjudged = true;
  const Client read = restarted(client, all(1), all(1));
  EXPECT_EQ(read.name, "one");
  EXPECT_EQ(read.created, client.created);
  EXPECT_EQ(read.last_enabled, client.last_enabled);
  EXPECT_EQ(read.last_checked_ok, client.last_checked_ok);
  EXPECT_EQ(read.last_approval_request, client.last_approval_request);
  EXPECT_EQ(read.last_checker_status, -1);
  EXPECT_EQ(read.graces, 2);
  EXPECT_TRUE(read.unjudged);
}

TEST(SavedClient, ExpiryOverABoot) {
  Client client = client_with(all(1));
  client.expires = kNow.boot + 5min;
  client.expires_shown = kNow.wall + 1h;  // the wall clock was set back since
  // The machine was off for two minutes and its clock since boot began again.
  const Moment later{Instant(10s), kNow.wall + 2min};
  const Client read = restarted(client, all(1), all(1), kNow, later);
  EXPECT_EQ(read.expires, later.boot + 3min);
  EXPECT_EQ(read.expires_shown, kNow.wall + 5min);
  const Moment much_later{Instant(10s), kNow.wall + 100h};
  EXPECT_EQ(restarted(client, all(1), all(1), kNow, much_later).expires,
            Instant(10s) - 100h + 5min);
}

// Within a boot, whatever the wall clock was set to: its time since boot was saved too.
TEST(SavedClient, ExpiryWithinABoot) {
  Client client = client_with(all(1));
  client.expires = kNow.boot + 5min;
  for (const auto wall : {kNow.wall + 100h, kNow.wall - 100h, kNow.wall}) {
    const Moment later{kNow.boot + 2min, wall};
    const Client read = restarted(client, all(1), all(1), kNow, later);
    EXPECT_EQ(read.expires, later.boot + 3min);
    EXPECT_EQ(read.expires_shown, later.wall + 3min);
  }
  // In another boot, a clock that was set back gives no more than was left.
  EXPECT_EQ(restarted(client, all(1), all(1), kNow, {Instant(10s), kNow.wall - 1h}).expires,
            Instant(10s) + 5min);
  // A file of before there was a stamp.
  Saved saved = to_saved(client, all(1), kNow);
  saved.client.clear_saved();
  saved.client.clear_saved_since_boot();
  EXPECT_EQ(from_saved(saved, all(1), {Instant(10s), kNow.wall + 2min}).expires,
            Instant(10s) + 3min);
}

TEST(SavedClient, AnAnswerHoldsOverARestart) {
  for (const bool approved : {true, false}) {
    Client client = client_with(all(1));
    EXPECT_FALSE(restarted(client, all(1), all(1)).decision);
    client.decision = {approved, kNow.boot + 1h};
    const auto left = [&](const Moment& later, const ClientSettings& file_now) {
      const auto decision = restarted(client, all(1), file_now, kNow, later).decision;
      EXPECT_TRUE(!decision || decision->approved == approved);
      return decision ? decision->until - later.boot : 0min;
    };
    for (const auto wall : {kNow.wall + 100h, kNow.wall - 100h, kNow.wall}) {
      EXPECT_EQ(left({kNow.boot + 10min, wall}, all(1)), 50min);
      EXPECT_EQ(left({kNow.boot + 2h, wall}, all(1)), 0min);
    }
    // In another boot.
    EXPECT_EQ(left({Instant(10s), kNow.wall + 10min}, all(1)), 50min);
    EXPECT_EQ(left({Instant(10s), kNow.wall + 2h}, all(1)), 0min);
    // The wall clock was set back, who knows how far.
    EXPECT_EQ(left({Instant(10s), kNow.wall - 1s}, all(1)), approved ? 0min : 60min);
    // An approval was for the old key.
    auto other = all(1);
    give(other.key_id, 2);
    EXPECT_EQ(left({kNow.boot + 10min, kNow.wall}, other), approved ? 0min : 50min);
    EXPECT_FALSE(restarted(client, all(1), all(1), {kNow.boot + 1h, kNow.wall}).decision);
  }
}

// A checksum is right, yet somebody with root's rights wrote it.
TEST(SavedClient, ValuesOutOfReach) {
  for (const auto value : {std::numeric_limits<std::int64_t>::min(), std::int64_t{-1},
                           std::numeric_limits<std::int64_t>::max()}) {
    Saved saved;
    saved.client.set_name("one");
    saved.client.set_created(value);
    saved.client.set_last_enabled(value);
    saved.client.set_expires(value);
    saved.client.set_decided_until(value);
    saved.client.set_saved_since_boot(static_cast<std::uint64_t>(value));
    saved.client.set_last_checker_status(std::numeric_limits<std::int32_t>::max());
    saved.client.mutable_current()->set_enabled(true);
    saved.client.mutable_current()->set_key_id("short");
    saved.client.mutable_current()->set_timeout(value);
    saved.client.mutable_current()->set_interval(value);
    Client read = from_saved(saved, ClientSettings{}, kNow);
    EXPECT_EQ(read.settings->key_id, std::nullopt);
    EXPECT_GE(read.created, WallTime(0us));
    EXPECT_LT(read.created, WallTime(253'402'300'800s));
    ASSERT_TRUE(read.expires);
    EXPECT_EQ(*read.expires > kNow.boot, value > 0);
    std::vector<Effect> effects;
    react(read, Started{0.5}, kNow, effects);
    saved.client.set_saved(value);
    read = from_saved(saved, ClientSettings{}, kNow);
    react(read, Started{0.5}, kNow, effects);
  }
}

// The original's rule of a start: past its expiry, only who was last seen well stays enabled.
TEST(SavedClient, PastItsExpiryAtStart) {
  for (const bool well : {true, false}) {
    Client client = client_with(all(1));
    test::own(client).timeout = 5min;
    client.expires = kNow.boot + 1min;
    client.last_checked_ok = kNow.wall - 4min;
    client.last_checker_status = static_cast<std::int16_t>(well ? 0 : 1);
    const Moment later{Instant(1s), kNow.wall + 1h};
    Client read = restarted(client, *client.settings, *client.settings, kNow, later);
    std::vector<Effect> effects;
    react(read, Started{0}, later, effects);
    EXPECT_EQ(read.enabled(), well);
    if (well) {
      EXPECT_EQ(read.expires, later.boot + 5min);
    }
  }
}

TEST(SavedClient, WhatAStartChangesIsTold) {
  const auto told = [](const Client& kept, const ClientSettings& file_then,
                       const ClientSettings& file_now) {
    Client before;
    const Client after =
        from_saved(to_saved(kept, file_then, kNow), file_now, kNow, nullptr, &before);
    return fate(before, after, Started{}, kFile);
  };
  const std::string by = " client=\"one\" by=\"clients.conf\"";
  auto file = all(1);
  file.enabled = true;
  EXPECT_TRUE(told(client_with(file), file, file).empty());
  auto other = file;
  other.enabled = false;
  other.timeout += 1h;
  other.secret = secret("another");
  const auto lines = told(client_with(file), file, other);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_TRUE(lines[0].starts_with("audit: event=changed" + by + " setting=timeout from=\""));
  EXPECT_EQ(lines[1],
            "audit: event=changed" + by + " setting=secret from=\"not shown\" to=\"not shown\"");
  EXPECT_TRUE(lines[2].starts_with("audit: event=disabled" + by));
  // Long values that begin alike are shown from where they differ.
  auto long_before = file;
  auto long_after = file;
  long_before.checker = std::string(200, 'x') + " one";
  long_after.checker = std::string(200, 'x') + " other";
  const std::string same = " setting=checker from=\"..." + std::string(18, 'x');
  EXPECT_THAT(told(client_with(long_before), long_before, long_after),
              testing::ElementsAre("audit: event=changed" + by + same + " one\" to=\"..." +
                                   std::string(18, 'x') + " other\""));
  long_after.checker = std::string(200, 'y');
  EXPECT_THAT(
      told(client_with(long_before), long_before, long_after),
      testing::ElementsAre(testing::HasSubstr("from=\"" + std::string(120, 'x') + "...\"")));
  // What was set at run time is not the file's doing.
  auto set = file;
  set.host = "elsewhere";
  set.secret = secret("set over the bus");
  EXPECT_TRUE(told(client_with(set), file, file).empty());
  // Removed, and then edited.
  Client removed = client_with(file);
  removed.removed = true;
  test::own(removed).section.fill(7);
  other.section = removed.settings->section;
  EXPECT_TRUE(told(removed, file, other).empty());
  other.section.fill(8);
  EXPECT_EQ(told(removed, file, other), std::vector{"audit: event=added" + by + " enabled=False"});
  other.enabled = true;
  EXPECT_EQ(told(removed, file, other), std::vector{"audit: event=added" + by});
}

TEST(SavedClient, RemovedStaysRemovedUntilItsSectionIsEdited) {
  Client client = client_with(all(1));
  client.removed = true;
  client.is_enabled = false;
  test::own(client).section.fill(7);
  Saved kept = to_saved(client, all(1), kNow);
  for (const bool has_hash : {true, false}) {  // none: from before there was one
    if (!has_hash) kept.client.clear_section_sha256();
    auto now = all(2);  // DEFAULT says something else, and so does the secfile
    now.section = client.settings->section;
    const Client read = from_saved(kept, now, kNow);
    EXPECT_TRUE(read.removed);
    EXPECT_EQ(read.settings->section, client.settings->section);
    EXPECT_TRUE(stays_removed(kept, now));
    now = all(1);  // an option that is not used was added
    now.section.fill(8);
    bool unsaved = false;
    const Client edited = from_saved(kept, now, kNow, &unsaved);
    EXPECT_EQ(edited.removed, !has_hash);
    EXPECT_EQ(stays_removed(kept, now), !has_hash);
    EXPECT_EQ(unsaved, has_hash);
    if (has_hash) {
      EXPECT_TRUE(same(edited, now)) << "a new client";
    }
  }
}

TEST(SavedClient, DisabledStaysDisabledUntilTheFileSaysOtherwise) {
  auto file = all(1);
  Client client = client_with(file);
  client.is_enabled = false;
  EXPECT_FALSE(restarted(client, file, file).enabled());
  auto was_off = file;
  was_off.enabled = false;
  EXPECT_TRUE(restarted(client, was_off, file).enabled());
}

}  // namespace
}  // namespace mandos::monitor
