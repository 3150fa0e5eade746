// SPDX-License-Identifier: GPL-3.0-or-later
// Forbidden acts, each tried from inside the jail of each of the five processes, by a process in
// its place. One table says what comes of it. Needs root.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "bus-agent/jail.h"
#include "checker-runner/jail.h"
#include "common/event_loop.h"
#include "monitor/jail.h"
#include "networker/jail.h"
#include "supervisor/jail.h"
#include "tests/support/as_networker.h"

namespace mandos {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kUser = 60999;
constexpr int kKilled = -1;     // at once, by SIGSYS
constexpr int kLandlock4 = -2;  // EACCES where the kernel's Landlock knows of TCP; else it works
enum Process { kSupervisor, kMonitor, kNetworker, kCheckerRunner, kBusAgent, kProcesses };
constexpr std::array<const char*, kProcesses> kNames = {"supervisor", "monitor", "networker",
                                                        "checker-runner", "bus-agent"};

/// What the acts find in the process.
struct Place {
  int tcp = -1;       // neither bound nor connected
  int listener = -1;  // on loopback
  int unix = -1;      // one end of a stream
  int file = -1;      // a file of the state
  pid_t other = -1;   // a process of root
  fs::path top;       // holds config, of root alone; state, of root alone; common, of everybody
  sockaddr_in6 loopback{};
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&loopback); }
  std::string in(const char* name) const { return (top / name).native(); }
};

/// The result of an act: 0, or errno.
int errno_of(long result) { return result == -1 ? errno : 0; }
int call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  return errno_of(syscall(number, a, b, c, d, e, f));
}
long at(const void* pointer) { return reinterpret_cast<long>(pointer); }
int opened(const std::string& path, int flags) { return errno_of(open(path.c_str(), flags, 0600)); }
int made(const std::string& path) { return opened(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC); }
int mapped(int protection) {
  return errno_of(
      reinterpret_cast<long>(mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
}
int forked(long flags) {
  const long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  return errno_of(child);
}
int socket_of(int family, int type, int protocol = 0) {
  return errno_of(socket(family, type | SOCK_CLOEXEC, protocol));
}

alignas(4096) char some_room[4096];

struct Act {
  const char* name;
  std::array<int, kProcesses> outcome;
  int (*act)(const Place&);
};
void PrintTo(const Act& act, std::ostream* out) { *out << act.name; }

constexpr int K = kKilled;
// Debugging, mounting, kernel modules and the like: nobody's.
constexpr std::array<int, kProcesses> kNobody = {EPERM, K, K, EPERM, K};
// clang-format off
#define MANDOS_NOBODY(name) Act{#name, kNobody, [](const Place&) { return call(SYS_##name); }}
const std::vector<Act> kActs{
  // supervisor, monitor, networker, checker-runner, bus-agent
  MANDOS_NOBODY(ptrace), MANDOS_NOBODY(process_vm_readv), MANDOS_NOBODY(process_vm_writev),
  MANDOS_NOBODY(kcmp), MANDOS_NOBODY(pidfd_getfd), MANDOS_NOBODY(bpf),
  MANDOS_NOBODY(perf_event_open), MANDOS_NOBODY(userfaultfd), MANDOS_NOBODY(keyctl),
  MANDOS_NOBODY(add_key), MANDOS_NOBODY(request_key), MANDOS_NOBODY(mount),
  MANDOS_NOBODY(umount2), MANDOS_NOBODY(pivot_root), MANDOS_NOBODY(move_mount),
  MANDOS_NOBODY(open_tree), MANDOS_NOBODY(fsopen), MANDOS_NOBODY(fsmount),
  MANDOS_NOBODY(fsconfig), MANDOS_NOBODY(fspick), MANDOS_NOBODY(mount_setattr),
  MANDOS_NOBODY(unshare), MANDOS_NOBODY(setns), MANDOS_NOBODY(init_module),
  MANDOS_NOBODY(finit_module), MANDOS_NOBODY(delete_module), MANDOS_NOBODY(kexec_load),
  MANDOS_NOBODY(reboot), MANDOS_NOBODY(swapon), MANDOS_NOBODY(swapoff), MANDOS_NOBODY(acct),
  MANDOS_NOBODY(quotactl), MANDOS_NOBODY(syslog), MANDOS_NOBODY(settimeofday),
  MANDOS_NOBODY(clock_settime), MANDOS_NOBODY(adjtimex), MANDOS_NOBODY(clock_adjtime),
  MANDOS_NOBODY(open_by_handle_at), MANDOS_NOBODY(name_to_handle_at),
  MANDOS_NOBODY(io_uring_setup), MANDOS_NOBODY(io_uring_enter), MANDOS_NOBODY(io_uring_register),
  MANDOS_NOBODY(fanotify_init), MANDOS_NOBODY(vhangup),
  // Sockets.
  {"tcp_socket", {0, K, K, 0, K},
   [](const Place&) { return socket_of(AF_INET6, SOCK_STREAM); }},
  {"unix_socket", {0, K, K, 0, 0},
   [](const Place&) { return socket_of(AF_UNIX, SOCK_STREAM); }},
  {"netlink_socket", {0, K, K, 0, K},
   [](const Place&) { return socket_of(AF_NETLINK, SOCK_RAW); }},
  {"raw_socket", {0, K, K, 0, K},
   [](const Place&) { return socket_of(AF_INET, SOCK_RAW, IPPROTO_ICMP); }},
  {"socket_pair", {0, K, K, 0, K},
   [](const Place&) { int pair[2]; return errno_of(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)); }},
  {"connect", {0, K, K, 0, kLandlock4},
   [](const Place& p) { return errno_of(connect(p.tcp, p.address(), sizeof p.loopback)); }},
  {"bind", {0, K, K, 0, K},
   [](const Place& p) {
     sockaddr_in6 any{};
     any.sin6_family = AF_INET6;
     return errno_of(bind(p.tcp, reinterpret_cast<sockaddr*>(&any), sizeof any));
   }},
  {"listen", {0, K, K, 0, K}, [](const Place& p) { return errno_of(listen(p.listener, 1)); }},
  {"accept", {EAGAIN, K, K, EAGAIN, K},
   [](const Place& p) { return errno_of(accept4(p.listener, nullptr, nullptr, 0)); }},
  // Other processes.
  {"execute", {0, K, K, 0, K},
   [](const Place&) { return errno_of(execl("/bin/true", "true", nullptr)); }},
  {"fork", {0, K, K, 0, K}, [](const Place&) { return forked(0); }},
  {"thread", {0, K, K, 0, K},
   [](const Place&) { std::thread([] {}).join(); return 0; }},
  // An error, so that libraries use clone(2), whose flags a filter can see.
  {"clone3", {EINVAL, K, K, ENOSYS, K},
   [](const Place&) { return call(SYS_clone3, at(some_room), 1); }},
  {"user_name_space", {0, K, K, EPERM, K}, [](const Place&) { return forked(CLONE_NEWUSER); }},
  {"mount_name_space", {EPERM, K, K, EPERM, K}, [](const Place&) { return forked(CLONE_NEWNS); }},
  {"kill_of_another", {0, K, K, EPERM, K},
   [](const Place& p) { return errno_of(kill(p.other, 0)); }},
  {"signal_to_a_thread_of_another", {0, K, K, EPERM, EPERM},
   [](const Place& p) { return call(SYS_tgkill, p.other, p.other, 0); }},
  {"limits_of_another", {0, K, K, EPERM, K},
   [](const Place& p) {
     rlimit limit;
     return errno_of(prlimit(p.other, RLIMIT_NOFILE, nullptr, &limit));
   }},
  {"memory_of_another", {EACCES, EACCES, EACCES, EACCES, EACCES},
   [](const Place& p) {
     return opened("/proc/" + std::to_string(p.other) + "/mem", O_RDONLY);
   }},
  // Who it is. The supervisor is root and starts the others as their users.
  {"be_root", {0, K, K, EPERM, K}, [](const Place&) { return errno_of(setuid(0)); }},
  {"be_somebody", {0, K, K, EPERM, K}, [](const Place&) { return errno_of(setresuid(1, 1, 1)); }},
  {"be_of_a_group", {0, K, K, EPERM, K},
   [](const Place&) { return errno_of(setresgid(1, 1, 1)); }},
  {"more_capabilities", {EPERM, K, K, EPERM, K},
   [](const Place&) {
     __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
     std::array<__user_cap_data_struct, 2> all{};
     all.fill({~0U, ~0U, ~0U});
     return call(SYS_capset, at(&header), at(all.data()));
   }},
  {"another_root", {0, K, K, EPERM, K}, [](const Place&) { return errno_of(chroot("/")); }},
  {"a_way_back_to_new_privileges", {EINVAL, K, K, EINVAL, K},
   [](const Place&) { return errno_of(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); }},
  {"no_filter_any_more", {EINVAL, K, K, EINVAL, K},
   [](const Place&) { return errno_of(prctl(PR_SET_SECCOMP, 0, 0, 0, 0)); }},
  {"another_filter", {EFAULT, K, K, EFAULT, K}, [](const Place&) { return call(SYS_seccomp, 1); }},
  {"core_files", {EPERM, K, K, EPERM, K},
   [](const Place&) {
     const rlimit more{1, 1};
     return errno_of(setrlimit(RLIMIT_CORE, &more));
   }},
  {"another_personality", {0, K, K, EPERM, K},
   [](const Place&) { return call(SYS_personality, ADDR_NO_RANDOMIZE); }},
  {"host_name", {EPERM, K, K, EPERM, K}, [](const Place&) { return call(SYS_sethostname); }},
  {"type_into_a_terminal", {ENOTTY, K, K, EPERM, EACCES},
   [](const Place& p) { return errno_of(ioctl(p.file, TIOCSTI, "x")); }},
  {"type_into_a_terminal_by_a_number_with_upper_bits", {ENOTTY, K, K, EPERM, EACCES},
   [](const Place& p) {
     return call(SYS_ioctl, p.file, static_cast<long>(1ULL << 32 | TIOCSTI), at("x"));
   }},
  // Files.
  {"read_the_configuration", {0, 0, EACCES, EACCES, EACCES},
   [](const Place& p) { return opened(p.in("config/clients.conf"), O_RDONLY); }},
  {"write_the_configuration", {0, EACCES, EACCES, EACCES, EACCES},
   [](const Place& p) { return opened(p.in("config/clients.conf"), O_WRONLY); }},
  {"read_other_files_of_root", {0, EACCES, EACCES, EACCES, EACCES},
   [](const Place&) { return opened("/etc/shadow", O_RDONLY); }},
  {"read_the_state", {0, 0, EACCES, EACCES, EACCES},
   [](const Place& p) { return opened(p.in("state/file"), O_RDONLY); }},
  {"make_a_file_of_the_state", {0, 0, EACCES, EACCES, EACCES},
   [](const Place& p) { return made(p.in("state/new")); }},
  {"make_a_file_where_everybody_may", {0, EACCES, EACCES, 0, EACCES},
   [](const Place& p) { return made(p.in("common/new")); }},
  {"make_a_folder", {0, K, K, EACCES, K},
   [](const Place& p) { return errno_of(mkdir(p.in("state/folder").c_str(), 0700)); }},
  {"make_a_link", {0, K, K, EACCES, K},
   [](const Place& p) { return errno_of(symlink("/etc/shadow", p.in("state/link").c_str())); }},
  {"give_a_file_away", {EPERM, K, K, EACCES, K},
   [](const Place& p) { return errno_of(chown(p.in("state/file").c_str(), 1, 1)); }},
  {"change_a_mode", {0, K, K, EACCES, K},
   [](const Place& p) { return errno_of(chmod(p.in("state/file").c_str(), 0600)); }},
  // Memory.
  {"executable_memory", {0, K, K, 0, K},
   [](const Place&) { return mapped(PROT_READ | PROT_EXEC); }},
  {"executable_file", {0, K, K, 0, K},
   [](const Place& p) {
     return errno_of(reinterpret_cast<long>(
         mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, p.file, 0)));
   }},
  {"make_memory_executable", {0, K, K, 0, K},
   [](const Place&) {
     return errno_of(mprotect(some_room, sizeof some_room, PROT_READ | PROT_EXEC));
   }},
  {"nameless_file", {0, K, K, 0, K}, [](const Place&) { return call(SYS_memfd_create, at("x")); }},
#ifdef __x86_64__
  {"call_of_32_bits", {K, K, K, K, K},
   [](const Place&) {
     long result = 20;  // getpid, in the numbers of i386
     asm volatile("int $0x80" : "+a"(result) : : "memory");
     return 0;
   }},
  {"call_of_x32", {K, K, K, K, K},
   [](const Place&) { return call(0x40000000 | SYS_getpid); }},
#endif
  // What each needs.
  {"memory", {0, 0, 0, 0, 0}, [](const Place&) { return mapped(PROT_READ | PROT_WRITE); }},
  {"random_numbers", {0, 0, 0, 0, 0},
   [](const Place&) { return errno_of(getrandom(some_room, 32, 0)); }},
  {"file_to_disk", {0, 0, K, 0, K}, [](const Place& p) { return errno_of(fsync(p.file)); }},
  {"locked_memory", {0, 0, K, 0, K}, [](const Place&) { return errno_of(mlock(some_room, 1)); }},
};
// clang-format on
#undef MANDOS_NOBODY

class InAJail : public testing::Test {
 protected:
  InAJail() {
    std::string name = (fs::temp_directory_path() / "jails.XXXXXX").native();
    place_.top = fs::canonical(mkdtemp(name.data()));
    for (const auto& [folder, mode] :
         {std::pair{"config", 0700}, std::pair{"state", 0700}, std::pair{"common", 0777}}) {
      fs::create_directory(place_.top / folder);
      chmod(place_.in(folder).c_str(), static_cast<mode_t>(mode));
    }
    chmod(place_.top.c_str(), 0755);
    for (const char* file : {"config/clients.conf", "state/file"}) {
      std::ofstream(place_.top / file) << "x";
      chmod(place_.in(file).c_str(), 0600);
    }
    place_.other = getpid();
  }
  ~InAJail() override { fs::remove_all(place_.top); }

  void prepare() {
    place_.loopback.sin6_family = AF_INET6;
    place_.loopback.sin6_addr = in6addr_loopback;
    place_.tcp = socket(AF_INET6, SOCK_STREAM, 0);
    place_.listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof place_.loopback;
    auto* address = reinterpret_cast<sockaddr*>(&place_.loopback);
    place_.file = open(place_.in("state/file").c_str(), O_RDWR);
    if (place_.tcp < 0 || place_.file < 0 || bind(place_.listener, address, size) != 0 ||
        listen(place_.listener, 1) != 0 || getsockname(place_.listener, address, &size) != 0) {
      test::die("preparing");
    }
  }

  static jail::Jail jail_of(Process process, const Place& place, const EventLoop& loop) {
    switch (process) {
      case kSupervisor:
        return supervisor::supervisor_jail();
      case kMonitor:
        return monitor::monitor_jail({place.in("config")}, {place.in("state")});
      case kNetworker:
        return networker::networker_jail(loop.timer_fd(), 64);
      case kCheckerRunner:
        return checker_runner::checker_jail();
      default:
        return bus_agent::bus_agent_jail();
    }
  }

  /// As the supervisor starts it.
  static void start_as(Process process) {
    if (process == kNetworker) {
      test::provide_root();
      test::drop_to(kUser, {CAP_SYS_CHROOT, CAP_SETPCAP});
    }
    if (process == kCheckerRunner) test::drop_to(kUser, {CAP_NET_RAW, CAP_SETPCAP});
    if (process == kBusAgent) test::drop_to(kUser, {CAP_SETPCAP});
  }

  /// What `act` came to inside of the jail: 0, errno, or kKilled. `before` runs outside of it.
  int tried(
      Process process, int (*act)(const Place&), void (*before)() = [] {}) {
    const pid_t child = fork();
    if (child == 0) {
      before();
      prepare();
      EventLoop loop;
      const jail::Jail jail = jail_of(process, place_, loop);
      start_as(process);
      if (const auto confined = jail::enter(jail); !confined) {
        test::die(confined.error().c_str());
      }
      _exit(act(place_));
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    for (const char* made : {"state/new", "state/folder", "state/link", "common/new"}) {
      std::error_code failed;
      fs::remove(place_.top / made, failed);
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) return kKilled;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
  }

  Place place_;
};

class Jails : public InAJail, public testing::WithParamInterface<Act> {};

TEST_P(Jails, HoldInEachProcess) {
  const long landlock = syscall(SYS_landlock_create_ruleset, nullptr, 0, 1);
  for (int process = 0; process < kProcesses; ++process) {
    int wanted = GetParam().outcome[static_cast<std::size_t>(process)];
    if (wanted == kLandlock4) wanted = landlock >= 4 ? EACCES : 0;
    EXPECT_EQ(tried(static_cast<Process>(process), GetParam().act), wanted)
        << kNames[static_cast<std::size_t>(process)];
  }
}

INSTANTIATE_TEST_SUITE_P(Acts, Jails, testing::ValuesIn(kActs),
                         [](const auto& one) { return std::string(one.param.name); });

class WhereEverybodyMayWrite : public InAJail {};

// Modes of files keep an account off what is root's. Here they do not, and Landlock alone does.
TEST_F(WhereEverybodyMayWrite, NobodyWritesBeneathBoot) {
  if (syscall(SYS_landlock_create_ruleset, nullptr, 0, 1) < 1) GTEST_SKIP() << "no Landlock";
  const auto open_boot_to_everybody = [] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", "/boot", "tmpfs", 0, "mode=1777") != 0) {
      test::die("/boot");
    }
  };
  for (const Process process : {kMonitor, kNetworker, kCheckerRunner, kBusAgent}) {
    EXPECT_EQ(tried(
                  process, [](const Place&) { return made("/boot/new"); }, open_boot_to_everybody),
              EACCES)
        << kNames[process];
  }
}

// What the filter of system calls would hide if it were there: each of the other layers by itself.
class Layers : public InAJail, public testing::WithParamInterface<Process> {
 protected:
  /// The first layer that does not hold after `process` went into its jail, or an empty text.
  std::string loose_layer(Process process) {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ends.data()), 0);
    const UniqueFd out(ends[0]);
    UniqueFd in(ends[1]);
    const pid_t child = fork();
    if (child == 0) {
      EventLoop loop;
      jail::Jail jail = jail_of(process, place_, loop);
      std::vector<unsigned> kept = jail.capabilities;
      jail.filter = {.allow_list = false};
      std::erase_if(jail.limits, [](const auto& limit) { return limit.first == RLIMIT_FSIZE; });
      const rlimit core{RLIM_INFINITY, RLIM_INFINITY};
      if (setrlimit(RLIMIT_CORE, &core) != 0) test::die("setrlimit");
      start_as(process);
      const auto entered = jail::enter(jail);
      const std::string loose = entered ? first_loose(kept) : entered.error();
      static_cast<void>(!write(in.get(), loose.data(), loose.size()));
      _exit(0);
    }
    in.reset();
    std::array<char, 200> text{};
    const ssize_t size = read(out.get(), text.data(), text.size());
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
  }

  static std::string first_loose(const std::vector<unsigned>& kept) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> sets{};
    if (syscall(SYS_capget, &header, sets.data()) != 0) return "capget";
    for (unsigned number = 0; number <= CAP_LAST_CAP; ++number) {
      const bool wanted = std::ranges::count(kept, number) > 0;
      const auto& set = sets.at(number / 32);
      const auto in = [number](unsigned bits) { return (bits >> number % 32 & 1) != 0; };
      const auto name = [number](const char* what) { return what + std::to_string(number); };
      if (in(set.effective) != wanted) return name("effective capability ");
      if (in(set.permitted) != wanted) return name("permitted capability ");
      if (in(set.inheritable) != wanted) return name("inheritable capability ");
      if ((prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1) != wanted) return name("bounding set ");
      if ((prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number, 0, 0) == 1) != wanted) {
        return name("ambient capability ");
      }
    }
    rlimit core{};
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0) {
      return "core limit";
    }
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return "no_new_privs";
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) return "dumpable";
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2) return "seccomp";
    return "";
  }
};

TEST_P(Layers, EachHoldsByItself) { EXPECT_EQ(loose_layer(GetParam()), ""); }

INSTANTIATE_TEST_SUITE_P(Processes, Layers,
                         testing::Values(kSupervisor, kMonitor, kNetworker, kCheckerRunner,
                                         kBusAgent),
                         [](const auto& one) {
                           std::string name = kNames[one.param];
                           std::erase(name, '-');
                           return name;
                         });

// The uid layer: whoever was not dropped properly does not get into an unprivileged jail.
TEST(JailOfTheUnprivileged, RefusesWhoeverIsNot) {
  struct Start {
    const char* name;
    void (*as)();
    int outcome;
  };
  const std::array<Start, 7> starts{{
      {"root", [] {}, 1},
      {"root with a group of its own",
       [] {
         static_cast<void>(!setgroups(0, nullptr));
         static_cast<void>(!setresgid(kUser, kUser, kUser));
       },
       1},
      {"a group of root",
       [] {
         static_cast<void>(!setgroups(0, nullptr));
         static_cast<void>(!setresuid(kUser, kUser, kUser));
       },
       1},
      {"root as saved user",
       [] {
         static_cast<void>(!setgroups(0, nullptr));
         static_cast<void>(!setresgid(kUser, kUser, kUser));
         static_cast<void>(!setresuid(kUser, kUser, 0));
       },
       1},
      {"another saved user",
       [] {
         static_cast<void>(!setgroups(0, nullptr));
         static_cast<void>(!setresgid(kUser, kUser, kUser));
         static_cast<void>(!setresuid(kUser, kUser, kUser + 1));
       },
       1},
      {"supplementary groups",
       [] {
         constexpr gid_t kOther = 1;
         static_cast<void>(!setgroups(1, &kOther));
         static_cast<void>(!setresgid(kUser, kUser, kUser));
         static_cast<void>(!setresuid(kUser, kUser, kUser));
       },
       1},
      {"an account of its own", [] { test::drop_to(kUser, {CAP_SETPCAP}); }, 0},
  }};
  for (const auto& start : starts) {
    const pid_t child = fork();
    if (child == 0) {
      // With every capability, so that nothing else than the account is in the way.
      if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0) test::die("securebits");
      start.as();
      _exit(jail::enter({.filter = {.allow_list = false}}) ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), start.outcome) << start.name;
  }
}

TEST(JailOfTheUnprivileged, EachOfTheThreeRefusesRoot) {
  for (const auto& jail : {networker::networker_jail(0, 64), checker_runner::checker_jail(),
                           bus_agent::bus_agent_jail()}) {
    const pid_t child = fork();
    if (child == 0) {
      test::provide_root();
      // An allow-list would end the process at its exit.
      jail::Jail without_filter = jail;
      without_filter.filter = {.allow_list = false};
      _exit(jail::enter(without_filter) ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  }
}

}  // namespace
}  // namespace mandos
