// SPDX-License-Identifier: GPL-3.0-or-later
// A networker gone bad at the monitor's door. An input is a sequence of operations (kOperations
// below, each a byte and its operands). A byte of a secret comes only after a proof that was made
// by an enabled client's key over the connection's own nonce and that nobody has touched.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "monitor/doors/networker.h"
#include "tests/fuzz/monitor_world.h"
#include "tests/support/datagram.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using door::networker::ToMonitor;
using door::networker::ToNetworker;

constexpr std::uint32_t kMaxConnections = 4;
constexpr std::size_t kMostOperations = 64;
constexpr std::size_t kMostMessages = 4;  // that the monitor takes in a datagram

enum Operation : unsigned {
  kRaw,       // length (2 bytes), bytes
  kGreeting,  // length (1), problem
  kOpen,      // connection (1), length (1), address of the peer
  kProof,  // connection (1), shape (1: key, retry, SHA-384, spoilt), for a spoilt one: place (2),
           // bits (1)
  kOwnProof,    // connection (1), length (2), transcript
  kNextPart,    // connection (1)
  kClosed,      // connection (1), delivered (1)
  kDescriptor,  // length (1), bytes: with a descriptor
  kApprove,     // verdict (1): an administrator's, on "asking"
  kListen,      // nothing: let the monitor work, and hear what it says
  kHangUp,      // nothing
  kTogether,    // number (1): so many of the next messages go in one datagram
  kTick,        // nothing: the monitor asks whether the networker is alive
  kPong,        // nothing
  kOperations,
};

class Scene {
 public:
  Scene() {
    auto pair = make_door();
    require(static_cast<bool>(pair), "socketpair");
    peer_.emplace(std::move(pair->second));
    monitor::NetworkerDoor::Options options;
    options.index = 3;
    options.settings.set_max_connections(kMaxConnections);
    options.settings.set_login_grace_ms(10000);
    options.on_greeting = [this](const std::string&) {
      require(!std::exchange(greeted_, true), "greeted once");
    };
    options.on_alive = [this] { require(asked_, "a Pong answers a Ping"); };
    options.on_broken = [this](const std::string& why) {
      require(!why.empty(), "a reason is given");
      broken_ = true;
    };
    door_.emplace(world_.loop, world_.registry, std::move(pair->first), options);
    listen();
    require(settings_, "the first message are settings");
  }

  ~Scene() { door_.reset(); }

  void play(Input& input) {
    for (std::size_t i = 0; i < kMostOperations && !input.empty() && door_; ++i) step(input);
    listen();
  }

 private:
  void step(Input& input) {
    const unsigned operation = input.below(kOperations);
    ToMonitor message;
    switch (operation) {
      case kRaw:
        return peer_->send(input.sized(2));
      case kGreeting:
        message.mutable_greeting()->set_problem(std::string(input.sized(1)));
        break;
      case kOpen:
        message.set_connection(input.byte());
        message.mutable_open();
        addresses_[message.connection()] = input.sized(1);
        break;
      case kProof:
        return prove(input);
      case kOwnProof:
        message.set_connection(input.byte());
        message.mutable_proof()->set_transcript(std::string(input.sized(2)));
        message.mutable_proof()->set_address(addresses_[message.connection()]);
        break;
      case kNextPart:
        message.set_connection(input.byte());
        message.mutable_next_part();
        break;
      case kClosed: {
        const unsigned connection = input.byte();
        message.set_connection(connection);
        message.mutable_closed()->set_delivered(input.flag());
        break;
      }
      case kDescriptor:
        return peer_->send(input.sized(1), {peer_->fd()});
      case kApprove:
        world_.registry.change("asking", monitor::Approve{input.flag()}, [](const Status&) {});
        return;
      case kTogether:
        together_ = input.byte();
        return;
      case kTick:
        // It is given up after a while, as the server would.
        if (!door_->ask_alive()) return peer_->hang_up(), listen();
        asked_ = true;
        return;
      case kPong:
        message.mutable_pong();
        break;
      case kListen:
        return listen();
      default:
        peer_->hang_up();
        return listen();
    }
    say(message);
  }

  /// With others, if it has to wait for them.
  void say(const ToMonitor& message) {
    waiting_.push_back(message);
    if (waiting_.size() < together_) return;
    together_ = 0;
    peer_->send(test::datagram_of(waiting_));
    // So that what a connection has is known when the next word about it is made.
    listen();
    for (const auto& said : std::exchange(waiting_, {})) {
      if (!said.has_closed()) continue;
      nonces_.erase(said.connection());
      entitled_.erase(said.connection());
    }
  }

  void prove(Input& input) {
    const std::uint32_t connection = input.byte();
    const unsigned shape = input.byte();
    const auto nonce = nonces_.find(connection);
    monitor::Nonce used{};
    if (nonce != nonces_.end()) used = nonce->second;
    const std::size_t who = shape & 3;
    auto handshake = test::Handshake::normal(used, MonitorWorld::keys().at(who), (shape & 4) != 0);
    if ((shape & 8) != 0) {
      handshake.server_hello.suite = 0x1302;
      if (handshake.retry) handshake.retry->suite = 0x1302;
    }
    auto transcript = test::sign(handshake, MonitorWorld::keys().at(who));
    bool genuine = nonce != nonces_.end();
    if ((shape & 16) != 0) {
      const std::size_t place = input.size(2) % transcript.size();
      const auto bits = input.byte();
      transcript[place] = static_cast<unsigned char>(transcript[place] ^ bits);
      genuine = genuine && bits == 0;
    }
    ToMonitor message;
    message.set_connection(connection);
    message.mutable_proof()->set_transcript(transcript.data(), transcript.size());
    message.mutable_proof()->set_address(addresses_[connection]);
    // Good once only, and only for a client that may have its secret (one that asks: perhaps
    // later).
    if (genuine && who < 2) entitled_.insert(connection);
    if (nonce != nonces_.end()) nonces_.erase(nonce);
    say(message);
  }

  void listen() {
    // Sixteen datagrams a round.
    for (std::size_t i = 0; i < kMostOperations / 16 + 2; ++i) {
      world_.loop.run_once(Milliseconds(0));
      if (broken_) door_.reset();
      peer_->receive([this](std::string_view bytes) { hear(bytes); });
    }
  }

  void hear(std::string_view bytes) {
    ToNetworker message;
    require(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())),
            "the monitor speaks the door's language");
    require(++heard_ <= kMostMessages * kMostOperations, "the monitor answers, and does not talk");
    settings_ = settings_ || message.has_settings();
    const std::uint32_t connection = message.connection();
    if (message.has_nonce()) {
      monitor::Nonce nonce{};
      require(message.nonce().nonce().size() == nonce.size(), "a nonce is 32 bytes");
      std::copy_n(message.nonce().nonce().begin(), nonce.size(), nonce.begin());
      require(seen_.insert(nonce).second, "a nonce is fresh");
      nonces_[connection] = nonce;
      entitled_.erase(connection);
    }
    if (message.has_part() || !message.blob().empty()) {
      require(message.has_part() && entitled_.contains(connection), "a secret only for a proof");
      require(message.blob().size() <= 32 * 1024, "a part is short");
    } else {
      require(bytes.find(kSecretText.substr(0, 8)) == bytes.npos, "no secret in another message");
    }
  }

  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  MonitorWorld world_{log_, outlets()};
  std::optional<monitor::NetworkerDoor> door_;
  std::optional<Peer> peer_;
  bool asked_ = false;
  bool greeted_ = false;
  bool broken_ = false;
  bool settings_ = false;
  std::size_t heard_ = 0;
  std::size_t together_ = 0;
  std::vector<ToMonitor> waiting_;
  std::map<std::uint32_t, std::string> addresses_;
  std::map<std::uint32_t, monitor::Nonce> nonces_;  // not used yet
  std::set<monitor::Nonce> seen_;
  std::set<std::uint32_t> entitled_;

  monitor::Registry::Outlets outlets() {
    auto out = quiet_outlets();
    out.waiting = [this](monitor::ConnectionId id) { return door_ ? door_->waiting(id) : nullptr; };
    out.grant = [this](monitor::ConnectionId id, monitor::SecretPtr secret) {
      require(monitor::NetworkerDoor::index_of(id) == 3, "a connection is its networker's");
      if (door_) door_->grant(id, std::move(secret));
    };
    out.refuse = [this](monitor::ConnectionId id) {
      if (door_) door_->refuse(id);
    };
    return out;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 8192) return 0;
  Input input(data, size);
  Scene().play(input);
  require_descriptors();
  return 0;
}
