// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/jail.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "monitor/async_sync.h"

namespace mandos::monitor {

jail::Jail monitor_jail(std::vector<std::string> readable, std::vector<std::string> writable) {
  jail::Jail jail{
      .unprivileged = false,
      .landlock = jail::Landlock{.readable = std::move(readable), .writable = std::move(writable)}};
  for (const int number :
       {// event loop, its timer, the doors and syslog
        SCMP_SYS(epoll_wait), SCMP_SYS(epoll_ctl), SCMP_SYS(timerfd_settime), SCMP_SYS(read),
        SCMP_SYS(write), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
        SCMP_SYS(close), SCMP_SYS(dup2), SCMP_SYS(fcntl), SCMP_SYS(getsockname),
        // configuration and state
        SCMP_SYS(open), SCMP_SYS(stat), SCMP_SYS(lseek), SCMP_SYS(pread64), SCMP_SYS(readv),
        SCMP_SYS(writev), SCMP_SYS(getdents64), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
        SCMP_SYS(rename), SCMP_SYS(unlink), SCMP_SYS(fchmod), SCMP_SYS(ftruncate), SCMP_SYS(flock),
        SCMP_SYS(access), SCMP_SYS(readlink), SCMP_SYS(io_destroy),
        // secret memory
        SCMP_SYS(mlock), SCMP_SYS(memfd_secret),
        // what every process needs to run and to exit
        SCMP_SYS(futex), SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(getpid),
        SCMP_SYS(getuid), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
        SCMP_SYS(restart_syscall), SCMP_SYS(exit)}) {
    jail.filter.allowed.push_back({number});
  }
  std::ranges::copy(jail::memory_calls(), std::back_inserter(jail.filter.allowed));
  jail.filter.allowed.insert(
      jail.filter.allowed.end(),
      {{SCMP_SYS(mmap),  // memfd_secret(2)
        {jail::is(2, PROT_READ | PROT_WRITE), jail::is(3, MAP_SHARED)}},
       // What AsyncSync asks for: no more at once, and never waiting in io_getevents.
       {SCMP_SYS(io_submit), {{1, SCMP_CMP_LE, AsyncSync::kMost, 0}}},
       {SCMP_SYS(io_getevents), {jail::is(1, 0), jail::is(2, AsyncSync::kMost)}}});
  return jail;
}

}  // namespace mandos::monitor
