// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/jail.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace mandos::bus_agent {
namespace {

constexpr scmp_datum_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

}  // namespace

jail::Jail bus_agent_jail() {
  jail::Jail jail;
  jail.limits = {{RLIMIT_FSIZE, 0}, {RLIMIT_NOFILE, 256}};
  jail.landlock = jail::Landlock{};  // a socket's name needs no right to its file
  auto& allowed = jail.filter.allowed;
  for (const int number :
       {// the main loop, its timers and wake-ups
        SCMP_SYS(poll), SCMP_SYS(eventfd2), SCMP_SYS(pipe2), SCMP_SYS(read), SCMP_SYS(write),
        SCMP_SYS(close), SCMP_SYS(fcntl),
        // the door, the log socket and the bus
        SCMP_SYS(connect), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt),
        SCMP_SYS(setsockopt), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom),
        SCMP_SYS(recvmsg), SCMP_SYS(shutdown), SCMP_SYS(writev), SCMP_SYS(readv),
        // GDBus's thread, and those that GLib has for a while
        SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(gettid),
        SCMP_SYS(tgkill), SCMP_SYS(sched_yield), SCMP_SYS(sched_getattr), SCMP_SYS(sched_setattr),
        SCMP_SYS(sched_getaffinity),
        // the rest of what a process needs to live and to die
        SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(nanosleep), SCMP_SYS(getpid),
        SCMP_SYS(getuid), SCMP_SYS(getgid), SCMP_SYS(getresuid), SCMP_SYS(getresgid),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
        SCMP_SYS(restart_syscall), SCMP_SYS(exit)}) {
    allowed.push_back({number});
  }
  allowed.push_back({SCMP_SYS(socket), {jail::is(0, AF_UNIX)}});
  allowed.push_back(
      {SCMP_SYS(clone), {scmp_arg_cmp{jail::kCloneFlags, SCMP_CMP_MASKED_EQ, kThread, kThread}}});
  // A thread's name.
  allowed.push_back({SCMP_SYS(prctl), {scmp_arg_cmp{0, SCMP_CMP_EQ, PR_SET_NAME, 0}}});
  std::ranges::copy(jail::memory_calls(), std::back_inserter(allowed));
  // Libraries that look for a file find that they may not, and go on. clone3 hides its flags in
  // memory, and without it libraries use clone.
  for (const int number : {SCMP_SYS(open), SCMP_SYS(stat), SCMP_SYS(access), SCMP_SYS(readlink),
                           SCMP_SYS(uname), SCMP_SYS(ioctl), SCMP_SYS(sysinfo)}) {
    jail.filter.refused.push_back({number});
  }
  jail.filter.refused.push_back({SCMP_SYS(clone3), {}, ENOSYS});
  return jail;
}

}  // namespace mandos::bus_agent
