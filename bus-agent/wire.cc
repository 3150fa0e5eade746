// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/wire.h"

#include <glib-unix.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "bus-agent/main_loop.h"
#include "bus-agent/outcome.h"

namespace mandos::bus_agent {
namespace {

// A secret of 1 MiB, each byte of it written as an integer of four, and what is around it.
constexpr std::uint64_t kMostMessage = 4UL * 1024 * 1024 + 65536;
constexpr std::size_t kUsualBuffer = 16384;
constexpr std::size_t kChunk = 65536;
constexpr std::size_t kLongestLine = 512;
// Messages read before others have their turn. Many: what one sender pours out stands before what
// others sent, and refusing it costs less than answering it.
constexpr int kMessagesPerRound = 2000;
constexpr char kSecret[] = "mandos-secret";

struct FreeError {
  void operator()(GError* error) const { g_error_free(error); }
};
using ErrorPtr = std::unique_ptr<GError, FreeError>;

bool would_block() { return errno == EAGAIN || errno == EINTR; }

template <class Callback>
guint watch(int fd, GIOCondition condition, Callback callback, gpointer self) {
  return g_unix_fd_add_full(G_PRIORITY_DEFAULT, fd, condition, callback, self, nullptr);
}

void stop(guint& source) {
  if (source != 0) g_source_remove(std::exchange(source, 0));
}

}  // namespace

SecretBytes* secret_of(GDBusMessage* call) {
  return static_cast<SecretBytes*>(g_object_get_data(G_OBJECT(call), kSecret));
}

Result<std::unique_ptr<Wire>> Wire::connect(const std::string& path, Handlers handlers) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (!fd ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_error(errno, path);
  }
  return std::unique_ptr<Wire>(new Wire(std::move(fd), std::move(handlers)));
}

Wire::Wire(UniqueFd fd, Handlers handlers)
    : fd_(std::move(fd)), handlers_(std::move(handlers)), buffer_(kUsualBuffer) {
  reading_ = watch(
      fd_.get(), static_cast<GIOCondition>(G_IO_IN | G_IO_HUP | G_IO_ERR),
      [](gint, GIOCondition, gpointer self) -> gboolean {
        static_cast<Wire*>(self)->readable();
        return G_SOURCE_CONTINUE;
      },
      this);
  // The user, whom the daemon knows from the kernel, in digits, each of them as two.
  std::string user;
  for (const char digit : std::to_string(geteuid())) {
    user += '3';
    user += digit;
  }
  append(std::string_view("\0", 1));
  append("AUTH EXTERNAL " + user + "\r\n");
}

Wire::~Wire() { abandon(); }

void Wire::abandon() {
  state_ = State::kClosed;
  stop(reading_);
  stop(writing_);
  stop(flushing_);
  explicit_bzero(buffer_.data(), buffer_.size());
}

void Wire::close(const std::string& why) {
  abandon();
  handlers_.on_closed(why);
}

void Wire::readable() {
  if (state_ == State::kAuthenticating) return authenticate();
  for (int i = 0; i < kMessagesPerRound && state_ == State::kReading; ++i) {
    if (!read_some()) return;
  }
}

// D-Bus specification, "Authentication Protocol". The daemon sends nothing after its answer before
// it is told to begin.
void Wire::authenticate() {
  std::array<char, kLongestLine> part{};
  const ssize_t size = recv(fd_.get(), part.data(), part.size(), MSG_DONTWAIT);
  if (size < 0 && would_block()) return;
  if (size <= 0) return close("it ends the connection");
  line_.append(part.data(), static_cast<std::size_t>(size));
  const auto end = line_.find("\r\n");
  if (end == std::string::npos && line_.size() < kLongestLine) return;
  if (!line_.starts_with("OK ") || end + 2 != line_.size()) {
    return close(concat("it answers \"", escaped(line_), "\""));
  }
  append("BEGIN\r\n");
  state_ = State::kReading;
  handlers_.on_ready();
}

bool Wire::read_some() {
  std::optional<Head> head = have_ < kHeadSize ? std::nullopt : read_head(buffer_);
  std::size_t wanted = kHeadSize;
  if (skip_ > 0) {
    wanted = std::min<std::uint64_t>(skip_, buffer_.size());
  } else if (head) {
    wanted = head->size <= kMostMessage ? head->size : head->body_at;
  }
  if (have_ < wanted) {
    const ssize_t size = recv(fd_.get(), buffer_.data() + have_, wanted - have_, MSG_DONTWAIT);
    if (size < 0 && would_block()) return false;
    if (size <= 0) {
      close("the bus has gone");
      return false;
    }
    have_ += static_cast<std::size_t>(size);
    if (have_ < wanted) return true;
  }
  if (skip_ > 0) {
    skip_ -= have_;
    explicit_bzero(buffer_.data(), have_);
    have_ = 0;
    return true;
  }
  if (!head) {  // the first bytes have just come
    head = read_head(buffer_);
    if (!head || head->body_at > kMostMessage) {
      close("it does not speak D-Bus");
      return false;
    }
    wanted = head->size <= kMostMessage ? head->size : head->body_at;
    // Only these few bytes are moved: no secret is left behind where they were.
    if (wanted > buffer_.size()) buffer_.resize(wanted);
    if (have_ < wanted) return true;
  }
  whole_message(*head);
  explicit_bzero(buffer_.data(), have_);
  skip_ = head->size - have_;
  have_ = 0;
  if (buffer_.size() > kUsualBuffer) std::vector<unsigned char>(kUsualBuffer).swap(buffer_);
  return true;
}

void Wire::whole_message(const Head& head) {
  const auto message = std::span(buffer_).first(have_);
  const auto fields = read_fields(head, message);
  if (!fields) return;
  if (message.size() < head.size) {
    return refuse(head, *fields, errors::kLimitsExceeded, "the message is too long");
  }
  auto secret = std::make_unique<SecretBytes>();
  const bool sets = take_secret(head, *fields, message, *secret);
  GError* failed = nullptr;
  Message parsed(g_dbus_message_new_from_blob(message.data(), message.size(),
                                              G_DBUS_CAPABILITY_FLAGS_NONE, &failed));
  const ErrorPtr error(failed);
  // What the daemon lets through and GLib does not read is no reason to leave the bus.
  if (parsed == nullptr) return refuse(head, *fields, errors::kInvalidArgs, error->message);
  if (sets) {
    g_object_set_data_full(G_OBJECT(parsed.get()), kSecret, secret.release(),
                           [](gpointer bytes) { delete static_cast<SecretBytes*>(bytes); });
  }
  handlers_.on_message(std::move(parsed));
}

void Wire::refuse(const Head& head, const Fields& fields, const char* error, const char* text) {
  if (head.type != G_DBUS_MESSAGE_TYPE_METHOD_CALL || !head.wants_answer || fields.sender.empty()) {
    return;
  }
  const Message reply(g_dbus_message_new());
  g_dbus_message_set_message_type(reply.get(), G_DBUS_MESSAGE_TYPE_ERROR);
  g_dbus_message_set_flags(reply.get(), G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
  g_dbus_message_set_reply_serial(reply.get(), head.serial);
  g_dbus_message_set_destination(reply.get(), std::string(fields.sender).c_str());
  g_dbus_message_set_error_name(reply.get(), error);
  g_dbus_message_set_body(reply.get(), g_variant_new("(s)", text));
  send(reply.get());
}

std::uint32_t Wire::send(GDBusMessage* message) {
  if (++serial_ == 0) ++serial_;
  g_dbus_message_set_serial(message, serial_);
  gsize size = 0;
  guchar* blob = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, nullptr);
  // Null: a message that cannot be, for example with text of a path that is none. It is left out.
  if (blob != nullptr) append({reinterpret_cast<const char*>(blob), size});
  g_free(blob);
  return serial_;
}

void Wire::append(std::string_view bytes) {
  if (state_ == State::kClosed) return;
  if (out_.empty() || out_.back().size() + bytes.size() > kChunk) out_.emplace_back();
  out_.back() += bytes;
  queued_ += bytes.size();
  // What is sent together is written together.
  if (writing_ == 0 && flushing_ == 0) {
    flushing_ = run_after(0, [this] {
      flushing_ = 0;
      flush();
    });
  }
}

void Wire::flush() {
  while (!out_.empty()) {
    const std::string_view rest = std::string_view(out_.front()).substr(written_);
    const ssize_t size = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size < 0 && would_block()) break;
    if (size < 0) return close("the bus has gone");
    written_ += static_cast<std::size_t>(size);
    queued_ -= static_cast<std::size_t>(size);
    if (written_ < out_.front().size()) continue;
    out_.pop_front();
    written_ = 0;
  }
  if (out_.empty()) {
    stop(writing_);
    handlers_.on_drained();
  } else if (writing_ == 0) {
    writing_ = watch(
        fd_.get(), G_IO_OUT,
        [](gint, GIOCondition, gpointer self) -> gboolean {
          static_cast<Wire*>(self)->flush();
          return G_SOURCE_CONTINUE;
        },
        this);
  }
}

}  // namespace mandos::bus_agent
