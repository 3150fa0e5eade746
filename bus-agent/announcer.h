// SPDX-License-Identifier: GPL-3.0-or-later
// The Zeroconf announcement (RFC 6763) by Avahi.
#pragma once

#include <avahi-client/client.h>
#include <avahi-client/publish.h>
#include <avahi-glib/glib-watch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/log.h"

namespace mandos::bus_agent {

class Announcer {
 public:
  struct Service {
    std::string name;
    std::uint16_t port;
    std::uint32_t interface;  // index, 0: all
    bool ipv6;                // else IPv4
  };
  explicit Announcer(Log& log);
  Announcer(const Announcer&) = delete;
  Announcer& operator=(const Announcer&) = delete;

  /// Announces `service`, instead of what was before, until withdraw(): also when Avahi or the bus
  /// comes late or is started again, under another name when its own is taken.
  void announce(Service service);
  /// Returns when Avahi has taken it back, or is not there.
  void withdraw();

 private:
  void connect();
  void retry(const std::string& why);
  void client_changed(AvahiClient* client, AvahiClientState state);
  void group_changed(AvahiEntryGroup* group, AvahiEntryGroupState state);
  void publish();
  void rename();
  void complain(const std::string& why);

  struct FreePoll {
    void operator()(AvahiGLibPoll* poll) const { avahi_glib_poll_free(poll); }
  };
  struct FreeClient {
    void operator()(AvahiClient* client) const { avahi_client_free(client); }
  };

  Log& log_;
  std::unique_ptr<AvahiGLibPoll, FreePoll> poll_;
  std::unique_ptr<AvahiClient, FreeClient> client_;
  AvahiClient* current_ = nullptr;    // client_, also before avahi_client_new() has returned
  AvahiEntryGroup* group_ = nullptr;  // the client's
  std::optional<Service> service_;
  std::string name_;  // the one in use: perhaps not the service's own
  unsigned retry_ = 0;
  unsigned delay_ms_ = 0;
  bool complained_ = false;
};

}  // namespace mandos::bus_agent
