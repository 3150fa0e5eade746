// SPDX-License-Identifier: GPL-3.0-or-later
// What the bus asks for is confirmed when it is on disk, and many changes get there together.
#include <bus_agent.pb.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "monitor/doors/bus_agent.h"
#include "tests/support/client_settings.h"
#include "tests/support/monitor_fixture.h"

namespace mandos::monitor::test {
namespace {

using door::bus_agent::ToBusAgent;
using door::bus_agent::ToMonitor;

class CommitTest : public MonitorFixture {
 protected:
  CommitTest() {
    bus_disk_.on_begin = [this](const std::vector<Disk::Change>& changes) {
      read();
      saves_.push_back({changes.size(), replies_.size()});
    };
    auto pair = make_door();
    EXPECT_TRUE(pair);
    agent_ = std::make_unique<Channel>(std::move(pair->second),
                                       Channel::Limits{.receive = 1 << 17, .queue = 1 << 20});
    door_ = std::make_unique<BusAgentDoor>(
        loop_, bus_registry_, std::move(pair->first),
        BusAgentDoor::Options{.settings = {},
                              .on_greeting = [] {},
                              .on_withdrawn = [] {},
                              .on_broken = [](const std::string& why) { FAIL() << why; }});
    ToMonitor greeting;
    greeting.mutable_greeting();
    EXPECT_TRUE(agent_->send(greeting));
    loop_.run_once(Milliseconds(0));
    read();
  }

  Registry::Outlets outlets() {
    auto outlets = outlets_;
    outlets.object_path = [](const std::string& name) { return "/clients/" + name; };
    outlets.effects = [this](const Client& client, std::span<const Effect> effects) {
      if (door_) door_->effects(client, effects);
    };
    return outlets;
  }

  void add_client(const std::string& name) {
    Registry::Entry entry;
    entry.client.name = name;
    auto& settings = test::own(entry.client);
    settings.interval = settings.timeout = std::chrono::hours(24);
    bus_registry_.add(std::move(entry));
  }

  void ask_for_host(std::uint64_t serial, const std::string& name, const std::string& host) {
    ToMonitor message;
    message.mutable_request()->set_serial(serial);
    message.mutable_request()->set_name(name);
    message.mutable_request()->set_host(host);
    ASSERT_TRUE(agent_->send(message));
  }

  void ask_for_removal(std::uint64_t serial, const std::string& name) {
    ToMonitor message;
    message.mutable_request()->set_serial(serial);
    message.mutable_request()->set_name(name);
    message.mutable_request()->set_remove(true);
    ASSERT_TRUE(agent_->send(message));
  }

  /// Takes what the monitor has sent so far.
  void read() {
    for (auto got = agent_->receive(); got && *got; got = agent_->receive()) {
      ToBusAgent message;
      ASSERT_TRUE(message.ParseFromString(std::string((*got)->bytes)));
      if (message.has_reply()) replies_.push_back(message.reply());
    }
  }
  bool replies(std::size_t count) {
    return run_until([&] {
      read();
      return replies_.size() >= count;
    });
  }

  /// The client's host as it is on disk.
  std::string on_disk(const std::string& name) {
    const auto found = bus_disk_.kept.find(name);
    return found == bus_disk_.kept.end() ? "none" : found->second.client.current().host();
  }

  struct SaveCall {
    std::size_t clients;
    std::size_t replies_before;
  };
  std::vector<SaveCall> saves_;
  std::vector<ToBusAgent::Reply> replies_;
  std::unique_ptr<Channel> agent_;
  std::unique_ptr<BusAgentDoor> door_;
  MemoryDisk bus_disk_{loop_};
  Registry bus_registry_{loop_, log_, bus_disk_, outlets()};
};

TEST_F(CommitTest, ManyChangesAreBroughtToDiskTogetherAndThenConfirmed) {
  constexpr std::size_t kCount = 64;
  for (std::size_t i = 0; i < kCount; ++i) add_client("client" + std::to_string(i));
  for (std::size_t i = 0; i < kCount; ++i) {
    ask_for_host(i, "client" + std::to_string(i), "host" + std::to_string(i));
  }
  ASSERT_TRUE(replies(kCount));
  EXPECT_LE(saves_.size(), 4U);
  std::size_t saved = 0;
  for (const auto& save : saves_) {
    // Nothing was confirmed before it was saved.
    EXPECT_EQ(save.replies_before, saved);
    saved += save.clients;
  }
  EXPECT_EQ(saved, kCount);
  std::ranges::sort(replies_, {}, &ToBusAgent::Reply::serial);
  for (std::size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(replies_[i].serial(), i);
    EXPECT_EQ(replies_[i].error(), "");
    EXPECT_EQ(on_disk("client" + std::to_string(i)), "host" + std::to_string(i));
  }
}

TEST_F(CommitTest, TheLastOfManyChangesOfOneClientIsOnDiskWhenItIsConfirmed) {
  add_client("one");
  for (std::size_t i = 0; i < 10; ++i) ask_for_host(i, "one", "host" + std::to_string(i));
  ASSERT_TRUE(replies(10));
  EXPECT_EQ(on_disk("one"), "host9");
  EXPECT_LE(saves_.size(), 2U);
}

TEST_F(CommitTest, WhatIsNotOnDiskIsNotConfirmedAndIsTriedAgain) {
  add_client("one");
  bus_disk_.failure = "no space";
  ask_for_host(7, "one", "new");
  ask_for_host(8, "none", "new");
  ASSERT_TRUE(replies(2));
  EXPECT_EQ(replies_[0].error(), "no such client");
  EXPECT_EQ(replies_[1].error(), "no space");
  EXPECT_EQ(on_disk("one"), "none");
  bus_disk_.failure.reset();
  bool done = false;
  bus_registry_.saver().flush([&done](const Status& saved) { done = static_cast<bool>(saved); });
  EXPECT_TRUE(run_until([&done] { return done; }));
  EXPECT_EQ(on_disk("one"), "new");
}

TEST_F(CommitTest, AChangeThatChangesNothingIsConfirmedWithoutTheDisk) {
  add_client("one");
  ask_for_host(1, "one", "");
  ASSERT_TRUE(replies(1));
  EXPECT_TRUE(saves_.empty());
}

TEST_F(CommitTest, OfAClientRemovedBeforeItsChangeIsOnDiskTheRemovalIsSaved) {
  add_client("one");
  ask_for_host(1, "one", "new");
  ask_for_removal(2, "one");
  ASSERT_TRUE(replies(2));
  EXPECT_TRUE(bus_disk_.kept.at("one").client.removed());
  EXPECT_EQ(bus_disk_.begun, 1U);
}

TEST_F(CommitTest, ARemovalIsConfirmedOnceItIsOnDisk) {
  add_client("one");
  ask_for_removal(1, "one");
  ASSERT_TRUE(replies(1));
  ASSERT_TRUE(bus_disk_.kept.contains("one"));
  EXPECT_TRUE(bus_disk_.kept.at("one").client.removed());
}

TEST_F(CommitTest, ADoorThatIsGoneGetsNoAnswer) {
  add_client("one");
  bool done = false;
  ask_for_host(1, "one", "new");
  // In the same round of the loop, after the change and before the disk.
  bus_registry_.change("one", Set{Property::kHost, std::string("other")}, [&](const Status&) {
    done = true;
    door_.reset();
  });
  EXPECT_TRUE(run_until([&] { return done; }));
  EXPECT_FALSE(bus_disk_.kept.empty());
  EXPECT_EQ(door_, nullptr);
}

}  // namespace
}  // namespace mandos::monitor::test
