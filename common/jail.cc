// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/jail.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <system_error>

#include "common/unique_fd.h"
#include "config.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MANDOS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MANDOS_SANITIZED 1
#endif
#endif
#ifndef MANDOS_SANITIZED
#define MANDOS_SANITIZED 0
#endif

namespace mandos::jail {
namespace {

// linux/landlock.h of the oldest supported system ends at version 2: the rest of the ABI is here.
struct LandlockRuleset {
  std::uint64_t fs;
  std::uint64_t net;
  std::uint64_t scoped;
};
struct [[gnu::packed]] LandlockPath {
  std::uint64_t allowed;
  std::int32_t parent;
};
constexpr std::uint64_t kExecute = 1 << 0, kWriteFile = 1 << 1, kReadFile = 1 << 2,
                        kReadDir = 1 << 3, kRemoveFile = 1 << 5, kMakeReg = 1 << 8,
                        kTruncate = 1 << 14;
constexpr std::uint64_t kRead = kReadFile | kReadDir;
constexpr std::uint64_t kWrite = kRead | kWriteFile | kRemoveFile | kMakeReg | kTruncate;
// What a rule for a file, not a directory, may hold: all but listing, making and removing.
constexpr std::uint64_t kOfFile = kExecute | kWriteFile | kReadFile | kTruncate | 1 << 15;
constexpr std::uint64_t kEverything = 0xffff;
constexpr std::uint64_t kTcpBindConnect = 3;
constexpr std::uint64_t kScopeAbstractUnixAndSignal = 3;

Status landlock_add(int ruleset, const std::vector<std::string>& paths, std::uint64_t access) {
  for (const auto& path : paths) {
    const UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
    struct statx status {};
    // Without a word to the file system, which may hang: only the kind is of interest.
    if (!fd || statx(fd.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) != 0) {
      // What cannot be reached, or may not even be looked at (SELinux), needs no rule.
      if (errno == ENOENT || errno == EACCES) continue;
      return errno_error(errno, "Landlock: open ", path);
    }
    const LandlockPath rule{S_ISDIR(status.stx_mode) ? access : access & kOfFile, fd.get()};
    if (syscall(SYS_landlock_add_rule, ruleset, 1, &rule, 0) != 0) {
      return errno_error(errno, "Landlock: add rule for ", path);
    }
  }
  return Ok{};
}

/// "landlock(version)", or the reason why there is none.
Result<std::string> enter_landlock(const Landlock& rules) {
  constexpr unsigned kAskVersion = 1;
  const long version = syscall(SYS_landlock_create_ruleset, nullptr, 0, kAskVersion);
  if (version < 0) return concat("no landlock (", std::strerror(errno), ")");
  const std::uint64_t files = version >= 5   ? 0xffff
                              : version >= 3 ? 0x7fff
                              : version == 2 ? 0x3fff
                                             : 0x1fff;
  const LandlockRuleset ruleset{
      .fs = rules.forbid_reading ? files : files & ~(kRead | kExecute),
      .net = version >= 4 && rules.forbid_tcp ? kTcpBindConnect : 0,
      .scoped = version >= 6 && rules.forbid_tcp ? kScopeAbstractUnixAndSignal : 0};
  const std::size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  const UniqueFd fd(static_cast<int>(syscall(SYS_landlock_create_ruleset, &ruleset, size, 0)));
  if (!fd) return errno_error(errno, "Landlock: create ruleset");
  for (const auto& [paths, access] : {std::pair{&rules.readable, kRead},
                                      {&rules.writable, kWrite},
                                      {&rules.executable, kRead | kExecute},
                                      {&rules.unrestricted, kEverything}}) {
    if (auto added = landlock_add(fd.get(), *paths, access & ruleset.fs); !added) {
      return Error{added.error()};
    }
  }
  if (syscall(SYS_landlock_restrict_self, fd.get(), 0) != 0) {
    return errno_error(errno, "Landlock: restrict");
  }
  if (rules.forbid_reading && UniqueFd(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC))) {
    return Error{"Landlock is not in force"};
  }
  return concat("landlock(", version, ")");
}

Status check_unprivileged() {
  std::array<uid_t, 3> uid{};
  std::array<gid_t, 3> gid{};
  if (getresuid(&uid[0], &uid[1], &uid[2]) != 0 || getresgid(&gid[0], &gid[1], &gid[2]) != 0) {
    return errno_error(errno, "getresuid");
  }
  if (std::ranges::count(uid, uid_t{0}) > 0 || std::ranges::count(gid, gid_t{0}) > 0) {
    return Error{"started with user or group 0: must run as an account of its own"};
  }
  if (std::ranges::count(uid, uid[0]) != 3 || std::ranges::count(gid, gid[0]) != 3) {
    return Error{"real, effective and saved user or group differ"};
  }
  if (getgroups(0, nullptr) != 0) return Error{"started with supplementary groups"};
  return Ok{};
}

Status keep_capabilities(const std::vector<unsigned>& kept) {
  capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned capability : kept) capng_update(CAPNG_ADD, kCapabilitySets, capability);
  // The bounding set first: afterwards the right to change it is gone. Without that right it may be
  // as it should be already, which is verified below.
  const bool bounded = capng_apply(CAPNG_SELECT_BOUNDS) == 0;
  const bool applied = capng_apply(CAPNG_SELECT_CAPS) == 0 &&
                       (kept.empty() || capng_apply(CAPNG_SELECT_AMBIENT) == 0);
  if (capng_get_caps_process() != 0) return Error{"capabilities could not be read back"};
  for (unsigned capability = 0; capability <= CAP_LAST_CAP; ++capability) {
    const bool wanted = std::ranges::count(kept, capability) > 0;
    if (within_bounds(capability) != wanted ||
        (capng_have_capability(CAPNG_PERMITTED, capability) != 0) != wanted ||
        (capng_have_capability(CAPNG_EFFECTIVE, capability) != 0) != wanted) {
      return Error{concat("capability ", capng_capability_to_name(capability),
                          wanted    ? " is missing"
                          : bounded ? " could not be dropped"
                                    : " could not be dropped without setpcap")};
    }
  }
  if (!applied) return Error{"capabilities could not be set"};
  return Ok{};
}

Status add_rules(scmp_filter_ctx filter, std::uint32_t action,
                 const std::vector<SyscallRule>& rules) {
  for (const auto& rule : rules) {
    const auto found = std::ranges::find(operations(), rule.number, &Operation::named);
    const auto operation =
        found == operations().end() ? Operation{rule.number, {{rule.number}}} : *found;
    if (!operation.comparable && !rule.arguments.empty()) {
      return Error{concat("seccomp rule ", rule.number, " compares what is in different places")};
    }
    for (const auto& call : operation.calls) {
      auto arguments = rule.arguments;
      std::erase_if(arguments, [&call](const auto& each) { return each.arg >= call.arguments; });
      const int failed = seccomp_rule_add_array(
          filter, rule.error != 0 ? SCMP_ACT_ERRNO(rule.error) : action, call.number,
          static_cast<unsigned>(arguments.size()), arguments.data());
      // A call that this architecture does not have needs no rule.
      if (failed != 0 && failed != -EDOM) return errno_error(-failed, "seccomp rule ", call.number);
    }
  }
  return Ok{};
}

/// Where there is socketcall(2): it has its arguments in memory, which no filter can look into, and
/// a rule for a socket call would allow it with any. See direct_socket_calls.cc.
[[maybe_unused]] Status forbid_socketcall(std::uint32_t kill) {
#ifdef SYS_socketcall
  const std::unique_ptr<void, void (*)(void*)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                      &seccomp_release);
  if (filter == nullptr) return Error{"seccomp_init failed"};
  int failed = seccomp_rule_add(filter.get(), kill, SCMP_SYS(socketcall), 0);
  if (failed == 0) failed = seccomp_load(filter.get());
  if (failed != 0) return errno_error(-failed, "seccomp rule for socketcall");
#else
  static_cast<void>(kill);
#endif
  return Ok{};
}

/// For a development build: says which call was refused. It allocates, which a handler should not.
[[maybe_unused]] void name_refused_call(int, siginfo_t* info, void*) {
  const char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, info->si_syscall);
  const std::string text =
      concat("jail: refused call ", name == nullptr ? "?" : name, " (", info->si_syscall, ")\n");
  static_cast<void>(!write(STDERR_FILENO, text.data(), text.size()));
  _exit(128 + SIGSYS);
}

[[maybe_unused]] Status enter_seccomp(const Filter& rules) {
  const std::uint32_t kill = MANDOS_SECCOMP_TRAP ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS;
  const std::unique_ptr<void, void (*)(void*)> filter(
      seccomp_init(rules.allow_list ? kill : SCMP_ACT_ALLOW), &seccomp_release);
  if (filter == nullptr) return Error{"seccomp_init failed"};
  auto allowed = rules.allowed;
  // The question that this function ends with.
  if (rules.allow_list) {
    if (auto forbidden = forbid_socketcall(kill); !forbidden) return forbidden;
    allowed.push_back({SCMP_SYS(prctl), {{0, SCMP_CMP_EQ, PR_GET_SECCOMP, 0}}});
    if constexpr (MANDOS_SECCOMP_TRAP) {
      struct sigaction action {};
      action.sa_sigaction = &name_refused_call;
      action.sa_flags = SA_SIGINFO;
      sigaction(SIGSYS, &action, nullptr);
      allowed.push_back({SCMP_SYS(write), {{0, SCMP_CMP_EQ, STDERR_FILENO, 0}}});
    }
  }
  if (auto added = add_rules(filter.get(), SCMP_ACT_ALLOW, allowed); !added) return added;
  const std::uint32_t refuse = SCMP_ACT_ERRNO(rules.allow_list ? EACCES : EPERM);
  if (auto added = add_rules(filter.get(), refuse, rules.refused); !added) return added;
  if (const int failed = seccomp_load(filter.get()); failed != 0) {
    return errno_error(-failed, "seccomp_load");
  }
  if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2) return Error{"seccomp is not in force"};
  return Ok{};
}

}  // namespace

const std::vector<Operation>& operations() {
  static const std::vector<Operation> table = {
      // time and waiting
      {SCMP_SYS(clock_gettime),
       {{SCMP_SYS(clock_gettime)},
        {SCMP_SYS(clock_gettime64)},
        {SCMP_SYS(gettimeofday)},
        {SCMP_SYS(time)}},
       false},
      {SCMP_SYS(clock_settime),
       {{SCMP_SYS(clock_settime)},
        {SCMP_SYS(clock_settime64)},
        {SCMP_SYS(settimeofday)},
        {SCMP_SYS(stime)}},
       false},
      {SCMP_SYS(clock_adjtime),
       {{SCMP_SYS(clock_adjtime)}, {SCMP_SYS(clock_adjtime64)}, {SCMP_SYS(adjtimex)}},
       false},
      {SCMP_SYS(nanosleep),
       {{SCMP_SYS(nanosleep)}, {SCMP_SYS(clock_nanosleep)}, {SCMP_SYS(clock_nanosleep_time64)}},
       false},
      {SCMP_SYS(timerfd_settime), {{SCMP_SYS(timerfd_settime)}, {SCMP_SYS(timerfd_settime64)}}},
      {SCMP_SYS(epoll_wait),
       {{SCMP_SYS(epoll_wait)}, {SCMP_SYS(epoll_pwait)}, {SCMP_SYS(epoll_pwait2)}}},
      {SCMP_SYS(poll), {{SCMP_SYS(poll)}, {SCMP_SYS(ppoll)}, {SCMP_SYS(ppoll_time64)}}},
      {SCMP_SYS(futex), {{SCMP_SYS(futex)}, {SCMP_SYS(futex_time64)}}},
      {SCMP_SYS(io_getevents),
       {{SCMP_SYS(io_getevents)}, {SCMP_SYS(io_pgetevents)}, {SCMP_SYS(io_pgetevents_time64)}}},
      // files
      {SCMP_SYS(open), {{SCMP_SYS(open)}, {SCMP_SYS(openat)}}, false},
      {SCMP_SYS(stat),
       {{SCMP_SYS(stat)},
        {SCMP_SYS(lstat)},
        {SCMP_SYS(fstat)},
        {SCMP_SYS(newfstatat)},
        {SCMP_SYS(stat64)},
        {SCMP_SYS(lstat64)},
        {SCMP_SYS(fstat64)},
        {SCMP_SYS(fstatat64)},
        {SCMP_SYS(statx)}},
       false},
      {SCMP_SYS(access),
       {{SCMP_SYS(access)}, {SCMP_SYS(faccessat)}, {SCMP_SYS(faccessat2)}},
       false},
      {SCMP_SYS(readlink), {{SCMP_SYS(readlink)}, {SCMP_SYS(readlinkat)}}, false},
      {SCMP_SYS(rename), {{SCMP_SYS(rename)}, {SCMP_SYS(renameat)}, {SCMP_SYS(renameat2)}}, false},
      {SCMP_SYS(unlink), {{SCMP_SYS(unlink)}, {SCMP_SYS(unlinkat)}}, false},
      {SCMP_SYS(lseek), {{SCMP_SYS(lseek)}, {SCMP_SYS(_llseek)}}, false},
      {SCMP_SYS(ftruncate), {{SCMP_SYS(ftruncate)}, {SCMP_SYS(ftruncate64)}}, false},
      {SCMP_SYS(fcntl), {{SCMP_SYS(fcntl)}, {SCMP_SYS(fcntl64)}}},
      {SCMP_SYS(dup2), {{SCMP_SYS(dup2)}, {SCMP_SYS(dup3)}}},
      {SCMP_SYS(umount2), {{SCMP_SYS(umount2)}, {SCMP_SYS(umount)}}},
      // Without an address they have two arguments less.
      {SCMP_SYS(sendto), {{SCMP_SYS(sendto)}, {SCMP_SYS(send), 4}}},
      {SCMP_SYS(recvfrom), {{SCMP_SYS(recvfrom)}, {SCMP_SYS(recv), 4}}},
      // memory
      {SCMP_SYS(mmap),
       {{SCMP_SYS(mmap2)},
#if !defined(__i386__) && !defined(__s390__)  // there it has its arguments in memory
        {SCMP_SYS(mmap)}
#endif
       }},
      {SCMP_SYS(mprotect), {{SCMP_SYS(mprotect)}, {SCMP_SYS(pkey_mprotect)}}},
      {SCMP_SYS(mlock), {{SCMP_SYS(mlock)}, {SCMP_SYS(mlock2)}}},
      // the process
      {SCMP_SYS(getuid),
       {{SCMP_SYS(getuid)}, {SCMP_SYS(getuid32)}, {SCMP_SYS(geteuid)}, {SCMP_SYS(geteuid32)}}},
      {SCMP_SYS(getgid),
       {{SCMP_SYS(getgid)}, {SCMP_SYS(getgid32)}, {SCMP_SYS(getegid)}, {SCMP_SYS(getegid32)}}},
      {SCMP_SYS(getresuid), {{SCMP_SYS(getresuid)}, {SCMP_SYS(getresuid32)}}},
      {SCMP_SYS(getresgid), {{SCMP_SYS(getresgid)}, {SCMP_SYS(getresgid32)}}},
      {SCMP_SYS(rt_sigreturn), {{SCMP_SYS(rt_sigreturn)}, {SCMP_SYS(sigreturn)}}},
      {SCMP_SYS(exit), {{SCMP_SYS(exit)}, {SCMP_SYS(exit_group)}}},
  };
  return table;
}

scmp_arg_cmp is(unsigned argument, unsigned value) {
  return {argument, SCMP_CMP_MASKED_EQ, 0xffffffff, value};
}
scmp_arg_cmp has_only(unsigned argument, unsigned allowed, unsigned required) {
  return {argument, SCMP_CMP_MASKED_EQ, 0xffffffff & ~allowed, required};
}

std::vector<SyscallRule> memory_calls() {
  constexpr unsigned kAccess = PROT_READ | PROT_WRITE;
  std::vector<SyscallRule> rules{
      {SCMP_SYS(brk)},
      {SCMP_SYS(munmap)},
      {SCMP_SYS(mremap), {has_only(3, MREMAP_MAYMOVE | MREMAP_FIXED)}},
      {SCMP_SYS(mmap),
       {has_only(2, kAccess),
        has_only(3,
                 MAP_NORESERVE | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_STACK | MAP_POPULATE |
                     MAP_HUGETLB | (unsigned{MAP_HUGE_MASK} << MAP_HUGE_SHIFT),
                 MAP_PRIVATE | MAP_ANONYMOUS),
        is(4, ~0U)}},
      {SCMP_SYS(mprotect), {has_only(2, kAccess)}},
      // GWP-ASan, in scudo, notes who allocated what it guards.
      {SCMP_SYS(gettid)},
  };
  // The last two are MADV_GUARD_INSTALL and MADV_GUARD_REMOVE, for the stacks of glibc 2.42.
  for (const int advice : {MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP,
                           MADV_DODUMP, MADV_DONTFORK, MADV_WILLNEED, 102, 103}) {
    rules.push_back({SCMP_SYS(madvise), {is(2, static_cast<unsigned>(advice))}});
  }
  return rules;
}

void override_permissions(bool allowed) {
  const bool known = capng_get_caps_process() == 0;
  for (const unsigned capability : {unsigned{CAP_DAC_OVERRIDE}, unsigned{CAP_DAC_READ_SEARCH}}) {
    if (capng_have_capability(CAPNG_PERMITTED, capability) != 0) {
      capng_update(allowed ? CAPNG_ADD : CAPNG_DROP, CAPNG_EFFECTIVE, capability);
    }
  }
  if (!known || capng_apply(CAPNG_SELECT_CAPS) != 0) {
    throw std::system_error(errno, std::generic_category(), "changing the effective capabilities");
  }
}

bool within_bounds(unsigned capability) { return prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1; }

std::vector<SyscallRule> dangerous_calls() {
  std::vector<SyscallRule> rules;
  for (const int number : {SCMP_SYS(ptrace),
                           SCMP_SYS(process_vm_readv),
                           SCMP_SYS(process_vm_writev),
                           SCMP_SYS(kcmp),
                           SCMP_SYS(pidfd_getfd),
                           SCMP_SYS(bpf),
                           SCMP_SYS(perf_event_open),
                           SCMP_SYS(userfaultfd),
                           SCMP_SYS(keyctl),
                           SCMP_SYS(add_key),
                           SCMP_SYS(request_key),
                           SCMP_SYS(mount),
                           SCMP_SYS(umount2),
                           SCMP_SYS(pivot_root),
                           SCMP_SYS(move_mount),
                           SCMP_SYS(open_tree),
                           SCMP_SYS(fsopen),
                           SCMP_SYS(fsmount),
                           SCMP_SYS(fsconfig),
                           SCMP_SYS(fspick),
                           SCMP_SYS(mount_setattr),
                           SCMP_SYS(unshare),
                           SCMP_SYS(setns),
                           SCMP_SYS(init_module),
                           SCMP_SYS(finit_module),
                           SCMP_SYS(delete_module),
                           SCMP_SYS(kexec_load),
                           SCMP_SYS(kexec_file_load),
                           SCMP_SYS(reboot),
                           SCMP_SYS(swapon),
                           SCMP_SYS(swapoff),
                           SCMP_SYS(acct),
                           SCMP_SYS(quotactl),
                           SCMP_SYS(syslog),
                           SCMP_SYS(iopl),
                           SCMP_SYS(ioperm),
                           SCMP_SYS(clock_settime),
                           SCMP_SYS(clock_adjtime),
                           SCMP_SYS(open_by_handle_at),
                           SCMP_SYS(name_to_handle_at),
                           SCMP_SYS(io_uring_setup),
                           SCMP_SYS(io_uring_enter),
                           SCMP_SYS(io_uring_register),
                           SCMP_SYS(fanotify_init),
                           SCMP_SYS(lookup_dcookie),
                           SCMP_SYS(vhangup)}) {
    rules.push_back({number});
  }
  return rules;
}

Result<std::string> enter(const Jail& jail) {
  // At its first use glibc 2.41 makes room for the kernel's generator in user space, with calls
  // that no jail allows.
  if (getrandom(std::array<std::uint8_t, 1>{}.data(), 1, 0) != 1) {
    return errno_error(errno, "getrandom");
  }
  std::string report = concat("uid=", getuid(), " gid=", getgid());
  if (jail.unprivileged) {
    if (auto checked = check_unprivileged(); !checked) return Error{checked.error()};
  }
  if (jail.root != nullptr) {
    if (chroot(jail.root) != 0) return errno_error(errno, "chroot ", jail.root);
    if (chdir("/") != 0) return errno_error(errno, "chdir /");
    report += " root=empty";
  }
  if (auto kept = keep_capabilities(jail.capabilities); !kept) return Error{kept.error()};
  report += " capabilities=";
  for (const unsigned capability : jail.capabilities) {
    append(report, concat(capng_capability_to_name(capability), ','));
  }
  report.pop_back();
  if (jail.capabilities.empty()) report += "=none";
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
    return errno_error(errno, "no_new_privs");
  }
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return errno_error(errno, "PR_SET_DUMPABLE");
  }
  auto limits = jail.limits;
  limits.emplace_back(RLIMIT_CORE, 0);
  for (const auto& [resource, most] : limits) {
    // Standard error, where name_refused_call() writes, may be a file.
    if (MANDOS_SECCOMP_TRAP && resource == RLIMIT_FSIZE) continue;
    const rlimit limit{most, most};
    rlimit found{};
    if (setrlimit(resource, &limit) != 0 || getrlimit(resource, &found) != 0 ||
        found.rlim_cur != most || found.rlim_max != most) {
      return errno_error(errno, "setrlimit ", int{resource});
    }
  }
  report += " no_new_privs undumpable limits";
  if (jail.landlock) {
    auto entered = enter_landlock(*jail.landlock);
    if (!entered) return entered;
    report += concat(" ", *entered);
  }
  if constexpr (MANDOS_SANITIZED) {
    report += " no seccomp (sanitizer build, for tests only)";
  } else {
    if (auto entered = enter_seccomp(jail.filter); !entered) return Error{entered.error()};
    report += jail.filter.allow_list ? " seccomp=allow-list" : " seccomp=deny-list";
  }
  return report;
}

}  // namespace mandos::jail
