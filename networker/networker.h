// SPDX-License-Identifier: GPL-3.0-or-later
// The networker's end of the door: gets its settings from the monitor and passes on its messages.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "common/log.h"
#include "networker/connections.h"
#include "networker/tls.h"
#include "proto/networker.h"

#include "networker.pb.h"

namespace mandos::networker {

class Networker {
 public:
  /// Stops `loop` when the work is over: with 0 if the monitor closes the door, with 1 if it
  /// violates the door's rules or sends unusable settings. At most `max_files` descriptors may be
  /// open in this process. All references must outlive this object.
  Networker(EventLoop& loop, Log& log, UniqueFd door, std::size_t max_files, CrashNote& crash_note);

 private:
  void received(Channel::Datagram datagram);
  /// The Error is reported to the monitor.
  Status start(const door::networker::ToNetworker::Settings& settings,
               std::vector<UniqueFd> listeners);
  bool obey();
  void stop(std::string_view why);

  EventLoop& loop_;
  Log& log_;
  std::size_t max_files_;
  CrashNote& crash_note_;
  bool stopped_ = false;
  Door door_;
  std::unique_ptr<Tls> tls_;
  std::optional<Connections> connections_;
  // One object for all messages, so that its memory is reused.
  door::networker::ToNetworker message_;
};

}  // namespace mandos::networker
