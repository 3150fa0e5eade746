// SPDX-License-Identifier: GPL-3.0-or-later
// The networker's jail: what is left to the process that reads the network.
#pragma once

#include "common/jail.h"

namespace mandos::networker {

/// Of read(2) only `timer_fd` is left, and of the messages with descriptors only kDoorFd. At most
/// `max_files` descriptors may be open.
jail::Jail networker_jail(int timer_fd, rlim_t max_files);

}  // namespace mandos::networker
