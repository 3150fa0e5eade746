// SPDX-License-Identifier: GPL-3.0-or-later
// Each forbidden act, tried from inside the jail by a process in the networker's place. Needs root.
#include "networker/jail.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/memfd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "common/channel.h"
#include "common/child.h"
#include "common/event_loop.h"
#include "common/log.h"
#include "tests/support/as_networker.h"

namespace mandos::networker {
namespace {

constexpr uid_t kUser = 60999;

/// What the acts find in the process.
struct Place {
  int listener = -1;
  int socket = -1;  // one end of a stream
  int file = -1;
  sockaddr_in6 loopback{};
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&loopback); }
};

/// The result of an act: 0, or errno.
int errno_of(long result) { return result == -1 ? errno : 0; }

/// Does `act` inside of `jail` in a child; answers its wait status. 99: the jail failed.
int wait_status_of(const std::function<int(const Place&)>& act, bool filter = true) {
  const pid_t child = fork();
  if (child == 0) {
    Place place;
    place.listener = socket(AF_INET6, SOCK_STREAM, 0);
    place.loopback.sin6_family = AF_INET6;
    place.loopback.sin6_addr = in6addr_loopback;
    place.file = open("/proc/self/exe", O_RDONLY);
    int pair[2];
    if (listen(place.listener, 1) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) _exit(98);
    place.socket = pair[0];
    socklen_t size = sizeof place.loopback;
    getsockname(place.listener, reinterpret_cast<sockaddr*>(&place.loopback), &size);
    place.loopback.sin6_addr = in6addr_loopback;
    auto door = make_door();
    auto log = make_door();
    if (!door || !log || dup2(door->first.get(), kDoorFd) < 0 ||
        dup2(log->first.get(), kLogFd) < 0) {
      _exit(98);
    }
    test::provide_root();
    test::drop_to_networker(kUser);
    EventLoop loop;
    jail::Jail jail = networker_jail(loop.timer_fd(), 64);
    if (!filter) jail.filter = {.allow_list = false};
    if (const auto entered = jail::enter(jail); !entered) {
      static_cast<void>(!write(2, entered.error().c_str(), entered.error().size()));
      _exit(99);
    }
    _exit(act(place));
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

struct Act {
  const char* name;
  std::function<int(const Place&)> act;
};
std::string name_of(const testing::TestParamInfo<Act>& info) { return info.param.name; }
void PrintTo(const Act& act, std::ostream* out) { *out << act.name; }

class Killed : public testing::TestWithParam<Act> {};

TEST_P(Killed, AtOnce) {
  const int status = wait_status_of(GetParam().act);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << "wait status " << status;
}

int call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  return errno_of(syscall(number, a, b, c, d, e, f));
}
long at(const void* pointer) { return reinterpret_cast<long>(pointer); }

const char kText[] = "/bin/sh";
char some_room[4096];

const std::vector<Act> kKilledActs{

    Act{"tcp_socket", [](const Place&) { return errno_of(socket(AF_INET6, SOCK_STREAM, 0)); }},
    Act{"unix_socket", [](const Place&) { return errno_of(socket(AF_UNIX, SOCK_DGRAM, 0)); }},
    Act{"netlink_socket", [](const Place&) { return errno_of(socket(AF_NETLINK, SOCK_RAW, 0)); }},
    Act{"socketpair", [](const Place&) { return call(SYS_socketpair, AF_UNIX, SOCK_STREAM); }},
    Act{"connect",
        [](const Place& p) { return errno_of(connect(p.socket, p.address(), sizeof p.loopback)); }},
    Act{"bind",
        [](const Place& p) { return errno_of(bind(p.socket, p.address(), sizeof p.loopback)); }},
    Act{"listen", [](const Place& p) { return errno_of(listen(p.socket, 1)); }},
    Act{"accept_that_is_inherited",
        [](const Place& p) { return errno_of(accept4(p.listener, nullptr, nullptr, 0)); }},
    Act{"send_to_an_address",
        [](const Place& p) {
          return errno_of(sendto(p.socket, kText, 1, MSG_NOSIGNAL, p.address(), sizeof p.loopback));
        }},
    Act{"fast_open",
        [](const Place& p) {
          return errno_of(sendto(p.socket, kText, 1, MSG_FASTOPEN | MSG_NOSIGNAL, nullptr, 0));
        }},
    Act{"send_descriptors_elsewhere",
        [](const Place& p) {
          const msghdr message{};
          return errno_of(sendmsg(p.socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
        }},
    Act{"receive_descriptors_elsewhere",
        [](const Place& p) {
          msghdr message{};
          return errno_of(recvmsg(p.socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
        }},
    Act{"peek", [](const Place& p) { return errno_of(recv(p.socket, some_room, 1, MSG_PEEK)); }},
    Act{"attach_filter",
        [](const Place& p) { return call(SYS_setsockopt, p.socket, SOL_SOCKET, SO_ATTACH_BPF); }},
    Act{"bind_to_device",
        [](const Place& p) { return call(SYS_setsockopt, p.socket, SOL_SOCKET, SO_BINDTODEVICE); }},
    Act{"tcp_repair",
        [](const Place& p) { return call(SYS_setsockopt, p.socket, IPPROTO_TCP, TCP_REPAIR); }},
    Act{"tcp_upper_layer",
        [](const Place& p) { return call(SYS_setsockopt, p.socket, IPPROTO_TCP, TCP_ULP); }},
    Act{"option_of_another_level_with_an_allowed_number",
        [](const Place& p) { return call(SYS_setsockopt, p.socket, SOL_SOCKET, TCP_QUICKACK); }},
    Act{"execve", [](const Place&) { return call(SYS_execve, at(kText)); }},
    Act{"execveat",
        [](const Place& p) { return call(SYS_execveat, p.file, at(""), 0, 0, AT_EMPTY_PATH); }},
    Act{"fork", [](const Place&) { return call(SYS_clone, SIGCHLD); }},
    Act{"clone3", [](const Place&) { return call(SYS_clone3, at(some_room), 64); }},
    Act{"vfork", [](const Place&) { return errno_of(vfork()); }},
    Act{"ptrace", [](const Place&) { return errno_of(ptrace(PTRACE_TRACEME)); }},
    Act{"read_other_memory", [](const Place&) { return call(SYS_process_vm_readv, getppid()); }},
    Act{"kill_nobody", [](const Place&) { return errno_of(kill(0, 0)); }},
    Act{"tgkill", [](const Place&) { return call(SYS_tgkill, 1, 1, 0); }},
    Act{"pidfd_open", [](const Place&) { return call(SYS_pidfd_open, 1); }},
    Act{"terminal_input", [](const Place&) { return errno_of(ioctl(0, TIOCSTI, "x")); }},
    Act{"write_to_standard_error", [](const Place&) { return errno_of(write(2, "x", 1)); }},
    Act{"read_standard_input", [](const Place&) { return errno_of(read(0, some_room, 1)); }},
    Act{"read_standard_input_by_a_number_with_upper_bits",
        [](const Place&) {
          return call(SYS_read, static_cast<long>(1ULL << 32), at(some_room), 1);
        }},
    Act{"read_file", [](const Place& p) { return errno_of(read(p.file, some_room, 1)); }},
    Act{"executable_memory",
        [](const Place&) {
          return errno_of(reinterpret_cast<long>(
              mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
        }},
    Act{"make_memory_executable",
        [](const Place&) {
          return errno_of(mprotect(&some_room, sizeof some_room, PROT_READ | PROT_EXEC));
        }},
    Act{"map_file",
        [](const Place& p) {
          return errno_of(reinterpret_cast<long>(
              mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, p.file, 0)));
        }},
    Act{"memfd", [](const Place&) { return call(SYS_memfd_create, at(kText)); }},
    Act{"secret_memory", [](const Place&) { return call(447); }},
    Act{"duplicate", [](const Place& p) { return errno_of(dup(p.socket)); }},
    Act{"duplicate_by_fcntl", [](const Place& p) { return errno_of(fcntl(p.socket, F_DUPFD, 0)); }},
    Act{"asynchronous_descriptor",
        [](const Place& p) { return errno_of(fcntl(p.socket, F_SETFL, O_RDWR | O_ASYNC)); }},
    Act{"become_dumpable", [](const Place&) { return errno_of(prctl(PR_SET_DUMPABLE, 1)); }},
    Act{"new_filter", [](const Place&) { return call(SYS_seccomp, 1); }},
    Act{"raise_limit", [](const Place&) { return call(SYS_prlimit64, 0, RLIMIT_NOFILE); }},
    Act{"setuid", [](const Place&) { return errno_of(setuid(0)); }},
    Act{"capset", [](const Place&) { return call(SYS_capset); }},
    Act{"chroot", [](const Place&) { return errno_of(chroot("/")); }},
    Act{"chdir", [](const Place&) { return errno_of(chdir("..")); }},
    Act{"mount", [](const Place&) { return errno_of(mount("x", "/", "tmpfs", 0, nullptr)); }},
    Act{"unshare", [](const Place&) { return errno_of(unshare(CLONE_NEWUSER)); }},
    Act{"setns", [](const Place& p) { return errno_of(setns(p.file, 0)); }},
    Act{"unlink", [](const Place&) { return errno_of(unlink("/x")); }},
    Act{"mkdir", [](const Place&) { return errno_of(mkdir("/x", 0700)); }},
    Act{"rename", [](const Place&) { return errno_of(rename("/x", "/y")); }},
    Act{"chmod_by_descriptor", [](const Place& p) { return errno_of(fchmod(p.file, 0777)); }},
    Act{"bpf", [](const Place&) { return call(SYS_bpf, BPF_MAP_CREATE); }},
    Act{"perf", [](const Place&) { return call(SYS_perf_event_open); }},
    Act{"io_uring", [](const Place&) { return call(SYS_io_uring_setup, 1, at(some_room)); }},
    Act{"userfaultfd", [](const Place&) { return call(SYS_userfaultfd); }},
    Act{"keyctl", [](const Place&) { return call(SYS_keyctl); }},
    Act{"load_module", [](const Place&) { return call(SYS_finit_module); }},
    Act{"reboot", [](const Place&) { return call(SYS_reboot); }},
#ifdef __x86_64__
    Act{"call_of_32_bits",
        [](const Place&) {
          long result = 20;  // getpid, in the numbers of i386
          asm volatile("int $0x80" : "+a"(result) : : "memory");
          return 0;
        }},
    Act{"call_of_x32", [](const Place&) { return call(0x40000000 | SYS_getpid); }},
#endif
    Act{"getpid", [](const Place&) { return call(SYS_getpid); }}};
INSTANTIATE_TEST_SUITE_P(Acts, Killed, testing::ValuesIn(kKilledActs), &name_of);

class Refused : public testing::TestWithParam<Act> {};

TEST_P(Refused, WithAnErrorThatLibrariesUnderstand) {
  const int status = wait_status_of(GetParam().act);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == EACCES) << "wait status " << status;
}

const std::vector<Act> kRefusedActs{

    Act{"open", [](const Place&) { return errno_of(open("/", O_RDONLY)); }},
    Act{"open_relative", [](const Place&) { return errno_of(openat(AT_FDCWD, ".", O_PATH)); }},
    Act{"create", [](const Place&) { return errno_of(open("/x", O_CREAT | O_WRONLY, 0600)); }},
    Act{"stat",
        [](const Place&) {
          struct stat found {};
          return errno_of(stat("/", &found));
        }},
    Act{"access", [](const Place&) { return errno_of(access("/", R_OK)); }},
    Act{"readlink",
        [](const Place&) { return errno_of(readlink("/", some_room, sizeof some_room)); }}};
INSTANTIATE_TEST_SUITE_P(Acts, Refused, testing::ValuesIn(kRefusedActs), &name_of);

class Allowed : public testing::TestWithParam<Act> {};

TEST_P(Allowed, AsTheNetworkerNeedsIt) {
  const int status = wait_status_of(GetParam().act);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
}

const std::vector<Act> kAllowedActs{
    Act{"random_for_weeks",
        [](const Place&) {
          for (const unsigned flags : {0U, unsigned{GRND_NONBLOCK}}) {
            if (getrandom(some_room, 32, flags) != 32) return errno;
          }
          return 0;
        }},
    Act{"memory_of_all_sizes",
        [](const Place&) {
          for (std::size_t size = 1; size <= std::size_t{1} << 26; size *= 2) {
            void* memory = std::malloc(size);
            memory = memory == nullptr ? nullptr : std::realloc(memory, size * 3);
            if (memory == nullptr) return ENOMEM;
            explicit_bzero(memory, size * 3);
            std::free(memory);
          }
          return 0;
        }},
    Act{"clocks_without_vdso",
        [](const Place&) {
          timespec time{};
          return call(SYS_clock_gettime, CLOCK_BOOTTIME, at(&time));
        }},
    Act{"log_line",
        [](const Place&) {
          Log::to_socket(kLogFd, LogLevel::kInfo).info("a line");
          return 0;
        }},
    Act{"talk", [](const Place& p) {
          if (send(p.socket, kText, 1, MSG_NOSIGNAL) != 1) return errno;
          if (fcntl(p.socket, F_SETFL, O_RDWR | O_NONBLOCK) != 0) return errno;
          return recv(p.socket, some_room, 1, 0) == -1 && errno == EAGAIN ? 0 : 1;
        }}};
INSTANTIATE_TEST_SUITE_P(Acts, Allowed, testing::ValuesIn(kAllowedActs), &name_of);

// What holds if the filter were not there.
class WithoutFilter : public testing::TestWithParam<Act> {};

TEST_P(WithoutFilter, AnotherLayerHolds) {
  const int status = wait_status_of(GetParam().act, false);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
}

/// 0 if the error is the one that was expected.
int expect_errno(long result, int wanted) {
  return result == -1 && errno == wanted ? 0 : result == -1 ? errno : 200;
}

const std::vector<Act> kWithoutFilterActs{

    Act{"files_are_not_there",
        [](const Place&) { return expect_errno(open("/etc/passwd", O_RDONLY), ENOENT); }},
    Act{"the_root_is_not_writable",
        [](const Place&) { return expect_errno(mkdir("/x", 0700), EACCES); }},
    Act{"no_process", [](const Place&) { return expect_errno(fork(), EAGAIN); }},
    Act{"no_way_back_to_root", [](const Place&) { return expect_errno(setuid(0), EPERM); }},
    Act{"no_other_root", [](const Place&) { return expect_errno(chroot("/"), EPERM); }},
    Act{"no_higher_limits",
        [](const Place&) {
          const rlimit more{65, 65};
          return expect_errno(setrlimit(RLIMIT_NOFILE, &more), EPERM);
        }},
    Act{"no_signal_to_others", [](const Place&) { return expect_errno(kill(1, 0), EPERM); }},
    Act{"no_raw_socket",
        [](const Place&) { return expect_errno(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM); }},
    Act{"landlock_forbids_tcp_where_the_kernel_has_it", [](const Place& p) {
          const int version = static_cast<int>(syscall(SYS_landlock_create_ruleset, nullptr, 0, 1));
          const long result =
              connect(socket(AF_INET6, SOCK_STREAM, 0), p.address(), sizeof p.loopback);
          return version >= 4 ? expect_errno(result, EACCES) : errno_of(result);
        }}};
INSTANTIATE_TEST_SUITE_P(Acts, WithoutFilter, testing::ValuesIn(kWithoutFilterActs), &name_of);

}  // namespace
}  // namespace mandos::networker
