// SPDX-License-Identifier: GPL-3.0-or-later
// One connection of a client: version line, TLS handshake, waiting for the verdict, the blob,
// close_notify.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/unique_fd.h"
#include "networker/tls.h"

namespace mandos::networker {

/// Has its socket and its TLS session, and knows neither the door nor other connections. Small
/// until the peer has sent something. Each call returns at most one event; after kGone, kBroken and
/// kDelivered, only problem() may be called.
class Connection {
 public:
  enum class Event {
    kNone,
    kSpoke,      // a good version line: a nonce is wanted
    kAnswered,   // a ClientHello has reached the kernel: it is the peer's turn
    kProved,     // handshake complete: take_transcript(), a verdict is wanted
    kWritten,    // the part has reached the kernel: the next one is wanted
    kDelivered,  // the last part and close_notify have reached the kernel
    kGone,       // the peer hung up
    kBroken,     // the peer broke the protocol
  };

  /// `fd` is a connected non-blocking socket.
  explicit Connection(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }

  /// Call with the epoll(7) events of fd(), and once with EPOLLIN at the start: there may be data.
  Event ready(std::uint32_t events, Tls& tls);

  /// True from kSpoke until nonce() is called.
  bool wants_nonce() const { return state_ == State::kNonce; }
  /// Begins the handshake with ClientHello.random = `nonce`, which is 32 bytes.
  Event nonce(Bytes nonce, Tls& tls);
  /// Call once, after kProved.
  std::string take_transcript() { return session_->take_transcript(); }

  /// True after kProved, and after kWritten of a part that was not the last one, until part().
  bool wants_part() const { return state_ == State::kVerdict || state_ == State::kNextPart; }
  /// Encrypts and sends `bytes`, which need not outlive the call.
  Event part(Bytes bytes, bool last, Tls& tls);

  /// Whether to watch EPOLLOUT, in addition to EPOLLIN and EPOLLRDHUP.
  bool wants_write() const { return !unsent_.empty(); }
  /// When the kernel last accepted queued bytes. Only while wants_write().
  Instant last_progress() const { return last_progress_; }
  /// We wait for the peer from `now` on.
  void wait_anew(Instant now) { last_progress_ = now; }

  /// The peer has not sent anything yet.
  bool silent() const { return state_ == State::kVersionLine && early_.empty(); }

  /// Why it ended, for the log; contains no text that the peer can choose freely.
  const std::string& problem() const { return problem_; }

 private:
  enum class State { kVersionLine, kNonce, kHandshake, kVerdict, kNextPart, kWriting };

  Event gone(std::string why);
  Event broken(std::string why);
  Event read_early(Bytes received);
  Event handshake(Bytes received, Tls& tls);
  Event flush(Tls& tls, int flags = 0);
  Event written();

  UniqueFd fd_;
  State state_ = State::kVersionLine;
  bool last_part_ = false;
  // Input before the TLS session exists: the version line so far, then what followed it.
  std::string early_;
  // Bytes that came after the handshake and were discarded.
  std::size_t late_ = 0;
  std::unique_ptr<TlsSession> session_;
  std::vector<unsigned char> unsent_;
  Instant last_progress_{};
  std::string problem_;
};

}  // namespace mandos::networker
