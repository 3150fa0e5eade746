// SPDX-License-Identifier: GPL-3.0-or-later
// What the supervisor and the monitor must agree on, besides the messages of supervisor.proto. Both
// include this file, and no other file of a process has these numbers: tests/lint/contracts.py.
// Lengths are in bytes.
#pragma once

#include <cstddef>

#include "proto/networker.h"

namespace mandos::door::supervisor {

/// The text of mandos.conf.
inline constexpr std::size_t kLongestSettings = 64UL * 1024;
/// Text for an administrator in Ready and Reloaded. A line after it may say that there is more.
inline constexpr std::size_t kLongestText = 12UL * 1024;
/// Besides the settings, Begin has a short state and the layers of the supervisor's jail.
inline constexpr std::size_t kLongestToMonitor = kLongestSettings + 256;
inline constexpr std::size_t kLongestToSupervisor = 80UL * 1024;
static_assert(kLongestSettings + 256 <= kLongestToSupervisor);
static_assert(kLongestText + 1024 <= kLongestToSupervisor);

/// Keep and Begin are sent with the listening sockets, Started with two descriptors.
inline constexpr std::size_t kMostDescriptors = networker::kMostListeners;

}  // namespace mandos::door::supervisor
