// SPDX-License-Identifier: GPL-3.0-or-later
#include "supervisor/jail.h"

#include <linux/capability.h>

namespace mandos::supervisor {

jail::Jail supervisor_jail() {
  jail::Jail jail;
  jail.unprivileged = false;
  // To start the others as their users, to end them, and to pass on what they begin with.
  jail.capabilities = {CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_KILL, CAP_SYS_CHROOT, CAP_NET_RAW};
  jail.filter = {.allow_list = false, .allowed = {}, .refused = jail::dangerous_calls()};
  return jail;
}

}  // namespace mandos::supervisor
