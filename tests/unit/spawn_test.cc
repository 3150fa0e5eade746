// SPDX-License-Identifier: GPL-3.0-or-later
// What a process of ours begins with: this program, executed by spawn() in the place of one of the
// server's, says what it finds. Needs root.
#include "supervisor/spawn.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "common/channel.h"
#include "config.h"
#include "tests/support/as_networker.h"

namespace mandos::supervisor {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kUser = 60999;
constexpr char kName[] = "spawned-probe";

/// Writes "KEY VALUE" lines to the door, which is descriptor 3, or 0 where there is no log socket.
[[noreturn]] void report(int argc, char** argv) {
  std::string out;
  const auto say = [&out](std::string_view key, std::string_view value) {
    out += concat(key, " ", value, "\n");
  };
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    const auto colon = line.find(":\t");
    if (colon != line.npos) say(line.substr(0, colon), line.substr(colon + 2));
  }
  std::string descriptors;
  status.close();
  for (int fd = 0; fd < 64; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) descriptors += concat(fd, ",");
  }
  say("descriptors", descriptors);
  for (const int fd : {0, 1, 2}) {
    std::error_code failed;
    say(concat("leads", fd), fs::read_symlink(concat("/proc/self/fd/", fd), failed).native());
  }
  int death = 0;
  prctl(PR_GET_PDEATHSIG, &death);
  say("death", std::to_string(death));
  for (int i = 0; i < argc; ++i) say(concat("argument", i), argv[i]);
  for (char** variable = environ; *variable != nullptr; ++variable) say("variable", *variable);
  int type = 0;
  socklen_t size = sizeof type;
  const bool with_log = getsockopt(3, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
  _exit(write(with_log ? 3 : 0, out.data(), out.size()) == static_cast<ssize_t>(out.size()) ? 0
                                                                                            : 1);
}

[[gnu::constructor]] void become_the_probe(int argc, char** argv) {
  if (argc > 0 && std::string_view(argv[0]) == kName) report(argc, argv);
}

class SpawnTest : public testing::Test {
 protected:
  using Report = std::multimap<std::string, std::string>;

  /// Puts this program where those of the server lie, in a mount namespace of the caller's own.
  static void provide_program() {
    const fs::path folder(MANDOS_LIBEXEC_DIR);
    fs::path existing = folder;
    std::error_code failed;
    while (!fs::is_directory(existing, failed)) existing = existing.parent_path();
    const fs::path self = fs::read_symlink("/proc/self/exe", failed);
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", existing.c_str(), "tmpfs", 0, "mode=755") != 0) {
      test::die(existing.c_str());
    }
    fs::create_directories(folder, failed);
    fs::copy_file(self, folder / "probe", failed);
    if (failed) test::die("copying the program");
  }

  /// What a program finds that is spawned so.
  static Report spawned(
      const Program& program, bool with_log, bool quiet = true, bool inherit = false,
      const std::function<void()>& before = [] {}) {
    auto door = make_door();
    auto log = make_door();
    fcntl(door->first.get(), F_SETFL, 0);
    const pid_t child = fork();
    if (child == 0) {
      provide_program();
      before();
      const auto pid = spawn(program, {"--option", "a value"},
                             {.door = door->second.get(),
                              .log = with_log ? log->second.get() : -1,
                              .quiet = quiet,
                              .inherit = inherit});
      int status = -1;
      if (pid) waitpid(*pid, &status, 0);
      _exit(status == 0 ? 0 : 1);
    }
    door->second.reset();
    std::string text(1 << 16, '\0');
    const ssize_t size = recv(door->first.get(), text.data(), text.size(), 0);
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    Report found;
    for (std::size_t at = 0; at < text.size();) {
      const auto end = text.find('\n', at);
      const std::string line = text.substr(at, end - at);
      found.emplace(line.substr(0, line.find(' ')), line.substr(line.find(' ') + 1));
      at = end + 1;
    }
    return found;
  }
  static std::string value(const Report& report, const std::string& key) {
    const auto found = report.find(key);
    return found == report.end() ? "(none)" : found->second;
  }
  static std::vector<std::string> variables(const Report& report) {
    std::vector<std::string> all;
    const auto [first, last] = report.equal_range("variable");
    for (auto at = first; at != last; ++at) all.push_back(at->second);
    return all;
  }
  static bool has(const std::vector<std::string>& all, const std::string& one) {
    return std::ranges::count(all, one) > 0;
  }

  const std::vector<unsigned> capabilities_{CAP_SYS_CHROOT, CAP_SETPCAP};
  Program program_{.file = "probe",
                   .name = kName,
                   .uid = kUser,
                   .gid = kUser + 1,
                   .capabilities = &capabilities_,
                   .parent_death_signal = SIGKILL};
};

TEST_F(SpawnTest, ADroppedProcessIsNobodyElseAndHasItsCapabilitiesAlone) {
  const auto found = spawned(program_, true, true, false, [] {
    constexpr std::array<gid_t, 2> kGroups{1, 2};
    if (setgroups(kGroups.size(), kGroups.data()) != 0) test::die("setgroups");
  });
  EXPECT_EQ(value(found, "Uid"), "60999\t60999\t60999\t60999");
  EXPECT_EQ(value(found, "Gid"), "61000\t61000\t61000\t61000");
  EXPECT_EQ(value(found, "Groups").find_first_not_of(' '), std::string::npos);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    EXPECT_EQ(value(found, set), "0000000000040100") << set;
  }
  EXPECT_EQ(value(found, "death"), "9");
}

TEST_F(SpawnTest, OneThatIsNotDroppedKeepsEverything) {
  program_.capabilities = nullptr;
  program_.parent_death_signal = SIGTERM;
  const auto found = spawned(program_, false);
  EXPECT_EQ(value(found, "Uid"), "0\t0\t0\t0");
  EXPECT_NE(value(found, "CapEff"), "0000000000040100");
  EXPECT_EQ(value(found, "death"), "15");
}

TEST_F(SpawnTest, ItsDescriptorsAreItsOwn) {
  const auto leave_open = [] {
    if (open("/dev/null", O_RDWR) < 0) test::die("open");
  };
  auto found = spawned(program_, true, true, false, leave_open);
  EXPECT_EQ(value(found, "descriptors"), "0,1,2,3,4,");
  for (const char* lead : {"leads0", "leads1", "leads2"}) {
    EXPECT_EQ(value(found, lead), "/dev/null") << lead;
  }
  found = spawned(program_, false, true, false, leave_open);
  EXPECT_EQ(value(found, "descriptors"), "0,1,2,");
  EXPECT_NE(value(found, "leads0"), "/dev/null");
  // The first monitor gets the sockets that a service manager hands over.
  found = spawned(program_, false, false, true, leave_open);
  EXPECT_GT(value(found, "descriptors").size(), std::string("0,1,2,").size());
}

TEST_F(SpawnTest, ItsSignalsAreAsAtTheStartOfTheWorld) {
  const auto found = spawned(program_, true, true, false, [] {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    for (const int signal : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
      std::signal(signal, SIG_IGN);
    }
  });
  EXPECT_EQ(value(found, "SigBlk"), "0000000000000000");
  EXPECT_EQ(value(found, "SigIgn"), "0000000000000000");
}

TEST_F(SpawnTest, OfTheEnvironmentItGetsWhatIsNamed) {
  static constexpr std::string_view kVariables[] = {"NAMED", "LITERAL=yes"};
  const auto set = [] {
    setenv("NAMED", "1", 1);
    setenv("NAMEDLIKE", "1", 1);
    setenv("LITERAL", "no", 1);
    setenv("OTHER", "1", 1);
  };
  program_.environment = kVariables;
  auto found = variables(spawned(program_, true, true, false, set));
  EXPECT_TRUE(has(found, "NAMED=1"));
  EXPECT_TRUE(has(found, "LITERAL=yes"));
  EXPECT_FALSE(has(found, "LITERAL=no"));
  EXPECT_FALSE(has(found, "NAMEDLIKE=1"));
  EXPECT_FALSE(has(found, "OTHER=1"));
  EXPECT_TRUE(has(found, "LD_BIND_NOW=1"));
  EXPECT_TRUE(has(found, "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL"));
  program_.environment = {};
  found = variables(spawned(program_, true, true, false, set));
  EXPECT_TRUE(has(found, "OTHER=1"));
  EXPECT_TRUE(has(found, "LD_BIND_NOW=1"));
}

TEST_F(SpawnTest, ItsArgumentsFollowItsName) {
  const auto found = spawned(program_, true);
  EXPECT_EQ(value(found, "argument0"), kName);
  EXPECT_EQ(value(found, "argument1"), "--option");
  EXPECT_EQ(value(found, "argument2"), "a value");
}

TEST_F(SpawnTest, AProgramThatIsNotThereIsAStatusOf127) {
  program_.file = "none";
  auto door = make_door();
  const pid_t child = fork();
  if (child == 0) {
    const UniqueFd null(open("/dev/null", O_RDWR));
    dup2(null.get(), STDERR_FILENO);
    const auto pid = spawn(program_, {}, {.door = door->second.get()});
    int status = -1;
    if (pid) waitpid(*pid, &status, 0);
    _exit(WEXITSTATUS(status));
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 127);
}

}  // namespace
}  // namespace mandos::supervisor
