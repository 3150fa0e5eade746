// SPDX-License-Identifier: GPL-3.0-or-later
// A peer that speaks TLS 1.3 and then does not, towards one connection of the networker. The first
// byte says what key it has (two bits) and whether it wants another key share (the next); then
// follows a sequence of operations (kOperations below, each a byte and its operands). An honest
// peer's transcript is a proof; a transcript that the monitor accepts is one that GnuTLS accepts;
// the blob crosses the wire in TLS and whole.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "monitor/proof.h"
#include "networker/connection.h"
#include "tests/fuzz/tls_server.h"
#include "tests/support/reference_verifier.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using networker::Connection;
using Event = Connection::Event;

constexpr std::size_t kMostOperations = 48;
constexpr std::string_view kBlob = "blob-blob-blob";
constexpr std::size_t kRecordHeader = 5;

enum Operation : unsigned {
  kVersionLine,  // nothing: a good one
  kRaw,          // length (1 byte), bytes
  kNonce,        // nothing: the monitor's word, if it is wanted
  kWork,         // nothing: the peer reads and answers
  kForward,      // nothing: its records reach the networker
  kForwardSome,  // how many bytes (2)
  kFlip,         // place (2), bits (1) in its records
  kDrop,         // which record (1)
  kDouble,       // which record (1)
  kSwap,         // which record (1) with the next
  kRetype,       // which record (1), type (1)
  kResize,       // which record (1), length (2)
  kInsert,       // before which record (1), type (1), length (1), bytes
  kLie,          // handshake type (1), place (2), bits (1): in a message to come
  kPart,         // length (2), last (1): the monitor's word, if it is wanted
  kHangUp,       // nothing
  kOperations,
};

class Scene {
 public:
  explicit Scene(unsigned shape) : server_(shape, (shape & 4) != 0) {
    std::array<int, 2> fds{};
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) == 0,
            "socketpair");
    wire_.reset(fds[0]);
    connection_.emplace(UniqueFd(fds[1]));
    std::ranges::fill(nonce_, static_cast<std::uint8_t>(shape | 1));
  }

  void play(Input& input) {
    for (std::size_t i = 0; i < kMostOperations && !input.empty() && !over_; ++i) step(input);
    // What has been delivered arrives.
    if (delivered_ && !meddled_) {
      read_wire();
      server_.work();
      require(server_.received() == given_ && server_.closed(), "a blob arrives whole and ends");
    }
    require(std::string_view(given_).starts_with(server_.received()),
            "nothing but the blob arrives");
  }

 private:
  static networker::Tls& tls() {
    static const auto made = [] {
      require(static_cast<bool>(networker::Tls::warm_up()), "warm_up");
      // As shipped, and with the groups of a retry.
      auto tls = networker::Tls::make(
          "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA");
      require(static_cast<bool>(tls), "Tls");
      return *std::move(tls);
    }();
    return *made;
  }

  void step(Input& input) {
    switch (input.below(kOperations)) {
      case kVersionLine:
        return to_networker("1\r\n");
      case kRaw:
        meddled_ = true;
        return to_networker(input.sized(1));
      case kNonce:
        if (connection_->wants_nonce()) happened(connection_->nonce(nonce_, tls()));
        return;
      case kWork:
        read_wire();
        look();
        return server_.work();
      case kForward:
        return to_networker(std::exchange(server_.outbox, {}));
      case kForwardSome: {
        const auto size = std::min(input.size(2), server_.outbox.size());
        const std::string some = server_.outbox.substr(0, size);
        server_.outbox.erase(0, size);
        return to_networker(some);
      }
      case kPart: {
        const std::size_t size = input.size(2) % (32 * 1024 + 1);
        const bool last = input.flag();
        if (!connection_->wants_part()) return;
        std::string part;
        while (part.size() < size) part += kBlob;
        given_ += part;
        return happened(connection_->part(as_bytes(part), last, tls()));
      }
      case kLie: {
        const unsigned type = input.byte();
        const auto place = input.size(2);
        return server_.spoil(type, place, input.byte());
      }
      case kHangUp:
        meddled_ = true;
        shutdown(wire_.get(), SHUT_WR);
        return look(true);
      case kFlip: {
        const auto place = input.size(2);
        const auto bits = input.byte();
        if (server_.outbox.empty()) return;
        char& byte = server_.outbox[place % server_.outbox.size()];
        byte = static_cast<char>(byte ^ bits);
        meddled_ = true;
        return;
      }
      case kDrop:
        return edit(input, [](auto& records, auto at) { records.erase(at); });
      case kDouble:
        return edit(input, [](auto& records, auto at) {
          const std::string copy = *at;
          records.insert(at, copy);
        });
      case kSwap:
        return edit(input, [](auto& records, auto at) {
          if (at + 1 != records.end()) std::iter_swap(at, at + 1);
        });
      case kRetype: {
        return edit(input, [&](auto&, auto at) { (*at)[0] = static_cast<char>(input.byte()); });
      }
      case kResize:
        return edit(input, [&](auto&, auto at) {
          if (at->size() < kRecordHeader) return;
          (*at)[3] = static_cast<char>(input.byte());
          (*at)[4] = static_cast<char>(input.byte());
        });
      case kInsert:
        return edit(input, [&](auto& records, auto at) {
          const char type = static_cast<char>(input.byte());
          const auto content = input.sized(1);
          std::string record{type, 3, 3, 0, static_cast<char>(content.size())};
          records.insert(at, record.append(content));
        });
      default:
        return;
    }
  }

  /// Changes one of the records that wait to be sent.
  template <class Change>
  void edit(Input& input, Change change) {
    const std::size_t which = input.byte();
    std::vector<std::string> records;
    std::string_view rest = server_.outbox;
    while (!rest.empty()) {
      std::size_t size = rest.size();
      if (rest.size() >= kRecordHeader) {
        const auto high = static_cast<unsigned char>(rest[3]);
        size = kRecordHeader + (std::size_t{high} << 8 | static_cast<unsigned char>(rest[4]));
      }
      records.emplace_back(rest.substr(0, size));
      rest.remove_prefix(records.back().size());
    }
    if (records.empty()) return;
    meddled_ = true;
    change(records, records.begin() + static_cast<std::ptrdiff_t>(which % records.size()));
    server_.outbox.clear();
    for (const auto& record : records) server_.outbox += record;
  }

  void to_networker(std::string_view bytes) {
    if (!bytes.empty())
      static_cast<void>(!send(wire_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
    look();
  }

  /// As the event loop would: until nothing comes any more.
  void look(bool hung_up = false) {
    for (int i = 0; i < 64 && !over_; ++i) {
      char probe = 0;
      const bool readable = recv(connection_->fd(), &probe, 1, MSG_PEEK) > 0;
      const std::uint32_t events = (readable ? std::uint32_t{EPOLLIN} : 0U) |
                                   (hung_up ? EPOLLIN | EPOLLRDHUP : 0U) |
                                   (connection_->wants_write() ? std::uint32_t{EPOLLOUT} : 0U);
      if (events == 0) break;
      happened(connection_->ready(events, tls()));
      if (!over_ && connection_->wants_write()) read_wire();
    }
  }

  void happened(Event event) {
    require(tls().output.empty(), "the shared buffer is left empty");
    switch (event) {
      case Event::kGone:
      case Event::kBroken:
        require(!connection_->problem().empty(), "an end has a reason");
        over_ = true;
        break;
      case Event::kDelivered:
        over_ = delivered_ = true;
        break;
      case Event::kProved:
        require(!std::exchange(proved_, true), "a connection proves once");
        return judge(connection_->take_transcript());
      default:
        break;
    }
  }

  void judge(const std::string& transcript) {
    require(transcript.size() <= door::networker::kLongestTranscript, "a transcript is short");
    const auto result =
        monitor::check_proof(as_bytes(transcript), nonce_, [](const auto&) { return true; });
    const bool proven = result.verdict == monitor::ProofResult::Verdict::kProven;
    require(proven || server_.has_lied(), "an honest peer's transcript is a proof", result.reason);
    require(!proven ||
                test::reference_accepts(test::bytes_of(transcript), {nonce_.begin(), nonce_.end()}),
            "a proof is one for GnuTLS, too");
  }

  void read_wire() {
    std::array<char, 65536> buffer{};
    ssize_t size = 0;
    while ((size = recv(wire_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0) {
      const std::string_view bytes(buffer.data(), static_cast<std::size_t>(size));
      require(bytes.find(kBlob) == bytes.npos, "a blob crosses the wire in TLS only");
      server_.inbox += bytes;
    }
  }

  TlsServer server_;
  UniqueFd wire_;
  std::optional<Connection> connection_;
  monitor::Nonce nonce_{};
  std::string given_;
  bool over_ = false;
  bool proved_ = false;
  bool delivered_ = false;
  bool meddled_ = false;  // what the peer said is not what it was told to say
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 4096) return 0;
  Input input(data, size);
  const unsigned shape = input.byte();
  Scene(shape).play(input);
  return 0;
}
