// SPDX-License-Identifier: GPL-3.0-or-later
// Counters of the server: the interface se.recompile.Mandos.Statistics of the object "/", which the
// original does not have. Read-only.
#pragma once

#include <bus_agent.pb.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "bus-agent/mirror.h"
#include "bus-agent/outcome.h"

namespace mandos::bus_agent {

inline constexpr char kStatisticsInterface[] = "se.recompile.Mandos.Statistics";

/// Counts the monitor's messages, from the start of this process on. Pure: has no clock.
class Statistics {
 public:
  /// `start`: microseconds since 1970.
  explicit Statistics(std::int64_t start) : start_(start) {}

  void count(const door::bus_agent::ToBusAgent::Signal& signal);
  void count(const door::bus_agent::ToBusAgent::NotFound&) { ++unknown_keys_; }
  void restarts(const door::bus_agent::ToBusAgent::Restarts& restarts) { restarts_ = restarts; }

  /// "a{sv}", floating. `service`: the name that Avahi announces or will announce; empty: none.
  GVariant* properties(const Mirror& clients, std::string_view service) const;

 private:
  std::int64_t start_;
  std::uint64_t grants_ = 0;
  // By reason. These exist from the start, so that a graph includes the first one.
  std::map<std::string, std::uint64_t> refusals_{
      {"Approval timed out", 0}, {"Denied", 0}, {"Disabled", 0}, {"Key changed", 0}};
  std::uint64_t passed_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t unknown_keys_ = 0;
  door::bus_agent::ToBusAgent::Restarts restarts_;
};

/// Get, Set or GetAll of org.freedesktop.DBus.Properties.
Outcome call_properties(const Statistics& statistics, const Mirror& clients,
                        std::string_view service, const Method& method);
/// The interface for the introspection of "/", and that of its properties.
std::string statistics_xml();

}  // namespace mandos::bus_agent
