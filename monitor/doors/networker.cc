// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/doors/networker.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "proto/networker.h"

namespace mandos::monitor {
namespace {

using namespace door::networker;

// Messages to a networker that does not read wait here. There are few, because parts of a secret
// are sent on demand.
constexpr Channel::Limits kLimits{.receive = kLongestToMonitor, .queue = 4UL * 1024 * 1024};
// The lifetime of a nonce if login_grace_time is below the default.
constexpr Milliseconds kLeastLifetime = std::chrono::seconds(75);

}  // namespace

std::span<const DoorRow<NetworkerDoor, ToMonitor>> NetworkerDoor::rows() {
  static constexpr DoorRow<NetworkerDoor, ToMonitor> kRows[] = {
      {ToMonitor::kGreeting, "Greeting", kUngreeted, kLongestGreeting, 1, &NetworkerDoor::greeting},
      {ToMonitor::kOpen, "Open", kAbsent, kLongestOther, kMostOpensPerSecond, &NetworkerDoor::open},
      {ToMonitor::kProof, "Proof", kNonceGiven, kLongestProof, kMostProofsPerSecond,
       &NetworkerDoor::proof},
      {ToMonitor::kNextPart, "NextPart", kSending, kLongestOther, kMostNextPartsPerSecond,
       &NetworkerDoor::next_part},
      {ToMonitor::kClosed, "Closed", kNonceGiven | kWaiting | kSending | kSent | kRefused,
       kLongestOther, kMostClosedPerSecond, &NetworkerDoor::closed},
      {ToMonitor::kPong, "Pong", kAsked, kLongestOther, 1, &NetworkerDoor::pong},
  };
  return kRows;
}

NetworkerDoor::NetworkerDoor(EventLoop& loop, Registry& registry, UniqueFd door, Options options)
    : ChildDoor(
          loop, std::move(door), kLimits, [this](std::string_view bytes) { on_datagram(bytes); },
          [this](const std::string& why) { broken(why); }, std::move(options.on_alive)),
      registry_(registry),
      options_(std::move(options)) {
  ToNetworker message;
  *message.mutable_settings() = options_.settings;
  door_.send(message, options_.listeners);
}

void NetworkerDoor::broken(const std::string& why) {
  if (std::exchange(broken_, true)) return;
  abandon();
  options_.on_broken(why);
}

void NetworkerDoor::abandon() {
  for (const auto& [number, connection] : std::exchange(connections_, {})) {
    if (connection.state == kWaiting) registry_.hung_up(id_of(number), connection.proven);
  }
}

unsigned NetworkerDoor::state_of(const ToMonitor& message) const {
  if (asked(message)) return kAsked;
  if (!greeted_) return kUngreeted;
  const auto found = connections_.find(message.connection());
  if (found != connections_.end()) return found->second.state;
  return connections_.size() < most_open(options_.settings.max_connections()) ? kAbsent : kFull;
}

void NetworkerDoor::on_datagram(std::string_view bytes) {
  if (broken_) return;
  const bool readable = datagram_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) &&
                        datagram_.messages_size() > 0 && datagram_.messages_size() <= kMostMessages;
  const char* rule = readable ? nullptr : "not a datagram of this door";
  for (int i = 0; rule == nullptr && i < datagram_.messages_size(); ++i) {
    rule = table_.dispatch(*this, datagram_.messages(i));
  }
  if (rule != nullptr) broken(rule);
}

void NetworkerDoor::open(const ToMonitor& message) {
  Connection connection;
  connection.nonce = fresh_nonce();
  connection.opened = registry_.time_served();
  tell([&](auto& answer) {
    answer.set_connection(message.connection());
    answer.mutable_nonce()->set_nonce(connection.nonce.data(), connection.nonce.size());
  });
  connections_.emplace(message.connection(), std::move(connection));
}

void NetworkerDoor::proof(const ToMonitor& message) {
  const std::uint32_t number = message.connection();
  Connection& connection = connections_.at(number);  // state_of() has found it; the same below
  const std::string address = message.proof().address().substr(0, kLongestAddress);
  // This attempt uses it up, whatever the result.
  const Nonce nonce = std::exchange(connection.nonce, Nonce{});
  // The networker may keep a nonce for one grace time before it uses it, waits for one at each of
  // two answers, and may itself be slow for as long again. It may also have been stopped, which is
  // not the client's fault.
  const Milliseconds lifetime =
      std::max(Milliseconds(5 * std::int64_t{options_.settings.login_grace_ms()}), kLeastLifetime);
  if (registry_.time_served() - connection.opened > lifetime) {
    registry_.proof_refused(address, "nonce too old");
    return send_refusal(number, connection);
  }
  const auto result = check_proof(as_bytes(message.proof().transcript()), nonce,
                                  [this](const KeyId& id) { return registry_.known(id); });
  if (result.verdict == ProofResult::Verdict::kProven) {
    connection.state = kWaiting;
    connection.proven = {result.key_id, address};
    return registry_.request(id_of(number), connection.proven);
  }
  if (result.verdict == ProofResult::Verdict::kUnknownKey) {
    registry_.not_found(result.key_id, address);
  } else {
    registry_.proof_refused(address, result.reason);
  }
  send_refusal(number, connection);
}

NetworkerDoor::Connection* NetworkerDoor::undecided(ConnectionId id) {
  const auto found = connections_.find(static_cast<std::uint32_t>(id));
  const bool waits = found != connections_.end() && found->second.state == kWaiting;
  return waits ? &found->second : nullptr;
}

const Proven* NetworkerDoor::waiting(ConnectionId id) {
  const Connection* const connection = undecided(id);
  return connection != nullptr ? &connection->proven : nullptr;
}

void NetworkerDoor::grant(ConnectionId id, SecretPtr secret) {
  if (Connection* const connection = undecided(id)) {
    connection->state = kSending;
    connection->secret = std::move(secret);
    send_part(static_cast<std::uint32_t>(id), *connection);
  }
}

void NetworkerDoor::refuse(ConnectionId id) {
  if (Connection* const connection = undecided(id)) {
    send_refusal(static_cast<std::uint32_t>(id), *connection);
  }
}

void NetworkerDoor::send_part(std::uint32_t number, Connection& connection) {
  const auto rest = connection.secret->bytes().subspan(connection.sent);
  const auto part = rest.first(std::min(rest.size(), kLongestPart));
  connection.sent += part.size();
  ToNetworker message;
  message.set_connection(number);
  message.mutable_part()->set_last(part.size() == rest.size());
  door_.send(message, {}, {ToNetworker::kBlobFieldNumber, part, connection.secret});
  if (part.size() == rest.size()) {
    connection.state = kSent;
    connection.secret.reset();
  }
}

void NetworkerDoor::send_refusal(std::uint32_t number, Connection& connection) {
  connection.state = kRefused;
  tell([number](auto& message) {
    message.set_connection(number);
    message.mutable_refused();
  });
}

void NetworkerDoor::next_part(const ToMonitor& message) {
  const std::uint32_t number = message.connection();
  Connection& connection = connections_.at(number);
  if (registry_.may_go_on(connection.proven, connection.secret)) {
    return send_part(number, connection);
  }
  connection.secret.reset();
  send_refusal(number, connection);
}

void NetworkerDoor::closed(const ToMonitor& message) {
  // Removed before anybody hears of it.
  const auto gone = connections_.extract(message.connection());
  const Connection& connection = gone.mapped();
  if (connection.state == kSent && message.closed().delivered()) {
    registry_.delivered(connection.proven);
  } else if (connection.state == kWaiting) {
    registry_.hung_up(id_of(message.connection()), connection.proven);
  }
}

}  // namespace mandos::monitor
