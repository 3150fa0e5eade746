// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/jail.h"

#include <sys/mman.h>

namespace mandos::monitor {

jail::Jail monitor_jail(std::vector<std::string> readable, std::vector<std::string> writable) {
  jail::Jail jail;
  jail.unprivileged = false;
  jail.landlock = jail::Landlock{.readable = std::move(readable), .writable = std::move(writable)};
  for (const int number :
       {// the loop, its timer, the doors and syslog
        SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(timerfd_settime),
        SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom),
        SCMP_SYS(recvmsg), SCMP_SYS(close), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fcntl),
        SCMP_SYS(getsockname),
        // configuration and state
        SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat),
        SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(lseek), SCMP_SYS(pread64), SCMP_SYS(readv),
        SCMP_SYS(writev), SCMP_SYS(getdents64), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
        SCMP_SYS(syncfs), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlinkat),
        SCMP_SYS(fchmod), SCMP_SYS(ftruncate), SCMP_SYS(flock), SCMP_SYS(access),
        SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink),
        // memory
        SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mlock),
        SCMP_SYS(memfd_secret), SCMP_SYS(futex),
        // the rest of what a process needs to live and to die
        SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),
        SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
        SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group)}) {
    jail.filter.allowed.push_back({number});
  }
  // No memory that can be executed.
  for (const int number : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    jail.filter.allowed.push_back({number, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}});
  }
  // "~user" in a secfile asks the name service, which tries its daemon before the files.
  jail.filter.refused = {{SCMP_SYS(socket)}};
  return jail;
}

}  // namespace mandos::monitor
