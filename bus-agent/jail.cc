// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/jail.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cerrno>

namespace mandos::bus_agent {
namespace {

// The flags of clone(2), whose arguments are in another order on one architecture.
#ifdef __s390__
constexpr unsigned kCloneFlags = 1;
#else
constexpr unsigned kCloneFlags = 0;
#endif
constexpr scmp_datum_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
constexpr scmp_datum_t kLow = 0xffffffff;

}  // namespace

jail::Jail bus_agent_jail() {
  jail::Jail jail;
  jail.limits = {{RLIMIT_FSIZE, 0}, {RLIMIT_NOFILE, 256}};
  jail.landlock = jail::Landlock{};  // a socket's name needs no right to its file
  auto& allowed = jail.filter.allowed;
  for (const int number :
       {// the main loop, its timers and wake-ups
        SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(eventfd2), SCMP_SYS(pipe2), SCMP_SYS(read),
        SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(fcntl),
        // the door, the log socket and the bus
        SCMP_SYS(connect), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt),
        SCMP_SYS(setsockopt), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom),
        SCMP_SYS(recvmsg), SCMP_SYS(shutdown), SCMP_SYS(writev), SCMP_SYS(readv),
        // memory
        SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
        // GDBus's thread, and those that GLib has for a while
        SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(gettid),
        SCMP_SYS(tgkill), SCMP_SYS(sched_yield), SCMP_SYS(sched_getattr), SCMP_SYS(sched_setattr),
        SCMP_SYS(sched_getaffinity),
        // the rest of what a process needs to live and to die
        SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),
        SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(getpid), SCMP_SYS(getuid),
        SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getresuid),
        SCMP_SYS(getresgid), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigaction), SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group)}) {
    allowed.push_back({number});
  }
  allowed.push_back({SCMP_SYS(socket), {scmp_arg_cmp{0, SCMP_CMP_MASKED_EQ, kLow, AF_UNIX}}});
  allowed.push_back(
      {SCMP_SYS(clone), {scmp_arg_cmp{kCloneFlags, SCMP_CMP_MASKED_EQ, kThread, kThread}}});
  // A thread's name.
  allowed.push_back({SCMP_SYS(prctl), {scmp_arg_cmp{0, SCMP_CMP_EQ, PR_SET_NAME, 0}}});
  // No memory that can be executed.
  for (const int number : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    allowed.push_back({number, {scmp_arg_cmp{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}});
  }
  // Libraries that look for a file find that they may not, and go on. clone3 hides its flags in
  // memory, and without it libraries use clone.
  for (const int number :
       {SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat),
        SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(access), SCMP_SYS(faccessat),
        SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(uname),
        SCMP_SYS(ioctl), SCMP_SYS(sysinfo)}) {
    jail.filter.refused.push_back({number});
  }
  jail.filter.refused.push_back({SCMP_SYS(clone3), {}, ENOSYS});
  return jail;
}

}  // namespace mandos::bus_agent
