// SPDX-License-Identifier: GPL-3.0-or-later
// A connection to a message bus. Nothing here waits: connecting, authenticating, reading and
// writing all happen in the main loop, so a hanging bus daemon blocks nobody. GLib creates and
// parses the messages; their bytes are in our own buffers, which are wiped after use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bus-agent/callers.h"
#include "bus-agent/frame.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace mandos::bus_agent {

/// The new secret that came with a call, or null. The message owns it.
SecretBytes* secret_of(GDBusMessage* call);

class Wire {
 public:
  struct Handlers {
    std::function<void()> on_ready;  // authenticated: messages may be sent
    std::function<void(Message message)> on_message;
    std::function<void()> on_drained;  // everything is written
    /// The connection is dead, and makes no more calls. Do not destroy it in this handler.
    std::function<void(const std::string& why)> on_closed;
  };
  /// Starts to connect to the socket at `path`.
  static Result<std::unique_ptr<Wire>> connect(const std::string& path, Handlers handlers);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  /// No handler is called any more.
  void abandon();
  /// Queues `message` and returns its serial number. 0: it is longer than the bus
  /// allows.
  std::uint32_t send(GDBusMessage* message);
  /// Bytes that are not yet written.
  std::size_t queued() const { return queued_; }

 private:
  enum class State { kAuthenticating, kReading, kClosed };
  Wire(UniqueFd fd, Handlers handlers);

  void close(const std::string& why);
  void readable();
  void authenticate();
  /// Reads one message or less. False: the socket has nothing more to read.
  bool read_some();
  // What to do with `wanted_` bytes in the buffer.
  void begin_message();
  void continue_message();
  void skipped();
  /// Discards the buffer and skips `size` more bytes of the message.
  void skip(std::size_t size);
  void expect(std::size_t size);
  void whole_message(const Fields& fields);
  void refuse(std::string_view sender, const char* error, const char* text);
  void append(std::string_view bytes);
  void flush();

  UniqueFd fd_;
  Handlers handlers_;
  State state_ = State::kAuthenticating;
  std::string line_;                    // of the authentication
  std::vector<unsigned char> buffer_;   // starts with a message, unless that is skipped
  std::size_t have_ = 0;                // bytes in it
  std::size_t wanted_ = kHeadSize;      // bytes to read before the next step
  std::optional<Head> head_;            // of the present message
  std::optional<SenderSearch> search_;  // in a header that is too long to buffer
  std::size_t skip_ = 0;                // bytes to discard
  std::deque<std::string> out_;
  std::size_t written_ = 0;  // of the first of them
  std::size_t queued_ = 0;
  std::uint32_t serial_ = 0;
  guint reading_ = 0;
  guint writing_ = 0;
  guint flushing_ = 0;
};

}  // namespace mandos::bus_agent
