// SPDX-License-Identifier: GPL-3.0-or-later
// The networker's jail: what the process that reads the network may still do.
#pragma once

#include "common/jail.h"

namespace mandos::networker {

/// read(2) works on `timer_fd` only, and messages with descriptors on kDoorFd only. At most
/// `max_files` descriptors may be open.
jail::Jail networker_jail(int timer_fd, rlim_t max_files);

}  // namespace mandos::networker
