// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/callers.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "bus-agent/outcome.h"
#include "bus-agent/wire.h"

namespace mandos::bus_agent {
namespace {

// mandos-monitor requests every client at once when it starts: 10,000 calls must fit.
constexpr std::size_t kMostOfOne = 24UL * 1024 * 1024;
constexpr std::size_t kMostOfAll = 96UL * 1024 * 1024;
// What GLib 2.74 allocates for a message, for a value, and for the slot of a child value. Most of
// it is pointers.
constexpr std::size_t kMessageSize = 64 * sizeof(void*);
constexpr std::size_t kValueSize = 20 * sizeof(void*);
constexpr std::size_t kPlaceSize = 2 * sizeof(void*);
constexpr char kWeight[] = "mandos-weight";

std::string sender(GDBusMessage* call) {
  const char* name = g_dbus_message_get_sender(call);
  return name == nullptr ? "" : name;
}

/// The approximate memory of a parsed value as a tree. An empty string takes one byte in the
/// message, and here a hundred times as much.
std::size_t size_of(GVariant* value) {
  const char* const type = g_variant_get_type_string(value);
  // Arrays of these types stay as they came. (Not of booleans: GLib makes those smaller.)
  const bool flat = type[0] == 'a' && std::strchr("ynqiuxtd", type[1]) != nullptr;
  if (flat || !g_variant_is_container(value)) return kValueSize + g_variant_get_size(value);
  std::size_t size = kValueSize;
  for (gsize i = 0; i < g_variant_n_children(value); ++i) {
    const Variant child(g_variant_get_child_value(value, i));
    size += kPlaceSize + size_of(child.get());
  }
  return size;
}

std::size_t size_of(GDBusMessage* message) {
  std::size_t size = kMessageSize;
  const std::unique_ptr<guchar, decltype(&g_free)> fields(g_dbus_message_get_header_fields(message),
                                                          &g_free);
  for (const guchar* field = fields.get(); *field != 0; ++field) {
    size +=
        size_of(g_dbus_message_get_header(message, static_cast<GDBusMessageHeaderField>(*field)));
  }
  if (const SecretBytes* secret = secret_of(message)) size += secret->bytes.capacity();
  GVariant* const body = g_dbus_message_get_body(message);
  return body == nullptr ? size : size + size_of(body);
}

}  // namespace

std::size_t weight(GDBusMessage* call) {
  return GPOINTER_TO_SIZE(g_object_get_data(G_OBJECT(call), kWeight));
}

bool Shares::let_in(GDBusMessage* call) {
  const std::size_t more = size_of(call);
  const std::string caller = sender(call);
  const auto found = unanswered_.find(caller);
  const std::size_t theirs = found == unanswered_.end() ? 0 : found->second;
  if (theirs + more > kMostOfOne || all_unanswered_ + more > kMostOfAll) return false;
  // Stored, because reading a value may change its form in memory.
  // NOLINTNEXTLINE(performance-no-int-to-ptr): how GLib keeps a number with an object
  g_object_set_data(G_OBJECT(call), kWeight, GSIZE_TO_POINTER(more));
  unanswered_[caller] = theirs + more;
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
