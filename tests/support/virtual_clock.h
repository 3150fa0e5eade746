// SPDX-License-Identifier: GPL-3.0-or-later
// The clocks of a test program, which stand still until the test moves them. They replace those of
// common/clock.cc, so only the source file with the tests may include this.
#pragma once

#include <chrono>

#include "common/clock.h"

namespace mandos {
namespace {

Instant virtual_now{std::chrono::hours(1)};

}  // namespace

BootClock::time_point BootClock::now() noexcept { return virtual_now; }
Moment Moment::now() noexcept { return {virtual_now, {}}; }

}  // namespace mandos
