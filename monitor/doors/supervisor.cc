// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/doors/supervisor.h"

#include <cstddef>
#include <utility>

#include "proto/supervisor.h"

namespace mandos::monitor {

using door::supervisor::ToMonitor;

namespace {

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) {
    if (text.size() + line.size() > door::supervisor::kLongestText) {
      text += "and more, in the log\n";
      break;
    }
    text += line + '\n';
  }
  return text;
}

/// Which process the message is about.
void fill(auto& about, Role role, std::uint32_t index, pid_t pid) {
  about.set_role(role);
  about.set_index(index);
  about.set_pid(pid);
}

}  // namespace

// The supervisor has more privileges than we do, so this door has no table of states.
SupervisorDoor::SupervisorDoor(EventLoop& loop, UniqueFd door, Handlers handlers)
    : handlers_(std::move(handlers)),
      door_(
          loop, std::move(door),
          {.receive = door::supervisor::kLongestToMonitor,
           .queue = 2 * door::supervisor::kLongestSettings,
           .descriptors = door::supervisor::kMostDescriptors},
          [this](Channel::Datagram datagram) { on_datagram(std::move(datagram)); },
          [this](const std::string&) { handlers_.stop(); }) {}

void SupervisorDoor::on_datagram(Channel::Datagram datagram) {
  ToMonitor message;
  if (!message.ParseFromArray(datagram.bytes.data(), static_cast<int>(datagram.bytes.size()))) {
    return handlers_.stop();
  }
  switch (message.message_case()) {
    case ToMonitor::kBegin:
      return handlers_.begin(message.begin(), std::move(datagram.descriptors));
    case ToMonitor::kStarted:
      if (datagram.descriptors.size() != 2) return handlers_.stop();
      return handlers_.started(message.started(), std::move(datagram.descriptors[0]),
                               std::move(datagram.descriptors[1]));
    case ToMonitor::kReload:
      return handlers_.reload(message.reload().serial());
    case ToMonitor::kStop:
      return handlers_.stop();
    case ToMonitor::kPing:
      return tell([](auto& answer) { answer.mutable_pong(); });
    case ToMonitor::MESSAGE_NOT_SET:
      return;
  }
}

void SupervisorDoor::start(Role role, std::uint32_t index) {
  tell([&](auto& message) {
    message.mutable_start()->set_role(role);
    message.mutable_start()->set_index(index);
  });
}

void SupervisorDoor::restart(Role role, std::uint32_t index, pid_t pid, bool hangs) {
  tell([&](auto& message) {
    fill(*message.mutable_restart(), role, index, pid);
    message.mutable_restart()->set_hangs(hangs);
  });
}

void SupervisorDoor::serves(Role role, std::uint32_t index, pid_t pid) {
  tell([&](auto& message) { fill(*message.mutable_serves(), role, index, pid); });
}

void SupervisorDoor::keep(const std::vector<int>& listeners, bool inherited,
                          std::string_view settings) {
  tell(
      [&](auto& message) {
        message.mutable_keep()->set_inherited(inherited);
        message.mutable_keep()->set_settings(std::string(settings));
      },
      listeners);
}

void SupervisorDoor::ready(const std::string& state, bool complete,
                           const std::vector<std::string>& lines) {
  tell([&](auto& message) {
    message.mutable_ready()->set_state(state);
    message.mutable_ready()->set_complete(complete);
    message.mutable_ready()->set_text(text_of(lines));
  });
}

void SupervisorDoor::reloaded(std::uint64_t serial, bool ok, const std::vector<std::string>& lines,
                              bool yields) {
  tell([&](auto& message) {
    message.mutable_reloaded()->set_serial(serial);
    message.mutable_reloaded()->set_ok(ok);
    message.mutable_reloaded()->set_text(text_of(lines));
    message.mutable_reloaded()->set_yields(yields);
  });
}

}  // namespace mandos::monitor
