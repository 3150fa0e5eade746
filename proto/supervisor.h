// SPDX-License-Identifier: GPL-3.0-or-later
// What supervisor and monitor must agree on besides the messages of supervisor.proto. Both include
// it, and no other file of a process has these numbers: tests/lint/contracts.py. Lengths are in
// bytes.
#pragma once

#include <cstddef>

#include "proto/networker.h"

namespace mandos::door::supervisor {

/// The text of mandos.conf.
inline constexpr std::size_t kLongestSettings = 64UL * 1024;
/// What Ready and Reloaded say to an administrator. A line behind it may say that there is more.
inline constexpr std::size_t kLongestText = 12UL * 1024;
/// Begin says in few words besides where the state is, and what the supervisor's jail is made of.
inline constexpr std::size_t kLongestToMonitor = kLongestSettings + 256;
inline constexpr std::size_t kLongestToSupervisor = 80UL * 1024;
static_assert(kLongestSettings + 256 <= kLongestToSupervisor);
static_assert(kLongestText + 1024 <= kLongestToSupervisor);

/// With Keep and Begin come the listening sockets, with Started two descriptors.
inline constexpr std::size_t kMostDescriptors = networker::kMostListeners;

}  // namespace mandos::door::supervisor
