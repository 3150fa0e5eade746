// SPDX-License-Identifier: GPL-3.0-or-later
// What a bus daemon hands on: an input is how long its pieces are (2 bytes) and the bytes. Whatever
// they are, our reading stays within them; only what is no D-Bus ends the connection; and a secret
// that is taken out of a message leaves one that GLib reads as before.
#include <gio/gio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bus-agent/frame.h"
#include "bus-agent/wire.h"
#include "common/unique_fd.h"
#include "tests/fuzz/folder.h"
#include "tests/fuzz/input.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using namespace mandos::bus_agent;
using Bytes = std::vector<unsigned char>;

Message parse(Bytes& bytes) {
  return Message(g_dbus_message_new_from_blob(bytes.data(), bytes.size(),
                                              G_DBUS_CAPABILITY_FLAGS_NONE, nullptr));
}

void read_frame(const Bytes& bytes, std::size_t piece) {
  const auto head = read_head(bytes);
  if (!head) return;
  require(head->body_at >= kHeadSize && head->body_at % 8 == 0 && head->size >= head->body_at,
          "a message has a header and a body");
  const auto fields = read_fields(*head, bytes);
  if (bytes.size() < head->body_at) return require(!fields, "a header is read when it is there");
  const auto header = std::span(bytes).first(head->body_at);
  SenderSearch whole(*head);
  whole.feed(header.subspan(kHeadSize));
  SenderSearch pieces(*head);
  for (auto rest = header.subspan(kHeadSize); !rest.empty();) {
    const auto next = rest.first(std::min(piece, rest.size()));
    pieces.feed(next);
    rest = rest.subspan(next.size());
  }
  require(whole.sender() == pieces.sender(), "a sender is found in whatever pieces");
  require(whole.sender().size() <= 255, "a sender's name is bounded");
  if (bytes.size() != head->size) return;
  Bytes copy = bytes;
  const Message before = parse(copy);
  if (before != nullptr && fields) {
    const char* sender = g_dbus_message_get_sender(before.get());
    // GLib ends a text at a zero in it, which no daemon hands on.
    const auto to_zero = [](std::string_view text) { return text.substr(0, text.find('\0')); };
    require(to_zero(fields->sender) == (sender == nullptr ? "" : sender),
            "a sender is read as GLib does");
    require(sender == nullptr || to_zero(whole.sender()) == sender, "and is found as it is read");
  }
  SecretBytes secret;
  if (!fields || !take_secret(*head, *fields, copy, secret)) {
    return require(copy == bytes, "a message without a secret stays as it is");
  }
  require(may_set_secret(*fields), "a secret is in a message that may set one");
  require(secret.bytes.size() <= bytes.size(), "a secret is no longer than its message");
  const Message after = parse(copy);
  require((before == nullptr) == (after == nullptr), "GLib reads what is left");
  if (after == nullptr) return;
  require(g_str_equal(g_variant_get_type_string(g_dbus_message_get_body(after.get())),
                      g_variant_get_type_string(g_dbus_message_get_body(before.get()))),
          "its type is the same");
}

/// A bus that has greeted the wire and says what it likes.
class Daemon {
 public:
  Daemon() {
    static const Folder folder;
    static const UniqueFd listener = [] {
      UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      folder.file("bus").copy(address.sun_path, sizeof address.sun_path - 1);
      require(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                  listen(fd.get(), 1) == 0,
              "a socket cannot be made");
      return fd;
    }();
    auto connected = Wire::connect(
        folder.file("bus"),
        {.on_ready = [] {},
         .on_message = [this](Message message) { handed_on_ += message != nullptr ? 1U : 0U; },
         .on_drained = [] {},
         .on_closed = [this](const std::string&) { closed_ = true; }});
    require(static_cast<bool>(connected), "a connection cannot be made");
    wire_ = std::move(*connected);
    fd_.reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    say("OK 0123456789abcdef0123456789abcdef\r\n");
  }

  void say(std::string_view bytes) {
    while (!bytes.empty() && !closed_) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
      turn();
    }
  }
  bool closed() const { return closed_; }
  unsigned handed_on() const { return handed_on_; }

 private:
  void turn() {
    std::array<char, 65536> unheard{};
    while (g_main_context_iteration(nullptr, FALSE)) {
      while (recv(fd_.get(), unheard.data(), unheard.size(), MSG_DONTWAIT) > 0) {
      }
    }
  }

  UniqueFd fd_;
  std::unique_ptr<Wire> wire_;
  bool closed_ = false;
  unsigned handed_on_ = 0;
};

void read_stream(const Bytes& bytes, std::size_t piece) {
  // Whether it is messages throughout, and how many are whole.
  bool valid = true;
  unsigned whole = 0;
  for (auto rest = std::span(bytes); valid && rest.size() >= kHeadSize;) {
    const auto head = read_head(rest);
    valid = head.has_value();
    if (!head || head->size > rest.size()) break;
    ++whole;
    rest = rest.subspan(head->size);
  }
  Daemon daemon;
  for (auto rest = text_of(bytes.data(), bytes.size()); !rest.empty();) {
    daemon.say(rest.substr(0, piece));
    rest.remove_prefix(std::min(piece, rest.size()));
  }
  require(daemon.closed() != valid, "only what is no D-Bus ends the connection");
  require(daemon.handed_on() <= whole, "only whole messages are handed on");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 65536) return 0;
  Input input(data, size);
  const std::size_t piece = input.size(2) + 1;
  const std::string_view rest = input.rest();
  const Bytes bytes(rest.begin(), rest.end());
  read_frame(bytes, piece);
  read_stream(bytes, piece);
  return 0;
}
