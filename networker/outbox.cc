// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/outbox.h"

#include "proto/networker.h"
namespace mandos::networker {
namespace {

using door::networker::ToMonitor;

constexpr Milliseconds kLongestWait{10};

}  // namespace

void Outbox::put(const ToMonitor& message) { message.SerializeToString(datagram_.add_messages()); }

void Outbox::send(const ToMonitor& message) {
  put(message);
  flush();
}

void Outbox::add(const ToMonitor& message) {
  put(message);
  if (datagram_.messages_size() == door::networker::kMostMessages) return flush();
  // It may fire for nothing: cheaper than to set it anew for each message.
  if (!timer_.is_set()) timer_.set(BootClock::now() + kLongestWait, [this] { flush(); });
}

void Outbox::flush() {
  if (datagram_.messages().empty()) return;
  monitor_.send(datagram_);
  datagram_.clear_messages();
}

}  // namespace mandos::networker
