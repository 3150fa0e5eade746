// SPDX-License-Identifier: GPL-3.0-or-later
// The door to the bus-agent: keeps its mirror of the clients current, carries out what the bus
// asks.
#pragma once

#include <bus_agent.pb.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/channel.h"
#include "common/event_loop.h"
#include "common/log.h"
#include "monitor/doors/door_table.h"
#include "monitor/registry.h"
#include "proto/bus_agent.h"

namespace mandos::monitor {

class BusAgentDoor
    : public ChildDoor<BusAgentDoor, door::bus_agent::ToMonitor, door::bus_agent::ToBusAgent> {
  using ToMonitor = door::bus_agent::ToMonitor;
  using ToBusAgent = door::bus_agent::ToBusAgent;

 public:
  struct Options {
    door::bus_agent::ToBusAgent::Settings settings;
    std::function<void()> on_greeting;
    /// The announcement has been withdrawn.
    std::function<void()> on_withdrawn;
    /// Called once, when the bus-agent answers its first Ping.
    std::function<void()> on_alive{};
    /// The bus-agent is gone or broke a rule. It must be restarted, and this object destroyed.
    std::function<void(const std::string& why)> on_broken;
  };
  /// Sends every client to the bus-agent, as fast as that reads.
  BusAgentDoor(EventLoop& loop, Registry& registry, UniqueFd door, Options options);

  // What the registry tells the bus (Registry::Outlets).
  void effects(const Client& client, std::span<const Effect> effects);
  void added(const Client& client);
  void removed(const Client& client);
  void not_found(const KeyId& key_id, const std::string& address);

  void announce(const door::bus_agent::ToBusAgent::Announce& announcement);
  /// How often each process was replaced, as the supervisor counts it.
  void restarts(const google::protobuf::RepeatedField<std::uint32_t>& counts) {
    tell([&](auto& message) { *message.mutable_restarts()->mutable_counts() = counts; });
  }
  /// on_withdrawn() follows.
  void withdraw();

 private:
  friend class DoorTable<BusAgentDoor, ToMonitor>;
  friend ChildDoor;
  enum State : unsigned { kUngreeted = 1, kGreeted = 2, kWithdrawing = 4, kAsked = 8, kFull = 16 };
  static std::span<const DoorRow<BusAgentDoor, ToMonitor>> rows();

  unsigned state_of(const ToMonitor& message) const {
    if (asked(message)) return kAsked;
    if (message.has_request() && unanswered_ >= door::bus_agent::kMostUnanswered) return kFull;
    return !greeted_ ? kUngreeted : withdrawing_ ? kWithdrawing : kGreeted;
  }
  void on_datagram(std::string_view bytes);
  void greeting(const ToMonitor&) {
    greeted_ = true;
    options_.on_greeting();
  }
  void secret_part(const ToMonitor& message);
  void request(const ToMonitor& message);
  void withdrawn(const ToMonitor&) { options_.on_withdrawn(); }
  void carry_out(const ToMonitor::Request& request, Registry::Done done);
  void pay();
  void send_signal(const ToBusAgent& message);

  Registry& registry_;
  Options options_;
  bool greeted_ = false;
  bool withdrawing_ = false;
  bool complete_ = false;
  // Still to be sent about clients. If each has texts of 64 KiB, a few hundred fill the queue.
  std::map<std::string, Properties> owed_;
  std::size_t unanswered_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // for who answers later
  SecretString secret_ = secret_string();                  // the parts that have come
  bool secret_found_no_memory_ = false;                    // for one of them
};

}  // namespace mandos::monitor
