// SPDX-License-Identifier: GPL-3.0-or-later
// What the supervisor does with a child before it executes the networker.
#pragma once

#include <sys/types.h>

#include <vector>

namespace mandos::test {

/// Ends the process with what `what` failed on, and errno's text.
[[noreturn]] void die(const char* what);

/// Makes the networker's root directory exist: where the server is not installed, in a mount
/// namespace of the calling process's own.
void provide_root();

/// Becomes the unprivileged user and group `id` with nothing but `capabilities`. Ends the process
/// when that fails. Needs root.
void drop_to(uid_t id, const std::vector<unsigned>& capabilities);
/// The same with those that the networker builds its jail with.
void drop_to_networker(uid_t id);

}  // namespace mandos::test
