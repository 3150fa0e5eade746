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

bool close_descriptors(unsigned first, unsigned last, bool at_exec) {
  if (close_range(first, last, at_exec ? CLOSE_RANGE_CLOEXEC : 0) == 0) return true;
  std::vector<unsigned> open;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", failed)) {
    open.push_back(static_cast<unsigned>(std::atoi(entry.path().filename().c_str())));
  }
  for (const unsigned fd : open) {
    if (fd < first || fd > last) continue;
    if (at_exec) {
      fcntl(static_cast<int>(fd), F_SETFD, FD_CLOEXEC);
    } else {
      close(static_cast<int>(fd));
    }
  }
  return !failed;
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
