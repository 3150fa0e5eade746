// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/descriptors.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "common/text.h"
#include "common/unique_fd.h"

namespace mandos {
namespace {

/// Nothing: they cannot be listed.
std::vector<int> open_descriptors() {
  std::vector<int> open;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", failed)) {
    open.push_back(std::atoi(entry.path().filename().c_str()));
  }
  return open;
}

}  // namespace

bool close_descriptors(unsigned first, unsigned last, bool at_exec) {
  if (close_range(first, last, at_exec ? CLOSE_RANGE_CLOEXEC : 0) == 0) return true;
  const auto open = open_descriptors();
  for (const int fd : open) {
    if (static_cast<unsigned>(fd) < first || static_cast<unsigned>(fd) > last) continue;
    if (at_exec) {
      fcntl(fd, F_SETFD, FD_CLOEXEC);
    } else {
      close(fd);
    }
  }
  return !open.empty();
}

void close_inherited() {
  for (const int fd : open_descriptors()) {
    if (fd > STDERR_FILENO && fcntl(fd, F_GETFD) == 0) close(fd);
  }
}

void never_wait_for(int fd) {
  struct stat status {};
  // Opened again, a file would be written from its beginning.
  if (fstat(fd, &status) != 0 || S_ISREG(status.st_mode)) return;
  // Opened again where possible, since the flag is everybody's who shares the open description.
  const UniqueFd again(
      open(concat("/proc/self/fd/", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!again || dup2(again.get(), fd) < 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

}  // namespace mandos
