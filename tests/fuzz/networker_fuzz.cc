// SPDX-License-Identifier: GPL-3.0-or-later
// The networker as shipped, its jail apart, between a monitor and peers that all are the fuzzer.
// The lowest bit of the first byte says whether the monitor begins with good settings; then follows
// a sequence of operations (kOperations below, each a byte and its operands). Whatever the monitor
// and the peers say, the networker keeps to the rules of its door, and shows a blob to nobody in
// clear.
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "networker/networker.h"
#include "tests/fuzz/peer.h"
#include "tests/fuzz/tls_server.h"
#include "tests/support/datagram.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using door::networker::ToMonitor;
using door::networker::ToNetworker;

constexpr std::size_t kMostOperations = 64;
constexpr std::size_t kMostPeers = 6;
constexpr std::string_view kBlob = "blob-blob-blob";

enum Operation : unsigned {
  kRaw,         // length (2 bytes), bytes: from the monitor
  kSettings,    // connections (1), per source (1), grace in units of 100 ms (1), penalty (1), level
                // (1), debug level of TLS (1), priority (1), listening sockets (1)
  kNonce,       // to which of the connections that are open (1), length (1: mostly 32)
  kPart,        // to which (1), length (2), last (1)
  kRefused,     // to which (1)
  kNumber,      // connection (4): what comes next is to this one
  kDescriptor,  // length (1), bytes: with a descriptor
  kConnect,     // shape (1) of a new peer, see tls_server.h
  kVersionLine,  // peer (1)
  kSay,          // peer (1), length (1), bytes
  kHandshake,    // peer (1): it reads and answers
  kSpoil,        // peer (1), place (2), bits (1): the same, with a byte turned over
  kLeave,        // peer (1)
  kServe,        // which (1): nonce, handshake and blob for that peer, all as it should be
  kListen,       // nothing
  kHangUp,       // nothing: the monitor does
  kOperations,
};

/// A stranger, or a client.
struct Client {
  explicit Client(unsigned shape) : server(shape, (shape & 4) != 0) {}
  TlsServer server;
  UniqueFd wire;
};

class Scene {
 public:
  explicit Scene(bool greet) : listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    // The kernel picks a name that no file has (unix(7), "Autobind feature").
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    require(
        bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)) == 0 &&
            listen(listener_.get(), 16) == 0,
        "a listening socket");
    auto pair = make_door();
    require(static_cast<bool>(pair), "socketpair");
    monitor_.emplace(std::move(pair->second));
    networker_.emplace(loop_, log(), std::move(pair->first), 1000, nothing_noted_);
    if (greet) settings({4, 4, 100, 0, 7, 0, 0, 1});
    listen_to_all();
  }
  ~Scene() {
    networker_.reset();
    gnutls_global_set_log_level(0);
  }

  void play(Input& input) {
    for (std::size_t i = 0; i < kMostOperations && !input.empty(); ++i) {
      step(input);
      listen_to_all();
    }
  }

 private:
  struct Known {
    bool nonce = false;
    bool proved = false;
    std::size_t parts = 0;
    std::size_t asked = 0;
    bool last = false;
  };

  /// GnuTLS's debug lines go to one log a process.
  static Log& log() {
    static auto pair = make_door();
    static Log made = Log::to_socket(pair->first.get(), LogLevel::kDebug);
    std::array<char, 2048> line{};
    while (recv(pair->second.get(), line.data(), line.size(), MSG_DONTWAIT) > 0) {
    }
    return made;
  }

  void settings(const std::array<std::uint8_t, 8>& values) {
    static const std::array<std::string, 6> priorities = {
        "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA",
        "NORMAL:-CTYPE-ALL:+CTYPE-RAWPK:-VERS-ALL:+VERS-TLS1.3",
        "NORMAL",
        "",
        "NORMAL:-CTYPE-ALL:+CTYPE-RAWPK:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL",
        "\xff%"};
    ToNetworker message;
    auto& to = *message.mutable_settings();
    to.set_max_connections(values[0]);
    to.set_max_per_source(values[1]);
    to.set_login_grace_ms(values[2] * 100U);
    to.set_penalty_ms(values[3]);
    to.set_penalty_threshold(values[3] % 4U);
    for (unsigned i = 0; i < values[3] % 3U; ++i) {
      to.set_penalty_exempt(concat(to.penalty_exempt(), values[3] % 16U == 15U ? "x" : " ", "::/",
                                   values[3] / 2U + i));
    }
    to.set_log_level(values[4]);
    to.set_tls_debug_level(values[5]);
    to.set_priority(priorities.at(values[6] % priorities.size()));
    const std::string bytes = message.SerializeAsString();
    monitor_->send(bytes, std::vector<int>(values[7] % 3U, listener_.get()));
  }

  /// The connection that the monitor's next word is about, and what is known of it.
  std::uint32_t pick(Input& input) {
    const std::size_t which = input.byte();
    if (number_) return *std::exchange(number_, std::nullopt);
    if (known_.empty()) return static_cast<std::uint32_t>(which);
    return std::next(known_.begin(), static_cast<std::ptrdiff_t>(which % known_.size()))->first;
  }
  Client* client(Input& input) {
    const std::size_t which = input.byte();
    return clients_.empty() ? nullptr : &clients_.at(which % clients_.size());
  }

  void nonce(std::uint32_t connection, std::size_t size) {
    ToNetworker message;
    message.set_connection(connection);
    message.mutable_nonce()->set_nonce(std::string(size, 'n'));
    if (const auto found = known_.find(connection); found != known_.end())
      found->second.nonce = true;
    monitor_->send(message.SerializeAsString());
  }
  void part(std::uint32_t connection, std::size_t size, bool last) {
    ToNetworker message;
    message.set_connection(connection);
    message.mutable_part()->set_last(last);
    while (message.blob().size() < size) message.mutable_blob()->append(kBlob);
    given_ = true;
    if (const auto found = known_.find(connection); found != known_.end()) {
      ++found->second.parts;
      found->second.last |= last;
    }
    monitor_->send(message.SerializeAsString());
  }
  void work(Client& peer) {
    read_wire(peer);
    peer.server.work();
    say(peer, std::exchange(peer.server.outbox, {}));
  }
  static void say(const Client& peer, std::string_view bytes) {
    if (bytes.empty() || !peer.wire) return;
    static_cast<void>(
        !send(peer.wire.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
  }

  void step(Input& input) {
    switch (input.below(kOperations)) {
      case kRaw:
        certain_ = false;
        return monitor_->send(input.sized(2));
      case kSettings: {
        std::array<std::uint8_t, 8> values{};
        for (auto& value : values) value = input.byte();
        return settings(values);
      }
      case kNonce: {
        const auto connection = pick(input);
        const std::size_t size = input.byte();
        return nonce(connection, size < 200 ? 32 : size - 200);
      }
      case kPart: {
        const auto connection = pick(input);
        const std::size_t size = input.size(2) % (33 * 1024);
        return part(connection, size, input.flag());
      }
      case kRefused: {
        ToNetworker message;
        message.set_connection(pick(input));
        message.mutable_refused();
        return monitor_->send(message.SerializeAsString());
      }
      case kNumber:
        number_ = static_cast<std::uint32_t>(input.number(4));
        return;
      case kDescriptor:
        return monitor_->send(input.sized(1), {listener_.get()});
      case kConnect: {
        const unsigned shape = input.byte();
        if (clients_.size() < kMostPeers) connect_one(shape);
        return;
      }
      case kVersionLine:
        if (Client* peer = client(input)) say(*peer, "1\r\n");
        return;
      case kSay: {
        Client* peer = client(input);
        const auto bytes = input.sized(1);
        if (peer != nullptr) say(*peer, bytes);
        return;
      }
      case kHandshake:
        if (Client* peer = client(input)) work(*peer);
        return;
      case kSpoil: {
        Client* peer = client(input);
        const auto place = input.size(2);
        const auto bits = input.byte();
        if (peer == nullptr) return;
        read_wire(*peer);
        peer->server.work();
        auto& outbox = peer->server.outbox;
        if (!outbox.empty()) {
          outbox[place % outbox.size()] = static_cast<char>(outbox[place % outbox.size()] ^ bits);
        }
        return say(*peer, std::exchange(outbox, {}));
      }
      case kLeave:
        if (Client* peer = client(input)) peer->wire.reset();
        return;
      case kServe:
        return serve(input.byte());
      case kListen:
        return;
      default:
        return monitor_->hang_up();
    }
  }

  void connect_one(unsigned shape) {
    Client& peer = clients_.emplace_back(shape);
    peer.wire.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    socklen_t size = sizeof address;
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    static_cast<void>(!connect(peer.wire.get(), reinterpret_cast<sockaddr*>(&address), size));
  }

  /// As it should be: the way to the end is long for a fuzzer.
  void serve(unsigned shape) {
    if (clients_.size() >= kMostPeers) return;
    connect_one(shape);
    Client& peer = clients_.back();
    const auto before = known_;
    say(peer, "1\r\n");
    listen_to_all();
    for (const auto& [number, state] : std::map(known_)) {
      if (!before.contains(number)) nonce(number, 32);
    }
    for (int i = 0; i < 4; ++i) {
      listen_to_all();
      work(peer);
    }
    listen_to_all();
    // Under its own number or one that was asked for ahead.
    for (const auto& [number, state] : std::map(known_)) {
      if (!state.proved || (before.contains(number) && before.at(number).proved)) continue;
      part(number, 100, (shape & 8) != 0);
      listen_to_all();
      work(peer);
      require(peer.server.received().starts_with(kBlob) || !certain_, "a client gets its blob");
    }
  }

  void read_wire(Client& peer) {
    if (!peer.wire) return;
    std::array<char, 65536> buffer{};
    ssize_t size = 0;
    while ((size = recv(peer.wire.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0) {
      const std::string_view bytes(buffer.data(), static_cast<std::size_t>(size));
      require(bytes.find(kBlob) == bytes.npos, "a blob crosses the wire in TLS only");
      peer.server.inbox += bytes;
    }
    require(peer.server.received().empty() || given_ || !certain_,
            "nothing is sent that was not given");
  }

  void listen_to_all() {
    for (int i = 0; i < 4; ++i) {
      loop_.run_once(Milliseconds(0));
      monitor_->receive([this](std::string_view bytes) { hear(bytes); });
    }
    log();
  }

  /// The rules of the monitor's door (monitor/doors/networker.cc).
  void hear(std::string_view bytes) {
    const auto messages = test::messages_of(bytes);
    require(messages.has_value(), "the networker speaks the door's language");
    require(!messages->empty() && messages->size() <= 4, "a datagram holds few messages");
    for (const auto& message : *messages) hear(message);
  }

  void hear(const ToMonitor& message) {
    const std::uint32_t number = message.connection();
    const std::size_t size = message.ByteSizeLong();
    if (message.has_greeting()) {
      require(!std::exchange(greeted_, true), "greeted once");
      require(size <= 1024, "a greeting is short");
      return;
    }
    require(greeted_, "the greeting comes first");
    if (message.has_pong()) return require(size <= 16, "a Pong is short");
    const auto found = known_.find(number);
    if (message.has_open()) {
      require(found == known_.end(), "a number is opened once");
      require(size <= 16, "an Open is short");
      known_[number] = {};
      return;
    }
    require(found != known_.end(), "a word is about an open connection");
    Known& known = found->second;
    if (message.has_proof()) {
      require(!std::exchange(known.proved, true), "a connection proves once");
      require(message.proof().transcript().size() <= 4096, "a transcript is short");
      require(message.proof().address().size() <= 64, "an address is short");
      require(known.nonce || !certain_, "a proof follows a nonce");
    } else if (message.has_next_part()) {
      ++known.asked;
      require(!certain_ || (known.proved && known.asked <= known.parts),
              "a part is asked for when the last one is written");
    } else {
      require(message.has_closed(), "every message has a meaning");
      require(!message.closed().delivered() || known.last || !certain_,
              "delivered is what was given");
      known_.erase(found);
    }
  }

  EventLoop loop_;
  UniqueFd listener_;
  std::optional<Peer> monitor_;
  networker::CrashNote nothing_noted_{-1};
  std::optional<networker::Networker> networker_;
  std::deque<Client> clients_;
  std::map<std::uint32_t, Known> known_;
  std::optional<std::uint32_t> number_;
  bool greeted_ = false;
  bool given_ = false;
  bool certain_ = true;  // what the monitor said is known, since none of it was raw
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 4096) return 0;
  static const bool warm = static_cast<bool>(networker::Tls::warm_up());
  require(warm, "warm_up");
  Input input(data, size);
  const bool greet = input.flag();
  Scene(greet).play(input);
  require_descriptors();
  return 0;
}
