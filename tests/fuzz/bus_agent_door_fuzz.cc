// SPDX-License-Identifier: GPL-3.0-or-later
// A bus-agent gone bad at the monitor's door. An input is a sequence of operations (kOperations
// below, each a byte and its operands). Every request gets one reply, no secret goes to the bus,
// and what the bus is told of a client is what the client is.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "monitor/doors/bus_agent.h"
#include "tests/fuzz/monitor_world.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using door::bus_agent::ToBusAgent;
using door::bus_agent::ToMonitor;
using Request = ToMonitor::Request;

constexpr std::size_t kMostOperations = 64;
constexpr std::size_t kMostText = 64UL * 1024;
constexpr std::size_t kMostSecret = 1 << 20;
// bus-agent/agent.cc: what it takes.
constexpr std::size_t kLongestMessage = 2UL * 64 * 1024 + 4096;

enum Operation : unsigned {
  kRaw,         // length (2 bytes), bytes
  kGreeting,    // nothing
  kRequest,     // serial (1), client (1: a name, or length (1) and name), change (1), its value
  kPart,        // length (2), times (1), byte (1): a part of a secret so long, so often
  kWithdrawn,   // nothing
  kAnnounce,    // nothing: the monitor wants an announcement, or takes it back
  kDescriptor,  // length (1), bytes: with a descriptor
  kConnection,  // client (1): one that has proven its key asks for its secret
  kListen,      // nothing
  kHangUp,      // nothing
  kElsewhere,   // which (1): a checker ends, a secret is delivered, or a stranger comes
  kTick,        // nothing: the monitor asks whether it is alive
  kPong,        // nothing
  kOperations,
};

class Scene {
 public:
  Scene() {
    auto pair = make_door();
    require(static_cast<bool>(pair), "socketpair");
    peer_.emplace(std::move(pair->second));
    monitor::BusAgentDoor::Options options;
    options.settings.set_dbus(true);
    options.on_greeting = [this] { require(!std::exchange(greeted_, true), "greeted once"); };
    options.on_withdrawn = [] {};
    options.on_alive = [this] { require(asked_, "a Pong answers a Ping"); };
    options.on_broken = [this](const std::string& why) {
      require(!why.empty(), "a reason is given");
      broken_ = true;
    };
    door_.emplace(world_.loop, world_.registry, std::move(pair->first), options);
    listen();
    require(mirror_.size() == MonitorWorld::kNames.size() && complete_, "every client is told");
  }
  ~Scene() { door_.reset(); }

  void play(Input& input) {
    for (std::size_t i = 0; i < kMostOperations && !input.empty() && door_; ++i) step(input);
    listen();
    if (broken_) return;
    // The mirror is current: what was shown last is what is.
    std::size_t clients = 0;
    world_.registry.for_each([&](const monitor::Client& client) {
      ++clients;
      const auto shown = mirror_.find(client.name);
      require(shown != mirror_.end(), "a client is on the bus", client.name);
      const auto& told = shown->second;
      require(
          told.enabled() == client.enabled() && told.host() == client.settings->host &&
              told.checker() == client.settings->checker &&
              told.approval_pending() == client.approval_pending() &&
              told.checker_running() == client.checker_running() &&
              told.approved_by_default() == client.settings->approved_by_default &&
              told.timeout() == static_cast<std::uint64_t>(client.settings->timeout.count()) &&
              told.interval() == static_cast<std::uint64_t>(client.settings->interval.count()) &&
              told.extended_timeout() ==
                  static_cast<std::uint64_t>(client.settings->extended_timeout.count()) &&
              told.approval_delay() ==
                  static_cast<std::uint64_t>(client.settings->approval_delay.count()) &&
              told.approval_duration() ==
                  static_cast<std::uint64_t>(client.settings->approval_duration.count()) &&
              told.expires() ==
                  (client.expires_shown ? client.expires_shown->time_since_epoch().count() : 0),
          "the bus shows a client as it is", client.name);
    });
    require(clients == mirror_.size(), "the bus shows no client that is gone");
  }

 private:
  static std::string name(Input& input) {
    const unsigned which = input.below(MonitorWorld::kNames.size() + 1);
    return std::string(which < MonitorWorld::kNames.size() ? MonitorWorld::kNames.at(which)
                                                           : input.sized(1));
  }

  static void fill(Request& request, Input& input) {
    const auto text = [&] {
      const std::string piece(input.sized(2));
      std::string out = piece;
      for (auto times = input.byte(); times > 0 && out.size() < kMostText; --times) out += piece;
      return out.substr(0, kMostText);
    };
    switch (input.below(15)) {
      case 0:
        return request.set_approval_delay(input.number(8));
      case 1:
        return request.set_approval_duration(input.number(8));
      case 2:
        return request.set_extended_timeout(input.number(8));
      case 3:
        return request.set_interval(input.number(8));
      case 4:
        return request.set_timeout(input.number(8));
      case 5:
        return request.set_approved_by_default(input.flag());
      case 6:
        return request.set_checker_running(input.flag());
      case 7:
        return request.set_enabled(input.flag());
      case 8:
        return request.set_checker(text());
      case 9:
        return request.set_host(text());
      case 10:
        return request.set_secret(input.flag());
      case 11:
        return request.set_approve(input.flag());
      case 12:
        return request.set_checked_ok(input.flag());
      case 13:
        return request.set_remove(input.flag());
      default:  // nothing asked for
        return;
    }
  }

  void step(Input& input) {
    ToMonitor message;
    switch (input.below(kOperations)) {
      case kRaw:
        certain_ = false;
        return peer_->send(input.sized(2));
      case kGreeting:
        message.mutable_greeting();
        break;
      case kRequest:
        message.mutable_request()->set_serial(input.byte());
        message.mutable_request()->set_name(name(input));
        fill(*message.mutable_request(), input);
        return request(message);
      case kPart: {
        const std::size_t size = input.size(2) % (33 * 1024);
        const unsigned times = input.below(40) + 1;
        message.mutable_secret_part();
        message.set_part(std::string(size, static_cast<char>(input.byte())));
        const std::string bytes = message.SerializeAsString();
        for (unsigned i = 0; i < times && !broken_ && parts_.size() <= kMostSecret; ++i) {
          peer_->send(bytes);
          parts_ += message.part();
          world_.loop.run_once(Milliseconds(0));
        }
        return listen();
      }
      case kWithdrawn:
        message.mutable_withdrawn();
        break;
      case kAnnounce:
        door_->announce({});
        return door_->withdraw();
      case kDescriptor:
        return peer_->send(input.sized(1), {peer_->fd()});
      case kConnection: {
        const std::size_t which = input.below(MonitorWorld::kNames.size());
        const auto* const entry = world_.registry.find(std::string(MonitorWorld::kNames.at(which)));
        if (entry == nullptr) return;
        proven_[++connections_] = {*entry->client.settings->key_id, "::1"};
        return world_.registry.request(connections_, proven_[connections_]);
      }
      case kListen:
        return listen();
      case kElsewhere:
        return elsewhere(input.below(3));
      case kTick:
        // It is given up after a while, as the server would.
        if (!door_->ask_alive()) return peer_->hang_up(), listen();
        asked_ = true;
        return;
      case kPong:
        message.mutable_pong();
        break;
      default:
        peer_->hang_up();
        return listen();
    }
    peer_->send(message.SerializeAsString());
  }

  void elsewhere(unsigned which) {
    if (which == 0) return world_.registry.checker_finished(checker_, 0);
    if (which == 1) {
      // The networker's door lets nothing be delivered that was not granted.
      if (!granted_.empty()) world_.registry.delivered(proven_[granted_.back()]);
      return;
    }
    world_.registry.not_found(monitor::KeyId{}, "::1");
  }

  void request(const ToMonitor& message) {
    listen();
    if (broken_) return;
    const std::string bytes = message.SerializeAsString();
    const bool answered = greeted_ && bytes.size() <= kMostText;
    const std::string client = message.request().name();
    const bool sets_secret = message.request().change_case() == Request::kSecret;
    const bool exists = world_.registry.find(client) != nullptr;
    replies_ = 0;
    peer_->send(bytes);
    listen();
    require(!answered || (replies_ == 1 && !broken_), "a request is answered once");
    if (!answered || !certain_) return;
    require(serial_ == message.request().serial(), "an answer names its question");
    if (sets_secret && exists) {
      const auto set = world_.registry.find(client)->client.settings->secret->bytes();
      const bool took = error_.empty();
      require(took == (parts_.size() <= kMostSecret), "a secret's length is bounded");
      require(!took || std::ranges::equal(set, as_bytes(parts_)), "a secret is set as it came");
    }
    parts_.clear();
  }

  void listen() {
    for (std::size_t i = 0; i < kMostOperations / 16 + 2 && peer_; ++i) {
      world_.loop.run_once(Milliseconds(0));
      if (broken_) door_.reset();
      peer_->receive([this](std::string_view bytes) { hear(bytes); });
    }
  }

  void hear(std::string_view bytes) {
    require(bytes.size() <= kLongestMessage, "a message is not too long");
    ToBusAgent message;
    require(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())),
            "the monitor speaks the door's language");
    require(bytes.find(kSecretText) == bytes.npos, "no secret goes to the bus");
    if (message.has_complete()) complete_ = true;
    if (message.has_added()) mirror_[message.added().name()] = message.added();
    if (message.has_changed()) mirror_[message.changed().name()].MergeFrom(message.changed());
    if (message.has_removed()) {
      require(mirror_.erase(message.removed().name()) == 1, "what is removed was there");
    }
    if (message.has_reply()) {
      ++replies_;
      serial_ = message.reply().serial();
      error_ = message.reply().error();
    }
  }

  monitor::Registry::Outlets outlets() {
    auto out = quiet_outlets();
    out.effects = [this](const monitor::Client& client, std::span<const monitor::Effect> effects) {
      if (door_) door_->effects(client, effects);
    };
    out.start_checker = [this](monitor::CheckerId checker, const std::string&) {
      checker_ = checker;
    };
    out.waiting = [this](monitor::ConnectionId connection) { return &proven_[connection]; };
    out.grant = [this](monitor::ConnectionId connection, const monitor::SecretPtr&) {
      granted_.push_back(connection);
    };
    out.not_found = [this](const monitor::KeyId& key_id, const std::string& address) {
      if (door_) door_->not_found(key_id, address);
    };
    out.removed = [this](const monitor::Client& client) {
      if (door_) door_->removed(client);
    };
    return out;
  }

  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  MonitorWorld world_{log_, outlets()};
  std::optional<monitor::BusAgentDoor> door_;
  std::optional<Peer> peer_;
  bool greeted_ = false;
  bool broken_ = false;
  bool asked_ = false;
  bool complete_ = false;
  bool certain_ = true;  // what was sent is known, since all of it was well formed
  std::map<std::string, door::bus_agent::Client> mirror_;
  std::string parts_;  // of the next secret
  unsigned replies_ = 0;
  std::uint64_t serial_ = 0;
  std::string error_;
  monitor::ConnectionId connections_ = 0;
  std::map<monitor::ConnectionId, monitor::Proven> proven_;
  std::vector<monitor::ConnectionId> granted_;
  monitor::CheckerId checker_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 8192) return 0;
  Input input(data, size);
  Scene().play(input);
  require_descriptors();
  return 0;
}
