// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/callers.h"

#include <algorithm>
#include <utility>

namespace mandos::bus_agent {
namespace {

// mandos-monitor asks for every client at once when it starts: 10,000 of them must fit.
constexpr std::size_t kMostOfOne = 24UL * 1024 * 1024;
constexpr std::size_t kMostOfAll = 96UL * 1024 * 1024;
// What GLib needs for a message beside its arguments.
constexpr std::size_t kMessageSize = 1024;

std::string sender(GDBusMessage* call) {
  const char* name = g_dbus_message_get_sender(call);
  return name == nullptr ? "" : name;
}

}  // namespace

std::size_t weight(GDBusMessage* call) {
  GVariant* body = g_dbus_message_get_body(call);
  return kMessageSize + (body == nullptr ? 0 : g_variant_get_size(body));
}

bool Shares::let_in(GDBusMessage* call) {
  const std::size_t more = weight(call);
  std::size_t& unanswered = unanswered_[sender(call)];
  if (unanswered + more > kMostOfOne || all_unanswered_ + more > kMostOfAll) return false;
  unanswered += more;
  all_unanswered_ += more;
  return true;
}

void Shares::answered(const std::string& caller, std::size_t weight) {
  const auto found = unanswered_.find(caller);
  if (found == unanswered_.end()) return;
  const std::size_t less = std::min(weight, found->second);
  found->second -= less;
  all_unanswered_ -= less;
  if (found->second == 0) unanswered_.erase(found);
}

void Shares::clear() {
  unanswered_.clear();
  all_unanswered_ = 0;
}

void Callers::line_up(const std::string& name) {
  Caller& caller = callers_[name];
  if (caller.in_line || caller.held || caller.calls.empty()) return;
  caller.in_line = true;
  line_.push_back(name);
}

void Callers::add(Message call) {
  const std::string name = sender(call.get());
  callers_[name].calls.push_back(std::move(call));
  line_up(name);
}

Message Callers::next() {
  const std::string name = std::move(line_.front());
  line_.pop_front();
  Caller& caller = callers_.at(name);
  caller.in_line = false;
  Message call = std::move(caller.calls.front());
  caller.calls.pop_front();
  if (caller.calls.empty()) {
    callers_.erase(name);
  } else {
    line_up(name);
  }
  return call;
}

void Callers::put_back(Message call, bool hold) {
  const std::string name = sender(call.get());
  Caller& caller = callers_[name];
  caller.calls.push_front(std::move(call));
  caller.held |= hold;
  if (hold && caller.in_line) {
    line_.remove(name);
    caller.in_line = false;
  }
  line_up(name);
}

void Callers::release(const std::string& name) {
  const auto caller = callers_.find(name);
  if (caller == callers_.end()) return;
  caller->second.held = false;
  line_up(name);
}

std::deque<Message> Callers::drop(const std::string& name) {
  const auto caller = callers_.find(name);
  if (caller == callers_.end()) return {};
  auto dropped = std::move(caller->second.calls);
  callers_.erase(caller);
  line_.remove(name);
  return dropped;
}

void Callers::clear() {
  callers_.clear();
  line_.clear();
}

}  // namespace mandos::bus_agent
