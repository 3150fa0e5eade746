// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

namespace mandos::networker {
namespace {

// Few, so that connections that were accepted are served before more are; the rest waits in the
// kernel's queue.
constexpr int kAcceptsPerRound = 8;

struct Option {
  int level;
  int name;
  int value;
};
// A peer that vanished silently is noticed after a minute and a half.
constexpr std::array<Option, 5> kInherited{{
    {IPPROTO_TCP, TCP_NODELAY, 1},
    {SOL_SOCKET, SO_KEEPALIVE, 1},
    {IPPROTO_TCP, TCP_KEEPIDLE, 30},
    {IPPROTO_TCP, TCP_KEEPINTVL, 15},
    {IPPROTO_TCP, TCP_KEEPCNT, 4},
}};

}  // namespace

Acceptor::Acceptor(EventLoop& loop, Log& log, std::vector<UniqueFd> listeners, Callbacks callbacks)
    : loop_(loop),
      log_(log),
      listeners_(std::move(listeners)),
      callbacks_(std::move(callbacks)),
      paused_(loop) {
  for (const auto& listener : listeners_) {
    // Fails only if this is not a socket; accept4 then reports it.
    fcntl(listener.get(), F_SETFL, O_RDWR | O_NONBLOCK);
    for (const auto& option : kInherited) {
      // Best effort: a socket that is not TCP does not have these options.
      setsockopt(listener.get(), option.level, option.name, &option.value, sizeof option.value);
    }
    const int fd = listener.get();
    loop_.watch(fd, EPOLLIN, [this, fd](std::uint32_t) { ready(fd); });
  }
}

Acceptor::~Acceptor() {
  for (const auto& listener : listeners_) loop_.unwatch(listener.get());
}

void Acceptor::ready(int listener) {
  for (int i = 0; i < kAcceptsPerRound && !paused_.is_set(); ++i) {
    if (const auto until = callbacks_.wait_for_room()) return pause(*until);
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    UniqueFd fd(
        accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      callbacks_.accepted(std::move(fd), peer);
      continue;
    }
    switch (errno) {
      case EAGAIN:
        return;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        if (const auto until = callbacks_.exhausted()) return pause(*until);
        break;
      case EBADF:
      case EFAULT:
      case EINVAL:
      case ENOTSOCK:
      case EOPNOTSUPP:
        log_.error("listening socket ", listener, " is given up: ",
                   std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): no threads
        loop_.unwatch(listener);
        std::erase_if(listeners_, [listener](const UniqueFd& l) { return l.get() == listener; });
        return;
      default:  // an error of that one connection, accept(2)
        break;
    }
  }
}

void Acceptor::pause(Instant until) {
  for (const auto& listener : listeners_) loop_.rewatch(listener.get(), 0);
  paused_.set(until, [this] { listen(); });
}

void Acceptor::resume() {
  if (!paused_.is_set()) return;
  paused_.cancel();
  listen();
}

void Acceptor::listen() {
  for (const auto& listener : listeners_) loop_.rewatch(listener.get(), EPOLLIN);
}

}  // namespace mandos::networker
