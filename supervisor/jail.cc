// SPDX-License-Identifier: GPL-3.0-or-later
#include "supervisor/jail.h"

#include <cap-ng.h>
#include <linux/capability.h>

namespace mandos::supervisor {
namespace {

constexpr struct {
  unsigned capability;
  const char* use;
} kNeeded[] = {{CAP_SETUID, "run each process under its own account"},
               {CAP_SETGID, "run each process under its own account"},
               {CAP_SETPCAP, "empty the capability bounding set of each process"},
               {CAP_KILL, "end processes of other accounts"},
               {CAP_SYS_CHROOT, "give the networker an empty root directory"}};

}  // namespace

Status check_capabilities() {
  for (const auto& [capability, use] : kNeeded) {
    if (!jail::within_bounds(capability)) {
      return Error{concat("capability ", capng_capability_to_name(capability),
                          " is missing: it is needed to ", use)};
    }
  }
  return Ok{};
}

jail::Jail supervisor_jail() {
  jail::Jail jail{
      .unprivileged = false,
      .filter = {.allow_list = false, .allowed = {}, .refused = jail::dangerous_calls()}};
  for (const auto& needed : kNeeded) jail.capabilities.push_back(needed.capability);
  // Checkers inherit it where it is available.
  if (jail::within_bounds(CAP_NET_RAW)) jail.capabilities.push_back(CAP_NET_RAW);
  return jail;
}

}  // namespace mandos::supervisor
