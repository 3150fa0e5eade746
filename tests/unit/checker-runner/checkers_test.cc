// SPDX-License-Identifier: GPL-3.0-or-later
// Checkers that run, and what is left of them when they have ended: nothing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "checker-runner/checker.h"
#include "common/event_loop.h"

namespace mandos::checker_runner {
namespace {

namespace fs = std::filesystem;

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
  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
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
  const auto leads_to_null = [this](int fd) {
    return status_of("[ \"$(readlink /proc/$$/fd/" + std::to_string(fd) + ")\" = /dev/null ]") == 0;
  };
  const int input = dup(STDIN_FILENO);
  const int other_input = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  dup2(other_input, STDIN_FILENO);
  for (const int fd : {0, 1, 2}) EXPECT_TRUE(leads_to_null(fd)) << fd;
  const int output = dup(STDOUT_FILENO);
  const int file = open(in("output").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  dup2(file, STDOUT_FILENO);
  checkers_.show_output(true);
  EXPECT_EQ(status_of("echo shown"), 0);
  EXPECT_TRUE(leads_to_null(0));
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  for (const int fd : {input, other_input, output, file}) close(fd);
  std::string text;
  std::getline(std::ifstream(in("output")), text);
  EXPECT_EQ(text, "shown");
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
