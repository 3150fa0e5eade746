// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <vector>

#include "common/unique_fd.h"

namespace mandos {

/// Closes every descriptor from `first` to `last`, or with `at_exec` marks it close-on-exec. If a
/// container or an old kernel refuses close_range(2), it reads /proc/self/fd instead. False:
/// neither works, and errno says why.
bool close_descriptors(unsigned first, unsigned last = ~0U, bool at_exec = false);

/// Closes every inherited descriptor above standard error: those without close-on-exec.
void close_inherited();

/// From now on a write to `fd` fails with EAGAIN instead of waiting for a reader, here and in the
/// processes that inherit it. Regular files are not affected.
void never_wait_for(int fd);

/// For calls that take the numbers and leave the descriptors to their owner.
inline std::vector<int> numbers_of(const std::vector<UniqueFd>& descriptors) {
  std::vector<int> numbers(descriptors.size());
  std::ranges::transform(descriptors, numbers.begin(), &UniqueFd::get);
  return numbers;
}

}  // namespace mandos
