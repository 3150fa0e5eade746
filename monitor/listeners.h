// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <netinet/in.h>

#include <climits>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"
#include "monitor/settings.h"

namespace mandos::monitor {

/// The address of the settings without its zone, an IPv4 one as a mapped one (RFC 4291 section
/// 2.5.5.2); no value: any address.
std::optional<in6_addr> address_of(const Settings& settings);
/// The interface that the server is bound to: `interface`, else the zone of `address`, else none.
std::string interface_of(const Settings& settings);

/// The index of no interface: a socket bound to it receives nothing.
inline constexpr int kNoInterface = INT_MAX;

/// Whether somebody else made the sockets: by --socket or LISTEN_FDS.
bool are_inherited(const Settings& settings);

struct Listeners {
  std::vector<UniqueFd> sockets;
  bool inherited = false;
};
/// The listening TCP sockets, non-blocking and close-on-exec: the descriptor of --socket if there
/// is one, else those of LISTEN_FDS (sd_listen_fds(3)), else a new one by --interface, --address
/// and --port. An inherited descriptor must be a stream socket of an IP family. A new socket is
/// bound to the interface `index`. If that does not exist yet (0), the socket receives nothing
/// until the supervisor binds it. An address that does not exist yet works as soon as it appears.
/// Without `served`, this only tests whether listening would work: nothing listens, and inherited
/// sockets are not changed.
Result<Listeners> open_listeners(const Settings& settings, unsigned index,
                                 std::vector<std::string>& warnings, bool served = true);

/// The versions of IP that clients can use, and the port (the first, if there are several). Must be
/// called before the monitor's jail, which does not allow it.
struct Families {
  bool ipv4 = false;
  bool ipv6 = false;
  std::uint16_t port = 0;
};
Families families_of(const std::vector<UniqueFd>& listeners);

}  // namespace mandos::monitor
