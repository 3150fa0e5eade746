// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

namespace mandos {

/// Closes every descriptor from `first` to `last`, or has it closed at exec. Where a container or
/// an old kernel refuses close_range(2), it reads /proc/self/fd. False: neither works, errno says
/// why.
bool close_descriptors(unsigned first, unsigned last = ~0U, bool at_exec = false);

/// Closes what we inherited beyond standard error: everything without close-on-exec.
void close_inherited();

/// From now on a write to `fd` that would wait for a reader fails with EAGAIN instead, here and in
/// the processes that inherit it. Nothing changes for a regular file.
void never_wait_for(int fd);

}  // namespace mandos
