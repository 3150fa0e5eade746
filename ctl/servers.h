// SPDX-License-Identifier: GPL-3.0-or-later
// Which servers a command uses, and how they are reached.
//
// A server is reached as with `systemctl -H`: ssh(1) runs systemd-stdio-bridge(1) there, and sd-bus
// talks to that. No shell of this machine is involved.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/result.h"
#include "ctl/arguments.h"

namespace mandos::ctl {

/// Options of every command that works with servers. They cannot be abbreviated, because the
/// original's "--se" means --secret.
inline constexpr Option kServer{
    "server", 0, "HOST", "Use this server over SSH; may be repeated.", 0, false, true};
inline constexpr Option kServerTimeout{
    "server-timeout", 0, "TIME", "How long each server may take (30s).", 0, false, true};

/// The name of this machine's own server in a list of servers.
inline constexpr std::string_view kThisMachine = ".host";

struct Server {
  std::string name;    // as it was given
  std::string target;  // HOST or USER@HOST for ssh; empty: this machine
  std::string port;    // empty: from ssh's configuration
};

/// Parses "[USER@]HOST[:PORT]", where HOST may be "[IPv6 address]", or kThisMachine. Rejects
/// everything that ssh, or a shell that ssh's configuration runs, could take for more than a name.
Result<Server> parse_server(std::string_view text);

struct Servers {
  std::vector<Server> list;       // without duplicates; empty: none was named
  Milliseconds limit{30 * 1000};  // how long each may take
};

/// The servers of --server; if there are none, of `environment` (MANDOS_SERVERS; null: not set); if
/// that is not set, of `file`, the contents of ctl.conf.
Result<Servers> choose_servers(const Arguments& arguments, const char* environment,
                               std::string_view file);
/// The same with this process's environment and the user's ctl.conf.
Result<Servers> chosen_servers(const Arguments& arguments);

/// The address of the server's system bus, for sd-bus.
std::string address_of(const Server& server, Milliseconds limit);
/// From now on, the server's bus is the system bus of this process and its children.
Status use(const Server& server, Milliseconds limit);
/// For a command that works with one server: uses the chosen one, if any.
Status use_chosen_server(const Arguments& arguments);

}  // namespace mandos::ctl
