// SPDX-License-Identifier: GPL-3.0-or-later
// The door to a networker: nonces out, proofs in, and a secret only against a proof.
#pragma once

#include <networker.pb.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "monitor/doors/door_table.h"
#include "monitor/proof.h"
#include "monitor/registry.h"

namespace mandos::monitor {

class NetworkerDoor
    : public ChildDoor<NetworkerDoor, door::networker::ToMonitor, door::networker::ToNetworker> {
 public:
  struct Options {
    std::uint32_t index;  // of the networker
    door::networker::ToNetworker::Settings settings;
    std::vector<int> listeners;
    /// The networker is ready, or says why it cannot work.
    std::function<void(const std::string& problem)> on_greeting;
    /// Called once, when the networker answers its first Ping.
    std::function<void()> on_alive{};
    /// The networker is gone or broke a rule. It must be restarted, and this object destroyed.
    std::function<void(const std::string& why)> on_broken;
  };
  NetworkerDoor(EventLoop& loop, Registry& registry, UniqueFd door, Options options);
  ~NetworkerDoor() { abandon(); }

  /// The connection if it waits for the registry's decision, else null.
  const Proven* waiting(ConnectionId id);
  /// That decision.
  void grant(ConnectionId id, SecretPtr secret);
  void refuse(ConnectionId id);

  /// The networker that a connection belongs to.
  static std::uint32_t index_of(ConnectionId id) { return static_cast<std::uint32_t>(id >> 32); }

 private:
  using ToMonitor = door::networker::ToMonitor;
  friend class DoorTable<NetworkerDoor, ToMonitor>;
  friend ChildDoor;
  enum State : unsigned {
    kUngreeted = 1,  // no connection: the networker has not said that it is ready
    kAbsent = 2,     // no connection of this number
    kNonceGiven = 4,
    kWaiting = 8,  // proven; the registry decides
    kSending = 16,
    kSent = 32,
    kRefused = 64,
    kFull = 128,   // no connection of this number, and the limit of connections is reached
    kAsked = 256,  // not about a connection: a Ping is unanswered
  };
  struct Connection {
    State state = kNonceGiven;
    Nonce nonce{};
    Instant opened{};
    Proven proven;  // from kWaiting on
    SecretPtr secret;
    std::size_t sent = 0;
  };
  static std::span<const DoorRow<NetworkerDoor, ToMonitor>> rows();

  unsigned state_of(const ToMonitor& message) const;
  void on_datagram(std::string_view bytes);
  void greeting(const ToMonitor& message) {
    greeted_ = true;
    options_.on_greeting(message.greeting().problem());
  }
  void open(const ToMonitor& message);
  void proof(const ToMonitor& message);
  void next_part(const ToMonitor& message);
  void closed(const ToMonitor& message);
  void broken(const std::string& why);
  /// Every connection is gone.
  void abandon();

  ConnectionId id_of(std::uint32_t number) const {
    return ConnectionId{options_.index} << 32 | number;
  }
  Connection* undecided(ConnectionId id);
  void send_part(std::uint32_t number, Connection& connection);
  void send_refusal(std::uint32_t number, Connection& connection);

  Registry& registry_;
  Options options_;
  bool greeted_ = false;
  bool broken_ = false;
  std::unordered_map<std::uint32_t, Connection> connections_;  // by number
  door::networker::Datagram datagram_;                         // reused, to save allocations
};

}  // namespace mandos::monitor
