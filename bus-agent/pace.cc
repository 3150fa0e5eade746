// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/pace.h"

#include <utility>

namespace mandos::bus_agent {
namespace {

using door::bus_agent::Client;
using Signal = door::bus_agent::ToBusAgent::Signal;

/// Whether the change contains only properties that a peer can change: by a proof, by waiting for
/// approval, by the end of that, by a hang-up, or by receiving its secret.
bool by_peer(const Client& change) {
  Client rest = change;
  rest.clear_name();
  rest.clear_approval_pending();
  rest.clear_expires();
  rest.clear_last_approval_request();
  return rest.ByteSizeLong() == 0;
}

bool by_peer(const Signal& signal) {
  return signal.has_need_approval() || signal.has_got_secret() || signal.has_rejected();
}

}  // namespace

bool Pace::admits(const Signal& signal, Instant now) {
  if (!by_peer(signal) || bounds_[signal.name()].signals.take(now)) return true;
  ++left_out_[signal.name()];
  return false;
}

bool Pace::admits(const Client& change, Instant now) {
  if (!by_peer(change)) return true;
  // If a change is delayed, later ones join it; otherwise an older value could come last.
  const auto late = late_.find(change.name());
  if (late == late_.end() && bounds_[change.name()].changes.take(now)) return true;
  late_[change.name()].MergeFrom(change);
  return false;
}

void Pace::take_late(const std::function<void(const Client& change)>& emit) {
  for (const auto& [name, change] : std::exchange(late_, {})) emit(change);
}

void Pace::take_left_out(const std::function<void(const std::string&, unsigned long)>& report) {
  for (const auto& [name, count] : std::exchange(left_out_, {})) report(name, count);
}

void Pace::forget(const std::string& client) {
  bounds_.erase(client);
  late_.erase(client);
}

}  // namespace mandos::bus_agent
