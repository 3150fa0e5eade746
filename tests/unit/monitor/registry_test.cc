// SPDX-License-Identifier: GPL-3.0-or-later
// What clients.conf says and what is in force, apart and together.
#include "monitor/registry.h"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "monitor/merge.h"
#include "tests/support/monitor_fixture.h"

namespace mandos::monitor::test {
namespace {

class RegistryTest : public MonitorFixture {
 protected:
  RegistryTest() {
    Registry::Entry entry;
    entry.client.name = "one";
    entry.client.begin_with(file_);
    clients_.add(std::move(entry));
    clients_.start();
  }

  void reload() { clients_.reload({{"one", file_}}, merge); }
  void set(Property property, Set::Value value) {
    clients_.change("one", Set{property, std::move(value)}, [](const Status&) {});
  }
  /// The host that is in force, and the one that the file said, as they get to disk.
  std::pair<std::string, std::string> saved() {
    bool done = false;
    clients_.saver().flush([&done](const Status&) { done = true; });
    EXPECT_TRUE(run_until([&done] { return done; }));
    const auto& kept = clients_disk_.kept.at("one").client;
    return {kept.current().host(), kept.file().host()};
  }
  const Registry::Entry& entry() { return *clients_.find("one"); }
  using Hosts = std::pair<std::string, std::string>;

  ClientSettings file_ = [] {
    ClientSettings settings;
    settings.host = "file";
    settings.secret = std::make_shared<const Secret>(as_bytes("secret"));
    settings.interval = settings.timeout = std::chrono::hours(24);
    return settings;
  }();
  MemoryDisk clients_disk_{loop_};
  Registry clients_{loop_, log_, clients_disk_, outlets_};
};

TEST_F(RegistryTest, WhatIsInForceAsTheFileSaysIsHeldOnce) {
  EXPECT_EQ(saved(), Hosts("file", "file"));
  EXPECT_EQ(entry().file, entry().client.settings);
  // The same again, with a secret of its own.
  file_.secret = std::make_shared<const Secret>(as_bytes("secret"));
  const SecretPtr held = entry().client.settings->secret;
  reload();
  EXPECT_EQ(entry().file, entry().client.settings);
  EXPECT_EQ(entry().client.settings->secret, held);
  file_.host = "other";
  reload();
  EXPECT_EQ(saved(), Hosts("other", "other"));
  EXPECT_EQ(entry().file, entry().client.settings);
}

TEST_F(RegistryTest, AChangeAtRunTimeStaysUntilTheFileSaysSomethingNew) {
  set(Property::kHost, std::string("run time"));
  EXPECT_EQ(saved(), Hosts("run time", "file"));
  set(Property::kHost, std::string("again"));
  EXPECT_EQ(saved(), Hosts("again", "file"));
  reload();
  EXPECT_EQ(entry().client.settings->host, "again");
  set(Property::kHost, std::string("file"));
  EXPECT_EQ(entry().file, entry().client.settings);
  set(Property::kHost, std::string("again"));
  file_.checker = "true";
  reload();
  EXPECT_EQ(saved(), Hosts("again", "file"));
  EXPECT_EQ(entry().client.settings->checker, "true");
  EXPECT_EQ(entry().file->checker, "true");
  file_.host = "new";
  reload();
  EXPECT_EQ(saved(), Hosts("new", "new"));
}

TEST_F(RegistryTest, AReloadDoesNotEnableWhoWasDisabled) {
  set(Property::kEnabled, false);
  EXPECT_FALSE(entry().client.enabled());
  EXPECT_TRUE(entry().file->enabled);
  reload();
  EXPECT_FALSE(entry().client.enabled());
  file_.enabled = false;
  reload();
  file_.enabled = true;
  reload();
  EXPECT_TRUE(entry().client.enabled());
}

TEST_F(RegistryTest, AnotherSecretAtRunTimeLeavesTheFilesOwn) {
  set(Property::kSecret, SecretPtr(std::make_shared<const Secret>(as_bytes("of its own"))));
  EXPECT_EQ(entry().file->secret->bytes().size(), 6U);
  EXPECT_EQ(entry().client.settings->secret->bytes().size(), 10U);
  reload();
  EXPECT_EQ(entry().client.settings->secret->bytes().size(), 10U);
}

TEST_F(RegistryTest, AClientThatWasRemovedComesBackOnlyWithAnotherSection) {
  set(Property::kHost, std::string("run time"));
  clients_.remove("one", [](const Status& done) { EXPECT_TRUE(done); });
  EXPECT_EQ(clients_.find("one"), nullptr);
  reload();
  EXPECT_EQ(clients_.find("one"), nullptr);
  EXPECT_EQ(saved(), Hosts("run time", "file"));
  clients_.for_each([](const Client& client) { ADD_FAILURE() << client.name; });
  Status again = Ok{};
  clients_.remove("one", [&again](const Status& done) { again = done; });
  EXPECT_FALSE(again);
  // An edit of DEFAULT, or of a secfile.
  file_.checker = "true";
  file_.enabled = true;
  file_.secret = std::make_shared<const Secret>(as_bytes("another"));
  reload();
  EXPECT_EQ(clients_.find("one"), nullptr);
  // An edit of its section, whatever it says.
  file_.section.fill(1);
  reload();
  ASSERT_NE(clients_.find("one"), nullptr);
  EXPECT_TRUE(entry().client.enabled());
  EXPECT_EQ(entry().client.settings->host, "file") << "a new client";
  // It is the section at the removal that counts, although nothing else differed at this reload.
  file_.section.fill(2);
  reload();
  clients_.remove("one", [](const Status&) {});
  reload();
  EXPECT_EQ(clients_.find("one"), nullptr);
  file_.section.fill(1);
  reload();
  EXPECT_NE(clients_.find("one"), nullptr);
}

TEST_F(RegistryTest, NoSecretOfARemovedClientIsKept) {
  set(Property::kSecret, SecretPtr(std::make_shared<const Secret>(as_bytes("of its own"))));
  const std::weak_ptr<const Secret> own = entry().client.settings->secret;
  const std::weak_ptr<const Secret> files = entry().file->secret;
  file_.secret.reset();
  clients_.remove("one", [](const Status&) {});
  EXPECT_TRUE(own.expired());
  EXPECT_TRUE(files.expired());
}

TEST_F(RegistryTest, ASectionThatGoesAndComesBackMakesANewClient) {
  clients_.remove("one", [](const Status&) {});
  clients_.reload({}, merge);
  reload();
  EXPECT_NE(clients_.find("one"), nullptr);
}

TEST_F(RegistryTest, AReplacedKeyIsAStrangers) {
  const KeyId old = *KeyId::parse(std::string(64, '1'));
  const KeyId other = *KeyId::parse(std::string(64, '2'));
  file_.key_id = old;
  reload();
  EXPECT_TRUE(clients_.known(old));
  file_.key_id = other;
  reload();
  EXPECT_FALSE(clients_.known(old));
  EXPECT_TRUE(clients_.known(other));
  // It goes on to another client, and its first one goes.
  clients_.reload({{"two", file_}}, merge);
  EXPECT_TRUE(clients_.known(other));
  clients_.remove("two", [](const Status&) {});
  EXPECT_FALSE(clients_.known(other));
  clients_.reload({{"two", file_}}, merge);
  EXPECT_FALSE(clients_.known(other)) << "of a client that stays removed";
  clients_.reload({}, merge);
  EXPECT_FALSE(clients_.known(other));
}

}  // namespace
}  // namespace mandos::monitor::test
