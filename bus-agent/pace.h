// SPDX-License-Identifier: GPL-3.0-or-later
// How often the bus is told of what a peer alone can cause. Pure: knows neither the bus nor a
// clock.
#pragma once

#include <bus_agent.pb.h>

#include <functional>
#include <string>
#include <unordered_map>

#include "common/clock.h"
#include "common/token_bucket.h"

namespace mandos::bus_agent {

/// Whoever holds a client's key can prove it and hang up a thousand times a second, and each time
/// several signals would go to everybody who listens. So of each client such signals are limited.
/// Beyond, a signal that something happened is left out and counted; of a property that changed,
/// the last value is signaled a little later.
///
/// What administrators and the schedule cause is never held back: requests have a limit of their
/// own, and checkers run at the client's interval.
class Pace {
 public:
  /// Messages of the monitor about one client, a second and at once, of either kind. Each makes two
  /// signals, or three for each property.
  static constexpr double kPerSecond = 1;
  static constexpr double kBurst = 20;

  /// Whether a signal may be emitted now; else it is counted.
  bool admits(const door::bus_agent::ToBusAgent::Signal& signal, Instant now);
  /// Whether a change may be signaled now; else its properties are kept for take_late().
  bool admits(const door::bus_agent::Client& change, Instant now);
  /// Whether anything is kept.
  bool has_late() const { return !late_.empty(); }
  /// Calls `emit` with which properties have changed, of each client; their values may be outdated.
  void take_late(const std::function<void(const door::bus_agent::Client& change)>& emit);
  /// Calls `report` with the client's name and how many signals were left out since the last time.
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
