// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"
#include "monitor/settings.h"

namespace mandos::monitor {

/// The listening TCP sockets, non-blocking and close-on-exec: `kept` by the supervisor from an
/// earlier monitor if there are any, else the descriptor of --socket, else those of LISTEN_FDS
/// (sd_listen_fds(3)), else a new one by --interface, --address and --port. What was given is
/// checked to be a stream socket of an IP family. A refused --interface is a warning, as with the
/// original.
Result<std::vector<UniqueFd>> open_listeners(const Settings& settings, std::vector<UniqueFd> kept,
                                             std::vector<std::string>& warnings);

/// Closes what we inherited beyond descriptor 2 and did not adopt: everything without
/// close-on-exec.
void close_inherited();

/// The port that a listening socket has, or 0.
std::uint16_t port_of(const UniqueFd& listener);

}  // namespace mandos::monitor
