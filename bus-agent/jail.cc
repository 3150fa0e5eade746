// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/jail.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>

namespace mandos::bus_agent {

jail::Jail bus_agent_jail() {
  jail::Jail jail;
  jail.limits = {{RLIMIT_FSIZE, 0}, {RLIMIT_NOFILE, 256}};
  jail.landlock = jail::Landlock{};  // a socket's name can be used without access to its file
  auto& allowed = jail.filter.allowed;
  for (const int number :
       {// main loop, its timers and wake-ups
        SCMP_SYS(poll), SCMP_SYS(eventfd2), SCMP_SYS(pipe2), SCMP_SYS(read), SCMP_SYS(write),
        SCMP_SYS(close), SCMP_SYS(fcntl),
        // the door, the log socket and the bus
        SCMP_SYS(connect), SCMP_SYS(getsockopt), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
        SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(writev), SCMP_SYS(readv),
        // locks of libraries that support threads; there is only one thread
        SCMP_SYS(futex), SCMP_SYS(tgkill), SCMP_SYS(sched_yield),
        // what every process needs to run and to exit
        SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(nanosleep), SCMP_SYS(getpid),
        SCMP_SYS(getuid), SCMP_SYS(getgid), SCMP_SYS(getresuid), SCMP_SYS(getresgid),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
        SCMP_SYS(restart_syscall), SCMP_SYS(exit)}) {
    allowed.push_back({number});
  }
  allowed.push_back({SCMP_SYS(socket), {jail::is(0, AF_UNIX)}});
  std::ranges::copy(jail::memory_calls(), std::back_inserter(allowed));
  // Libraries that look for a file are denied access and continue.
  for (const int number : {SCMP_SYS(open), SCMP_SYS(stat), SCMP_SYS(access), SCMP_SYS(readlink),
                           SCMP_SYS(uname), SCMP_SYS(ioctl), SCMP_SYS(sysinfo)}) {
    jail.filter.refused.push_back({number});
  }
  return jail;
}

}  // namespace mandos::bus_agent
