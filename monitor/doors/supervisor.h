// SPDX-License-Identifier: GPL-3.0-or-later
// The door to the supervisor: asks for processes, gets their doors.
#pragma once

#include <supervisor.pb.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "monitor/listeners.h"

namespace mandos::monitor {

using door::supervisor::Role;

class SupervisorDoor {
 public:
  struct Handlers {
    /// `message` says why this monitor was started.
    std::function<void(const door::supervisor::ToMonitor::Begin& message,
                       std::vector<UniqueFd> listeners)>
        begin;
    /// A process runs. `door` and `log` are the monitor's ends of its door and its log socket.
    std::function<void(const door::supervisor::ToMonitor::Started&, UniqueFd door, UniqueFd log)>
        started;
    /// reloaded() follows, at once or later.
    std::function<void(std::uint64_t serial)> reload;
    /// Bring everything to disk and exit: the supervisor asked for it, or is gone.
    std::function<void()> stop;
  };
  SupervisorDoor(EventLoop& loop, UniqueFd door, Handlers handlers);

  void start(Role role, std::uint32_t index);
  void restart(Role role, std::uint32_t index, pid_t pid, bool hangs);
  void serves(Role role, std::uint32_t index, pid_t pid);
  void keep(const std::vector<int>& listeners, bool inherited, std::string_view settings);
  /// Binds the listening sockets to this interface. 0: there is none, and they receive nothing.
  void listen(unsigned interface) {
    tell([&](auto& message) {
      message.mutable_listen()->set_interface(interface != 0 ? interface : unsigned{kNoInterface});
    });
  }
  void status_text(const std::string& text) {
    tell([&](auto& message) { message.mutable_status_text()->set_text(text); });
  }
  /// `state`: the directory of the saved state, as directory_at() names it; empty: none.
  void ready(const std::string& state, bool complete, const std::vector<std::string>& lines);
  /// `yields`: everything is on disk, and a fresh monitor may take over.
  void reloaded(std::uint64_t serial, bool ok, const std::vector<std::string>& lines,
                bool yields = false);

 private:
  void on_datagram(Channel::Datagram datagram);
  template <class Fill>
  void tell(Fill fill, std::span<const int> descriptors = {}) {
    door::supervisor::ToSupervisor message;
    fill(message);
    door_.send(message, descriptors);
  }

  Handlers handlers_;
  Door door_;
};

}  // namespace mandos::monitor
