// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "common/text.h"
#include "networker/version_line.h"

namespace mandos::networker {
namespace {

// A peer has nothing to send after its handshake, but alerts and tickets are no offense.
constexpr std::size_t kMaxLate = 16384;

}  // namespace

Connection::Event Connection::gone(std::string why) {
  problem_ = std::move(why);
  return Event::kGone;
}

Connection::Event Connection::broken(std::string why) {
  problem_ = std::move(why);
  return Event::kBroken;
}

Connection::Event Connection::ready(std::uint32_t events, Tls& tls) {
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) return gone("connection lost");
  // A peer that hung up gets no handshake, but a bad version line still counts against it.
  const bool hung_up = (events & EPOLLRDHUP) != 0;
  if (hung_up && state_ != State::kVersionLine) return gone("the peer hung up");
  if ((events & EPOLLOUT) != 0 && wants_write()) {
    const Event event = flush(tls);
    if (event != Event::kNone) return event;
  }
  if ((events & EPOLLIN) == 0) return Event::kNone;

  const std::size_t most = session_ == nullptr ? kMaxVersionLine - early_.size() : tls.input.size();
  if (most == 0) return broken("the peer sent data before its turn");
  const ssize_t size = recv(fd_.get(), tls.input.data(), most, 0);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return Event::kNone;
    return gone(std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): no threads
  }
  if (size == 0) return gone("the peer hung up");
  const Bytes received(tls.input.data(), static_cast<std::size_t>(size));
  switch (state_) {
    case State::kVersionLine: {
      const Event event = read_early(received);
      return hung_up && event != Event::kBroken ? gone("the peer hung up") : event;
    }
    case State::kNonce:
      early_.append(received.begin(), received.end());
      return Event::kNone;
    case State::kHandshake:
      return handshake(received, tls);
    case State::kVerdict:
    case State::kNextPart:
    case State::kWriting:
      late_ += received.size();
      return late_ > kMaxLate ? broken("the peer sent too much after the handshake") : Event::kNone;
  }
  return Event::kNone;
}

Connection::Event Connection::read_early(Bytes received) {
  early_.append(received.begin(), received.end());
  const std::size_t newline = early_.find('\n', early_.size() - received.size());
  if (newline == std::string::npos) {
    return early_.size() < kMaxVersionLine ? Event::kNone : broken("version line too long");
  }
  if (!speaks_our_version(std::string_view(early_).substr(0, newline))) {
    return broken("no version line that we understand");
  }
  early_.erase(0, newline + 1);
  state_ = State::kNonce;
  return Event::kSpoke;
}

Connection::Event Connection::nonce(Bytes nonce, Tls& tls) {
  session_ = std::make_unique<TlsSession>(tls, nonce);
  state_ = State::kHandshake;
  const std::string early = std::move(early_);
  early_ = {};
  return handshake(as_bytes(early), tls);
}

Connection::Event Connection::handshake(Bytes received, Tls& tls) {
  const auto step = session_->handshake(received);
  if (step == TlsSession::Step::kMore) {
    if (!tls.output.empty()) {
      const Event flushed = flush(tls);
      return flushed == Event::kNone ? Event::kAnswered : flushed;
    }
    // A peer that sends its flight in small pieces waits for the acknowledgment of the first before
    // it sends the rest; our kernel would delay that by 40 ms.
    const int yes = 1;
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof yes);
    return Event::kNone;
  }
  // The end of the handshake is sent together with the secret, if that comes within the 200 ms for
  // which the kernel waits for more (tcp(7), TCP_CORK).
  const Event flushed = flush(tls, step == TlsSession::Step::kDone ? MSG_MORE : 0);
  if (step == TlsSession::Step::kFailed) {
    return broken(concat("TLS handshake: ", session_->problem()));
  }
  if (flushed != Event::kNone) return flushed;
  state_ = State::kVerdict;
  return Event::kProved;
}

Connection::Event Connection::part(Bytes bytes, bool last, Tls& tls) {
  state_ = State::kWriting;
  last_part_ = last;
  if (!session_->send(bytes)) {
    tls.output.clear();
    return gone(concat("TLS: ", session_->problem()));
  }
  if (last) session_->say_goodbye();
  if (tls.output.empty()) return written();
  return flush(tls);
}

Connection::Event Connection::written() {
  if (state_ != State::kWriting) return Event::kNone;
  if (last_part_) return Event::kDelivered;
  state_ = State::kNextPart;
  return Event::kWritten;
}

Connection::Event Connection::flush(Tls& tls, int flags) {
  // Queued bytes go first; the session's present output is appended to them.
  auto& output = unsent_.empty() ? tls.output : unsent_;
  if (&output == &unsent_) {
    unsent_.insert(unsent_.end(), tls.output.begin(), tls.output.end());
    tls.output.clear();
  }
  if (output.empty()) return Event::kNone;
  const ssize_t sent = send(fd_.get(), output.data(), output.size(), MSG_NOSIGNAL | flags);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) {
    tls.output.clear();
    return gone(std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): no threads
  }
  if (static_cast<std::size_t>(sent) == output.size()) {
    tls.output.clear();
    std::vector<unsigned char>().swap(unsent_);
    return written();
  }
  if (sent > 0 || unsent_.empty()) last_progress_ = BootClock::now();
  const auto taken = static_cast<std::ptrdiff_t>(sent > 0 ? sent : 0);
  if (&output == &unsent_) {
    unsent_.erase(unsent_.begin(), unsent_.begin() + taken);
  } else {
    unsent_.assign(tls.output.begin() + taken, tls.output.end());
    tls.output.clear();
  }
  return Event::kNone;
}

}  // namespace mandos::networker
