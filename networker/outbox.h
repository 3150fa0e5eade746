// SPDX-License-Identifier: GPL-3.0-or-later
// Messages to the monitor. Each datagram costs both ends a system call and often a context switch,
// so a message that can wait is sent together with one that cannot.
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

  /// Sends the message now, after everything that was added before.
  void send(const door::networker::ToMonitor& message);
  /// Sends the message with the next one, or after a hundredth of a second. It is lost if this
  /// process dies before that.
  void add(const door::networker::ToMonitor& message);

 private:
  void put(const door::networker::ToMonitor& message);
  void flush();

  Door& monitor_;
  door::networker::Datagram datagram_;  // kept, so that its memory is
  Timer timer_;
};

}  // namespace mandos::networker
