// SPDX-License-Identifier: GPL-3.0-or-later
// The Zeroconf announcement (RFC 6763) through Avahi, over the D-Bus interface of its daemon. Its
// client library waits for the daemon's answers, so a daemon that hangs would block us.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "bus-agent/bus.h"
#include "common/log.h"

namespace mandos::bus_agent {

class Announcer {
 public:
  struct Service {
    std::string name;
    std::uint16_t port;
    std::uint32_t interface;  // index, 0: all interfaces
    bool ipv4;
    bool ipv6;
  };
  Announcer(Log& log, Bus& bus) : log_(log), bus_(bus) {}
  Announcer(const Announcer&) = delete;
  Announcer& operator=(const Announcer&) = delete;

  /// Announces `service`, in place of an earlier one, until withdraw(): even if Avahi or the bus
  /// starts late or restarts, and under another name if its own is taken.
  void announce(Service service);
  /// `done` is called when Avahi has withdrawn it, or is not running; possibly before this returns.
  /// It is not called while Avahi hangs.
  void withdraw(std::function<void()> done);

  /// The name that is announced, or will be once Avahi accepts it; empty: none.
  std::string_view name() const { return service_ ? std::string_view(name_) : ""; }

  /// Events from the bus.
  void connected();
  void lost(const std::string& why);
  void told(GDBusMessage* signal);

 private:
  void begin();
  void forget_attempt();
  void retry(const std::string& why);
  void complain(const std::string& why);
  void owned_by(const std::string& owner);
  void server_is(int state);
  void make_group();
  void add();
  void rename();
  void commit();
  void group_is(int state, const std::string& error);
  void call(const std::string& path, const char* interface, const char* method, GVariant* arguments,
            Bus::Done done);

  Log& log_;
  Bus& bus_;
  std::optional<Service> service_;
  std::string name_;           // in use, may differ from the service's own
  std::string owner_;          // the daemon's unique name; empty: not running
  std::string group_;          // path of the entry group; empty: none yet
  std::uint64_t attempt_ = 0;  // replies to earlier attempts are ignored
  bool watching_ = false;      // subscribed to signals about the daemon
  bool making_ = false;        // a group is being created
  bool added_ = false;         // the service was added to the group
  unsigned retry_ = 0;
  unsigned patience_ = 0;
  unsigned delay_ms_ = 0;
  int renames_ = 0;
  bool complained_ = false;
  bool bus_was_away_ = false;  // this was logged instead
};

}  // namespace mandos::bus_agent
