// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/child.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>

#include "common/descriptors.h"

namespace mandos {
namespace {

int begin(const std::function<int(Child& child)>& serve) {
  for (const int fd : {kDoorFd, kLogFd}) {
    int type = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
      static_cast<void>(std::fputs("This program is started by mandos, not by hand.\n", stderr));
      return 2;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  Child child{Log::to_socket(kLogFd, LogLevel::kInfo), UniqueFd(kDoorFd)};
  if (!close_descriptors(kLogFd + 1) || chdir("/") != 0) {
    child.log.critical("cannot close inherited descriptors or change to the root directory");
    return EXIT_FAILURE;
  }
  return serve(child);
}

}  // namespace

Result<std::string> Child::enter(const jail::Jail& jail) {
  auto entered = jail::enter(jail);
  log.write(entered ? LogLevel::kInfo : LogLevel::kCritical,
            concat("jail: ", entered ? *entered : entered.error()));
  return entered;
}

void live(const std::function<int(Child& child)>& serve) { _exit(begin(serve)); }

}  // namespace mandos
