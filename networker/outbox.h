// SPDX-License-Identifier: GPL-3.0-or-later
// What is said to the monitor. Each datagram costs both ends a system call and often a switch of
// processes, so what can wait goes along with what cannot.
#pragma once

#include "common/channel.h"
#include "common/event_loop.h"
#include "networker/timer.h"

#include "networker.pb.h"

namespace mandos::networker {

class Outbox {
 public:
  /// References must outlive this. What was only added is lost with it.
  Outbox(EventLoop& loop, Door& monitor) : monitor_(monitor), timer_(loop) {}

  /// Says it now, after everything that was added before.
  void send(const door::networker::ToMonitor& message);
  /// Says it with what is sent next, a hundredth of a second from now at the latest. Lost when this
  /// process dies before.
  void add(const door::networker::ToMonitor& message);

 private:
  void put(const door::networker::ToMonitor& message);
  void flush();

  Door& monitor_;
  door::networker::Datagram datagram_;  // kept, so that its memory is
  Timer timer_;
};

}  // namespace mandos::networker
