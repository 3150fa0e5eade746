// SPDX-License-Identifier: GPL-3.0-or-later
// Accepts connections from the listening sockets, never faster than they can be served.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <optional>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "common/unique_fd.h"
#include "networker/timer.h"

namespace mandos::networker {

class Acceptor {
 public:
  struct Callbacks {
    /// Called before each accept. Returns nothing if there is room for one more, otherwise until
    /// when to wait (or until resume()).
    std::function<std::optional<Instant>()> wait_for_room;
    /// Called if the system has no descriptor or memory for one more; answers as above.
    std::function<std::optional<Instant>()> exhausted;
    /// `fd` is non-blocking.
    std::function<void(UniqueFd fd, const sockaddr_storage& peer)> accepted;
  };

  /// Makes `listeners` non-blocking and sets the options that accepted sockets inherit:
  /// TCP_NODELAY, and keep-alive, since a peer may wait hours for its approval.
  Acceptor(EventLoop& loop, Log& log, std::vector<UniqueFd> listeners, Callbacks callbacks);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  /// There is room again.
  void resume();

 private:
  void ready(int listener);
  void pause(Instant until);
  void listen();

  EventLoop& loop_;
  Log& log_;
  std::vector<UniqueFd> listeners_;
  Callbacks callbacks_;
  Timer paused_;
};

}  // namespace mandos::networker
