// SPDX-License-Identifier: GPL-3.0-or-later
// Between the monitor's door and the bus: decides nothing, and forwards in both directions.
#pragma once

#include <bus_agent.pb.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "bus-agent/announcer.h"
#include "bus-agent/bus.h"
#include "bus-agent/mirror.h"
#include "bus-agent/outcome.h"
#include "bus-agent/pace.h"
#include "bus-agent/statistics.h"
#include "common/channel.h"
#include "common/log.h"
#include "common/token_bucket.h"

namespace mandos::bus_agent {

class Agent {
 public:
  /// `on_end` is called when the monitor is gone or has violated the rules of the door.
  Agent(Log& log, UniqueFd door, std::string bus_path, Access access,
        std::function<void(int status)> on_end);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

 private:
  using ToMonitor = door::bus_agent::ToMonitor;
  using ToBusAgent = door::bus_agent::ToBusAgent;

  void watch();
  bool ready(GIOCondition condition);
  /// False: the monitor has violated the rules of the door.
  bool obey(const ToBusAgent& message);
  Bus::Handled handle(Message& call);
  void send(const ToMonitor& message, Channel::Tail tail = {});
  void send_secret(SecretBytes& secret);
  void replied(const ToBusAgent::Reply& reply);
  /// Signals the changes that were held back, one second after the first of them.
  void emit_later();
  /// Logs a call without authority, or counts it.
  void attempted(guint32 user, const char* what);
  void report_later();
  void report();

  Log& log_;
  Channel channel_;
  std::function<void(int status)> on_end_;
  Mirror mirror_;
  Bus bus_;
  Announcer announcer_;
  Emit emit_;
  Pace pace_;
  Statistics statistics_;
  bool late_is_due_ = false;
  TokenBucket attempt_lines_;
  unsigned long attempts_left_out_ = 0;
  bool report_is_due_ = false;
  bool dbus_ = false;
  bool complete_ = false;
  guint watch_ = 0;
  bool watching_write_ = false;
  std::uint64_t next_serial_ = 1;
  std::unordered_map<std::uint64_t, Message> outstanding_;
  TokenBucket rate_;
  bool waiting_ = false;  // until the rate limit allows more
};

}  // namespace mandos::bus_agent
