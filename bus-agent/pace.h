// SPDX-License-Identifier: GPL-3.0-or-later
// How often events that a peer alone can cause are signaled on the bus. Pure: has no bus and no
// clock.
#pragma once

#include <bus_agent.pb.h>

#include <functional>
#include <string>
#include <unordered_map>

#include "common/clock.h"
#include "common/token_bucket.h"

namespace mandos::bus_agent {

/// Whoever holds a client's key can prove it and hang up a thousand times per second, and each time
/// several signals would go to every listener. So these signals are limited per client. Beyond the
/// limit, signals of events are suppressed and counted; for a changed property, the last value is
/// signaled a little later.
///
/// What administrators and the schedule cause is never held back: requests have their own limit,
/// and checkers run at the client's interval.
class Pace {
 public:
  /// The monitor's messages about one client, per second and at once, for each of the two kinds.
  /// Each causes two signals, or three per property.
  static constexpr double kPerSecond = 1;
  static constexpr double kBurst = 20;

  /// Whether a signal may be emitted now; otherwise it is counted.
  bool admits(const door::bus_agent::ToBusAgent::Signal& signal, Instant now);
  /// Whether a change may be signaled now; otherwise it is kept for take_late().
  bool admits(const door::bus_agent::Client& change, Instant now);
  /// Whether any change is kept.
  bool has_late() const { return !late_.empty(); }
  /// Calls `emit` with the properties that changed, per client; the values may be outdated.
  void take_late(const std::function<void(const door::bus_agent::Client& change)>& emit);
  /// Calls `report` with the client's name and the number of signals suppressed since last time.
  void take_left_out(const std::function<void(const std::string&, unsigned long)>& report);
  void forget(const std::string& client);

 private:
  struct Bounds {
    TokenBucket signals{kPerSecond, kBurst};
    TokenBucket changes{kPerSecond, kBurst};
  };
  std::unordered_map<std::string, Bounds> bounds_;
  std::unordered_map<std::string, door::bus_agent::Client> late_;
  std::unordered_map<std::string, unsigned long> left_out_;
};

}  // namespace mandos::bus_agent
