// SPDX-License-Identifier: GPL-3.0-or-later
// What Avahi, on the bus where the server is, sees of Mandos servers.
#pragma once

#include <string>
#include <vector>

#include "common/result.h"
#include "ctl/bus.h"

namespace mandos::ctl {

/// A Mandos service on a network interface.
struct Announced {
  std::string name;
  std::string interface;
  bool ipv6 = false;
  bool here = false;  // announced by the machine of this Avahi
};

/// Every service that Avahi reports within a few seconds. The Error: Avahi does not run or answer.
Result<std::vector<Announced>> browse(Bus& bus);

}  // namespace mandos::ctl
