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

#include "bus-agent/client_object.h"
#include "bus-agent/main_loop.h"
#include "bus-agent/outcome.h"

namespace mandos::bus_agent {
namespace {

// GLib uses up to a hundred times as much memory for a parsed message. Only a setting of a secret
// is longer; no answer that we request is (not even for a user in 65,536 groups).
constexpr std::size_t kMostUsual = 256UL * 1024 + 65536;
// A secret of 1 MiB, with each byte written as an integer of four bytes, plus overhead.
constexpr std::size_t kMostMessage = 4UL * 1024 * 1024 + 65536;
// The bus daemon's default limit. It closes the connection of a sender of more.
constexpr std::size_t kMostSent = 32UL * 1024 * 1024;
// Bytes that may be queued for a bus that does not read; beyond this, refusals are dropped.
constexpr std::size_t kMostUnread = 1024UL * 1024;
constexpr std::size_t kUsualBuffer = 16384;
constexpr std::size_t kChunk = 65536;
constexpr std::size_t kLongestLine = 512;
// Messages read per round. Many, because the flood of one sender is ahead of the messages of
// others, and refusing a message costs less than answering it.
constexpr int kMessagesPerRound = 2000;
constexpr char kSecret[] = "mandos-secret";
constexpr char kTooLong[] = "the message is too long";

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
  // The user ID, which the daemon knows from the kernel, as hexadecimal codes of decimal digits.
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

// D-Bus specification, "Authentication Protocol". After its answer, the daemon sends nothing until
// it gets BEGIN.
void Wire::authenticate() {
  std::array<char, kLongestLine> part{};
  const ssize_t size = recv(fd_.get(), part.data(), part.size(), MSG_DONTWAIT);
  if (size < 0 && would_block()) return;
  if (size <= 0) return close("it ends the connection");
  line_.append(part.data(), static_cast<std::size_t>(size));
  const auto end = line_.find("\r\n");
  if (end == std::string::npos && line_.size() < kLongestLine) return;
  if (!line_.starts_with("OK ") || end + 2 != line_.size()) {
    return close(concat("it answers '", escaped(line_), "'"));
  }
  append("BEGIN\r\n");
  state_ = State::kReading;
  handlers_.on_ready();
}

bool Wire::read_some() {
  if (have_ < wanted_) {
    const ssize_t size = recv(fd_.get(), buffer_.data() + have_, wanted_ - have_, MSG_DONTWAIT);
    if (size < 0 && would_block()) return false;
    if (size <= 0) {
      close("the bus has gone");
      return false;
    }
    have_ += static_cast<std::size_t>(size);
    if (have_ < wanted_) return true;
  }
  if (skip_ > 0) {
    skipped();
  } else if (!head_) {
    begin_message();
  } else {
    continue_message();
  }
  return state_ == State::kReading;
}

void Wire::begin_message() {
  head_ = read_head(buffer_);
  // The daemon delivers only valid messages, so this is not a bus.
  if (!head_) return close("it does not speak D-Bus");
  if (head_->body_at <= kMostUsual) {
    return expect(head_->size <= kMostUsual ? head_->size : head_->body_at);
  }
  search_.emplace(*head_);
  skip(head_->body_at - have_);
}

void Wire::expect(std::size_t size) {
  wanted_ = size;
  // Only the header of the message may be moved, so that no copy of a secret is left behind.
  if (size > buffer_.size()) buffer_.resize(size);
}

void Wire::continue_message() {
  if (const auto fields = read_fields(*head_, std::span(buffer_).first(have_))) {
    if (have_ < head_->size && head_->size <= kMostMessage && may_set_secret(*fields)) {
      return expect(head_->size);
    }
    whole_message(*fields);
  }
  skip(head_->size - have_);
}

void Wire::skip(std::size_t size) {
  explicit_bzero(buffer_.data(), have_);
  have_ = 0;
  if (buffer_.size() > kUsualBuffer) std::vector<unsigned char>(kUsualBuffer).swap(buffer_);
  skip_ = size;
  wanted_ = size > 0 ? std::min(size, buffer_.size()) : kHeadSize;
  if (size == 0) head_.reset();
}

void Wire::skipped() {
  std::size_t left = skip_ - have_;
  if (search_) search_->feed(std::span(buffer_).first(have_));
  if (search_ && left == 0) {
    refuse(search_->sender(), errors::kLimitsExceeded, kTooLong);
    search_.reset();
    left = head_->size - head_->body_at;
  }
  skip(left);
}

void Wire::whole_message(const Fields& fields) {
  const auto message = std::span(buffer_).first(have_);
  if (message.size() < head_->size) return refuse(fields.sender, errors::kLimitsExceeded, kTooLong);
  auto secret = std::make_unique<SecretBytes>();
  const bool sets = take_secret(*head_, fields, message, *secret);
  if (!sets && message.size() > kMostUsual) {
    return refuse(fields.sender, errors::kLimitsExceeded, kTooLong);
  }
  GError* failed = nullptr;
  Message parsed(g_dbus_message_new_from_blob(message.data(), message.size(),
                                              G_DBUS_CAPABILITY_FLAGS_NONE, &failed));
  const ErrorPtr error(failed);
  // A message that the daemon accepts and GLib cannot parse is no reason to leave the bus.
  if (parsed == nullptr) return refuse(fields.sender, errors::kInvalidArgs, error->message);
  if (sets) {
    g_object_set_data_full(G_OBJECT(parsed.get()), kSecret, secret.release(),
                           [](gpointer bytes) { delete static_cast<SecretBytes*>(bytes); });
  }
  handlers_.on_message(std::move(parsed));
}

void Wire::refuse(std::string_view sender, const char* error, const char* text) {
  const std::string to(sender);
  if (head_->type != G_DBUS_MESSAGE_TYPE_METHOD_CALL || !head_->wants_answer ||
      queued_ > kMostUnread || !g_dbus_is_name(to.c_str())) {
    return;
  }
  const Message reply(g_dbus_message_new());
  g_dbus_message_set_message_type(reply.get(), G_DBUS_MESSAGE_TYPE_ERROR);
  g_dbus_message_set_flags(reply.get(), G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
  g_dbus_message_set_reply_serial(reply.get(), head_->serial);
  g_dbus_message_set_destination(reply.get(), to.c_str());
  g_dbus_message_set_error_name(reply.get(), error);
  // GLib may quote part of the message.
  g_dbus_message_set_body(reply.get(), g_variant_new("(@s)", text_variant(text)));
  send(reply.get());
}

std::uint32_t Wire::send(GDBusMessage* message) {
  if (++serial_ == 0) ++serial_;
  g_dbus_message_set_serial(message, serial_);
  gsize size = 0;
  guchar* blob = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, nullptr);
  const bool fits = size <= kMostSent;
  // Null: an invalid message, for example with an invalid object path. It is dropped.
  if (blob != nullptr && fits) append({reinterpret_cast<const char*>(blob), size});
  g_free(blob);
  return fits ? serial_ : 0;
}

void Wire::append(std::string_view bytes) {
  if (state_ == State::kClosed) return;
  if (out_.empty() || out_.back().size() + bytes.size() > kChunk) out_.emplace_back();
  out_.back() += bytes;
  queued_ += bytes.size();
  // Messages that are sent together are written together.
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
