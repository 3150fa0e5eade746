// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/jail.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "common/child.h"
#include "config.h"

namespace mandos::networker {
namespace {

using jail::is;

scmp_arg_cmp is_null(unsigned argument) { return {argument, SCMP_CMP_EQ, 0, 0}; }

std::vector<jail::SyscallRule> allowed_calls(int timer_fd) {
  std::vector<jail::SyscallRule> rules{
      {SCMP_SYS(epoll_wait)},
      {SCMP_SYS(epoll_ctl)},
      {SCMP_SYS(timerfd_settime)},
      {SCMP_SYS(read), {is(0, static_cast<unsigned>(timer_fd))}},
      {SCMP_SYS(close)},
      // The listening sockets and the connections from them.
      {SCMP_SYS(accept4), {is(3, SOCK_NONBLOCK | SOCK_CLOEXEC)}},
      {SCMP_SYS(fcntl), {is(1, F_SETFL), is(2, O_RDWR | O_NONBLOCK)}},
      {SCMP_SYS(setsockopt), {is(1, SOL_SOCKET), is(2, SO_KEEPALIVE)}},
      {SCMP_SYS(recvfrom), {is(3, 0), is_null(4), is_null(5)}},
      // Without an address, because MSG_FASTOPEN would connect.
      {SCMP_SYS(sendto), {is(3, MSG_NOSIGNAL), is_null(4)}},
      {SCMP_SYS(sendto), {is(3, MSG_NOSIGNAL | MSG_MORE), is_null(4)}},
      // The log socket.
      {SCMP_SYS(sendto), {is(0, kLogFd), is(3, MSG_NOSIGNAL | MSG_DONTWAIT), is_null(4)}},
      {SCMP_SYS(sendmsg), {is(0, kDoorFd), is(2, MSG_NOSIGNAL | MSG_DONTWAIT)}},
      {SCMP_SYS(recvmsg), {is(0, kDoorFd), is(2, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)}},
      // pthread_once(3) and others wake threads, of which this process has none.
      {SCMP_SYS(futex), {is(1, FUTEX_WAKE_PRIVATE)}},
      // GnuTLS reseeds its generator after each MiB of output.
      {SCMP_SYS(getrandom)},
      // If the vDSO cannot answer.
      {SCMP_SYS(clock_gettime)},
      {SCMP_SYS(restart_syscall)},
      {SCMP_SYS(exit)},
  };
  for (const int option : {TCP_NODELAY, TCP_QUICKACK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT}) {
    rules.push_back(
        {SCMP_SYS(setsockopt), {is(1, IPPROTO_TCP), is(2, static_cast<unsigned>(option))}});
  }
  std::ranges::copy(jail::memory_calls(), std::back_inserter(rules));
  return rules;
}

}  // namespace

jail::Jail networker_jail(int timer_fd, rlim_t max_files) {
  jail::Jail jail;
  jail.root = MANDOS_EMPTY_DIR;
  jail.limits = {{RLIMIT_NOFILE, max_files}, {RLIMIT_NPROC, 0}, {RLIMIT_FSIZE, 0}};
  jail.landlock = jail::Landlock{};
  jail.filter.allowed = allowed_calls(timer_fd);
  // Libraries that look for a file are denied access and continue.
  for (const int number : {SCMP_SYS(open), SCMP_SYS(stat), SCMP_SYS(access), SCMP_SYS(readlink)}) {
    jail.filter.refused.push_back({number});
  }
  return jail;
}

}  // namespace mandos::networker
