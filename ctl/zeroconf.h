// SPDX-License-Identifier: GPL-3.0-or-later
// Mandos servers as seen by Avahi on the bus where the server is.
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
  bool here = false;  // announced by the machine where this Avahi runs
};

/// All services that Avahi reports within a few seconds. The Error: Avahi does not run or answer.
Result<std::vector<Announced>> browse(Bus& bus);

}  // namespace mandos::ctl
