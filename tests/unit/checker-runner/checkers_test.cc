// SPDX-License-Identifier: GPL-3.0-or-later
// Checkers that run, and what is left of them when they have ended: nothing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checker-runner/checker.h"
#include "common/channel.h"
#include "common/event_loop.h"

namespace mandos::checker_runner {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class CheckersTest : public testing::Test {
 protected:
  CheckersTest() {
    std::string name = (fs::temp_directory_path() / "checkers.XXXXXX").native();
    folder_ = mkdtemp(name.data());
    const auto prepared = checkers_.prepare();
    EXPECT_TRUE(prepared) << prepared.error();
    loop_.on_signals({SIGCHLD}, [this](int) { checkers_.reap(); });
  }
  ~CheckersTest() override {
    checkers_.end_all();
    fs::remove_all(folder_);
  }

  template <class Predicate>
  bool run_until(Predicate done) {
    const Instant end = BootClock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (BootClock::now() > end) return false;
      loop_.run_once(Milliseconds(10));
    }
    return true;
  }
  bool finished(std::uint64_t checker) {
    return run_until([&] { return finished_.contains(checker); });
  }
  /// The wait status of a command that runs alone.
  std::optional<int> status_of(const std::string& command) {
    const std::uint64_t checker = ++last_;
    checkers_.run(checker, command);
    EXPECT_TRUE(finished(checker)) << command;
    return finished_[checker];
  }
  std::string in(const std::string& name) const { return (folder_ / name).native(); }
  /// What was logged since the last time, each line behind its level.
  std::vector<std::string> logged() {
    std::vector<std::string> lines;
    std::array<char, 2048> line{};
    for (ssize_t size = 0;
         (size = recv(log_socket_->first.get(), line.data(), line.size(), MSG_DONTWAIT)) > 0;) {
      lines.emplace_back(line.data(), static_cast<std::size_t>(size));
    }
    return lines;
  }
  /// The process number that a command has written.
  pid_t pid_in(const std::string& name) {
    pid_t pid = 0;
    EXPECT_TRUE(run_until([&] { return static_cast<bool>(std::ifstream(in(name)) >> pid); }));
    return pid;
  }
  /// Also when nobody has waited for it yet.
  static bool is_gone(pid_t pid) {
    std::string stat;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), stat);
    return stat.empty() || stat.find(") Z ") != stat.npos;
  }

  fs::path folder_;
  EventLoop loop_;
  Result<DoorPair> log_socket_ = make_door();
  Log log_ = Log::to_socket(log_socket_->second.get(), LogLevel::kDebug);
  std::map<std::uint64_t, std::optional<int>> finished_;
  std::uint64_t last_ = 1000;
  Checkers checkers_{loop_, log_, [this](std::uint64_t checker, std::optional<int> status) {
                       EXPECT_TRUE(finished_.emplace(checker, status).second) << "finished twice";
                     }};
};

TEST_F(CheckersTest, TheWaitStatusIsTheCommandsOwn) {
  EXPECT_EQ(status_of("true"), 0);
  EXPECT_EQ(status_of("exit 3"), W_EXITCODE(3, 0));
  EXPECT_EQ(status_of("kill -9 $$"), SIGKILL);
  EXPECT_EQ(status_of("exit 127"), W_EXITCODE(127, 0));
  EXPECT_FALSE(checkers_.runs(last_));
}

TEST_F(CheckersTest, WhatCannotBeStartedHasNoWaitStatus) {
  EXPECT_EQ(status_of(std::string("true\0x", 6)), std::nullopt);
  EXPECT_EQ(status_of(std::string(1 << 20, 'x')), std::nullopt) << "E2BIG";
  EXPECT_FALSE(checkers_.runs(last_));
  EXPECT_EQ(status_of("true"), 0);
}

TEST_F(CheckersTest, ACheckerInheritsNothingButThreeDescriptors) {
  const int inherited = open("/dev/null", O_RDONLY);
  ASSERT_GT(inherited, 2);
  EXPECT_EQ(status_of("for fd in /proc/$$/fd/*; do\n"
                      "  [ ! -e $fd ] || [ ${fd##*/} -le 2 ] || exit 1\ndone"),
            0);
  close(inherited);
}

TEST_F(CheckersTest, ItsDescriptorsLeadNowhereUnlessItsOutputIsShown) {
  const auto leads_to = [this](int fd, const std::string& pattern) {
    return status_of("case \"$(readlink /proc/$$/fd/" + std::to_string(fd) + ")\" in " + pattern +
                     ") ;; *) exit 1;; esac") == 0;
  };
  const int input = dup(STDIN_FILENO);
  const int other_input = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  dup2(other_input, STDIN_FILENO);
  for (const int fd : {0, 1, 2}) EXPECT_TRUE(leads_to(fd, "/dev/null")) << fd;
  EXPECT_EQ(status_of("echo silent"), 0);
  EXPECT_THAT(logged(), IsEmpty());
  checkers_.show_output(true);
  EXPECT_TRUE(leads_to(0, "/dev/null"));
  for (const int fd : {1, 2}) EXPECT_TRUE(leads_to(fd, "pipe:*")) << fd;
  dup2(input, STDIN_FILENO);
  for (const int fd : {input, other_input}) close(fd);
}

TEST_F(CheckersTest, EachLineOfItsOutputIsShownBehindItsCommand) {
  checkers_.show_output(true);
  const std::string command = "echo a; echo 'mandos: audit: b' >&2; echo; printf '\\033[2Jlast'";
  EXPECT_EQ(status_of(command), 0);
  const auto prefix = "7checker [" + command + "]: ";
  EXPECT_THAT(logged(), ElementsAre(prefix + "a", prefix + "mandos: audit: b", prefix,
                                    prefix + "\033[2Jlast"));
  EXPECT_EQ(status_of(": " + std::string(1000, 'x') + "; echo b"), 0);
  EXPECT_THAT(logged(), ElementsAre("7checker [: " + std::string(98, 'x') + "]: b"));
  // Another process that has its output does not hold it up.
  EXPECT_EQ(status_of("setsid sleep 60 & echo a"), 0);
  EXPECT_THAT(logged(), ElementsAre("7checker [setsid sleep 60 & echo a]: a"));
  EXPECT_EQ(status_of("exec >/dev/null 2>&1; exit 4"), W_EXITCODE(4, 0));
  EXPECT_THAT(logged(), IsEmpty());
}

TEST_F(CheckersTest, WhatIsShownOfItsOutputIsBounded) {
  checkers_.show_output(true);
  // All of it is read, and its status is its own.
  EXPECT_EQ(status_of("yes | head -c 3000000 && exit 3"), W_EXITCODE(3, 0));
  auto lines = logged();
  ASSERT_EQ(lines.size(), 21U);
  EXPECT_EQ(lines[19], "7checker [yes | head -c 3000000 && exit 3]: y");
  EXPECT_EQ(lines[20], "7checker [yes | head -c 3000000 && exit 3]: (more is not shown)");
  EXPECT_EQ(status_of("head -c 1000 /dev/zero"), 0);
  lines = logged();
  const std::string prefix = "7checker [head -c 1000 /dev/zero]: ";
  EXPECT_THAT(lines, ElementsAre(prefix + std::string(400, '\0'), prefix + std::string(400, '\0'),
                                 prefix + std::string(200, '\0')));
}

TEST_F(CheckersTest, ACheckerLeadsAGroupOfItsOwnWithDefaultSignals) {
  EXPECT_EQ(status_of("read -r pid name state parent group rest < /proc/$$/stat; [ $group = $$ ]"),
            0);
  std::signal(SIGUSR2, SIG_IGN);
  // The C library keeps the first two real-time signals to itself and leaves them ignored.
  EXPECT_EQ(status_of("while read -r key value; do\n"
                      "  case $key:$value in\n"
                      "    SigBlk::0000000000000000 | SigIgn::0000000[01]80000000) ;;\n"
                      "    SigIgn::0000000000000000) ;;\n"
                      "    SigBlk:* | SigIgn:*) exit 1 ;;\n"
                      "  esac\ndone < /proc/$$/status"),
            0);
  std::signal(SIGUSR2, SIG_DFL);
}

TEST_F(CheckersTest, KillingOneEndsItsGroup) {
  checkers_.run(1, "trap '' TERM; sleep 60 & echo $! > " + in("child") + "; wait");
  const pid_t child = pid_in("child");
  EXPECT_TRUE(checkers_.runs(1));
  checkers_.kill(2);
  checkers_.kill(1);
  ASSERT_TRUE(finished(1));
  EXPECT_EQ(finished_[1], SIGKILL);
  EXPECT_FALSE(checkers_.runs(1));
  EXPECT_TRUE(run_until([&] { return is_gone(child); }));
}

TEST_F(CheckersTest, AGroupEndsWithItsLeader) {
  checkers_.run(1, "sleep 60 & echo $! > " + in("child"));
  ASSERT_TRUE(finished(1));
  EXPECT_EQ(finished_[1], 0);
  const pid_t child = pid_in("child");
  // At once: without the loop, which would look for orphans.
  const Instant end = BootClock::now() + std::chrono::seconds(20);
  while (!is_gone(child) && BootClock::now() < end) sched_yield();
  EXPECT_TRUE(is_gone(child));
}

TEST_F(CheckersTest, WhatLeftTheGroupEndsTooButNotBeforeItsChecker) {
  checkers_.run(1, "(setsid sh -c 'echo $$ > " + in("orphan") + "; exec sleep 60' &); sleep 60");
  const pid_t orphan = pid_in("orphan");
  // Others end, and orphans are looked for.
  checkers_.run(2, "(setsid sh -c 'echo $$ > " + in("other") +
                       "; exec sleep 60' &); "
                       "while [ ! -s " +
                       in("other") + " ]; do :; done");
  ASSERT_TRUE(finished(2));
  const pid_t other = pid_in("other");
  EXPECT_TRUE(run_until([&] { return is_gone(other); }));
  EXPECT_FALSE(is_gone(orphan));
  checkers_.kill(1);
  ASSERT_TRUE(finished(1));
  EXPECT_TRUE(run_until([&] { return is_gone(orphan); }));
}

TEST_F(CheckersTest, NothingIsLeftAtTheEnd) {
  checkers_.run(
      1, "trap '' TERM; setsid sh -c 'echo $$ > " + in("orphan") + "; exec sleep 60' & wait");
  const pid_t orphan = pid_in("orphan");
  checkers_.end_all();
  EXPECT_TRUE(is_gone(orphan));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  EXPECT_TRUE(finished_.empty());
}

}  // namespace
}  // namespace mandos::checker_runner
