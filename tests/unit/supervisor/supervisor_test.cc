// SPDX-License-Identifier: GPL-3.0-or-later
// The supervisor's policy on virtual time, with a table in the place of processes: this file
// defines the clock, and no process is started.
#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mandos {
namespace {

Instant virtual_now{std::chrono::hours(1)};

}  // namespace

BootClock::time_point BootClock::now() noexcept { return virtual_now; }
Moment Moment::now() noexcept { return {virtual_now, {}}; }

namespace supervisor {
namespace {

using door::supervisor::BUS_AGENT;
using door::supervisor::CHECKER_RUNNER;
using door::supervisor::NETWORKER;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr pid_t kMonitor = 100;
constexpr int kCannotExecute = W_EXITCODE(127, 0);
constexpr Milliseconds kStep{20};
constexpr seconds kTick{2};

/// Processes that run and end as the test says.
class Table : public Processes {
 public:
  struct Entry {
    std::string file;
    pid_t pid;
    UniqueFd door;
    ino_t memory;
    UniqueFd note;  // the same memory
  };

  Result<pid_t> start(const Program& program, const std::vector<std::string>&,
                      const Descriptors& descriptors) override {
    if (!refusal.empty()) return Error{refusal};
    struct stat memory {};
    if (descriptors.input >= 0) fstat(descriptors.input, &memory);
    const pid_t pid = next_++;
    started.push_back({program.file, pid, UniqueFd(fcntl(descriptors.door, F_DUPFD_CLOEXEC, 0)),
                       memory.st_ino, UniqueFd(fcntl(descriptors.input, F_DUPFD_CLOEXEC, 0))});
    running.push_back(pid);
    return pid;
  }
  void end(pid_t pid) override {
    killed.push_back(pid);
    if (pid != stuck && std::erase(running, pid) > 0) ended_.emplace_back(pid, SIGKILL);
  }
  pid_t reap(int& wait_status, bool wait) override {
    if (ended_.empty()) {
      if (wait) virtual_now += kWait;
      if (wait) on_wait();
      return running.empty() ? -1 : 0;
    }
    const auto [pid, status] = ended_.front();
    ended_.erase(ended_.begin());
    wait_status = status;
    return pid;
  }
  std::vector<pid_t> children() override {
    std::vector<pid_t> all = running;
    for (const auto& [zombie, status] : ended_) all.push_back(zombie);
    return all;
  }
  std::string name(pid_t) override { return "its-name"; }

  void ends(pid_t pid, int wait_status) {
    std::erase(running, pid);
    ended_.emplace_back(pid, wait_status);
  }

  std::vector<Entry> started;
  std::vector<pid_t> running;
  std::vector<pid_t> killed;
  std::string refusal;  // of the next starts
  pid_t stuck = -1;     // in the kernel (state D), so that no signal ends it
  std::function<void()> on_wait = [] {};

 private:
  static constexpr Milliseconds kWait{100};
  pid_t next_ = kMonitor + 1;
  std::vector<std::pair<pid_t, int>> ended_;
};

/// A service manager's end of NOTIFY_SOCKET.
class Manager {
 public:
  explicit Manager(const char* watchdog_usec) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "mandos-supervisor-test-" + std::to_string(getpid());
    name.copy(&address.sun_path[1], name.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    EXPECT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
    setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
    if (watchdog_usec != nullptr) setenv("WATCHDOG_USEC", watchdog_usec, 1);
  }
  /// To be called often: the kernel keeps few for it.
  void listen() {
    std::array<char, 4096> text{};
    for (ssize_t size = 0; (size = recv(socket_.get(), text.data(), text.size(), 0)) > 0;) {
      heard_.emplace_back(text.data(), static_cast<std::size_t>(size));
    }
  }
  /// What it has been told since it was asked last.
  std::vector<std::string> heard() {
    listen();
    return std::exchange(heard_, {});
  }

 private:
  std::vector<std::string> heard_;
  UniqueFd socket_{socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
};

class SupervisorTest : public testing::Test {
 protected:
  explicit SupervisorTest(const char* watchdog_usec = nullptr) : manager_(watchdog_usec) {
    auto log = make_door();
    log_reader_ = std::move(log->first);
    log_writer_ = std::move(log->second);
    log_.emplace(Log::to_socket(log_writer_.get(), LogLevel::kInfo));
    supervisor_.emplace(loop_, *log_, table_, Notify(),
                        Supervisor::Options{.arguments = {},
                                            .foreground = true,
                                            .accounts = {{1, 1}, {2, 2}, {3, 3}},
                                            .jail = "layers",
                                            .on_ready = [this] { ++ready_; }});
    auto door = make_door();
    monitor_.emplace(std::move(door->second), Channel::Limits{4096, 65536, 16});
    table_.running.push_back(kMonitor);
    supervisor_->adopt_monitor(kMonitor, std::move(door->first));
    rounds();
    EXPECT_TRUE(hear().front().has_begin());
  }

  void rounds() {
    for (int round = 0; round < 4; ++round) loop_.run_once(Milliseconds(0));
    manager_.listen();
  }
  /// The supervisor runs all the time.
  void pass(Milliseconds time) {
    for (Milliseconds passed{0}; passed < time; passed += kStep) {
      virtual_now += kStep;
      rounds();
      if (answering_) answer_pings();
    }
  }
  /// The supervisor is stopped so long.
  void gap(Milliseconds time) {
    virtual_now += time;
    rounds();
  }

  void say(const ToSupervisor& message) {
    ASSERT_TRUE(monitor_->send(message));
    rounds();
  }
  std::vector<ToMonitor> hear() {
    std::vector<ToMonitor> all;
    for (auto next = monitor_->receive(); next && *next; next = monitor_->receive()) {
      EXPECT_TRUE(all.emplace_back().ParseFromArray((**next).bytes.data(),
                                                    static_cast<int>((**next).bytes.size())));
    }
    return all;
  }
  unsigned pings() {
    unsigned count = 0;
    for (const auto& message : hear()) count += message.has_ping() ? 1 : 0;
    return count;
  }
  void pong() {
    ToSupervisor message;
    message.mutable_pong();
    say(message);
  }
  void answer_pings() {
    if (pings() > 0) pong();
  }
  void ready() {
    ToSupervisor message;
    message.mutable_status_text()->set_text("Serving");
    say(message);
    message.mutable_ready();
    say(message);
  }
  pid_t start(Role role) {
    ToSupervisor message;
    message.mutable_start()->set_role(role);
    say(message);
    return table_.started.back().pid;
  }
  void serves(Role role) {
    ToSupervisor message;
    message.mutable_serves()->set_role(role);
    message.mutable_serves()->set_pid(table_.started.back().pid);
    say(message);
  }
  void restart(Role role, pid_t pid, bool hangs) {
    ToSupervisor message;
    message.mutable_restart()->set_role(role);
    message.mutable_restart()->set_pid(pid);
    message.mutable_restart()->set_hangs(hangs);
    say(message);
    reap();
  }
  void reap() {
    kill(getpid(), SIGCHLD);
    rounds();
  }
  void ends(pid_t pid, int wait_status) {
    table_.ends(pid, wait_status);
    reap();
  }
  /// Has the latest process end so; how long until its successor is started.
  Milliseconds delay_after(int wait_status) {
    const std::size_t count = table_.started.size();
    const Instant before = virtual_now;
    ends(table_.started.back().pid, wait_status);
    while (table_.started.size() == count && virtual_now - before < seconds(30)) pass(kStep);
    EXPECT_EQ(table_.started.size(), count + 1);
    return std::chrono::duration_cast<Milliseconds>(virtual_now - before);
  }
  std::string log() {
    std::string all;
    std::array<char, 4096> line{};
    for (ssize_t size = 0;
         (size = recv(log_reader_.get(), line.data(), line.size(), MSG_DONTWAIT)) > 0;) {
      all.append(line.data(), static_cast<std::size_t>(size)).push_back('\n');
    }
    return all;
  }

  Manager manager_;
  UniqueFd log_reader_;
  UniqueFd log_writer_;
  std::optional<Log> log_;
  EventLoop loop_;
  Table table_;
  std::optional<Channel> monitor_;  // its end of the door
  std::optional<Supervisor> supervisor_;
  int ready_ = 0;
  bool answering_ = true;  // the monitor answers each Ping in time
};

// Back-off.

TEST_F(SupervisorTest, AProcessThatDiesAgainAndAgainIsStartedLaterEachTime) {
  start(NETWORKER);
  ready();
  for (const int expected : {0, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10000, 10000, 10000}) {
    serves(NETWORKER);
    EXPECT_EQ(delay_after(SIGSEGV), Milliseconds(expected));
  }
  EXPECT_THAT(manager_.heard(), Not(Contains(HasSubstr("cannot be started"))));
}

TEST_F(SupervisorTest, OneThatRanForLongIsStartedAtOnce) {
  start(NETWORKER);
  ready();
  for (int i = 0; i < 3; ++i) delay_after(SIGSEGV);
  pass(seconds(58));
  EXPECT_EQ(delay_after(SIGSEGV), Milliseconds(80));
  pass(seconds(64));
  EXPECT_EQ(delay_after(SIGSEGV), Milliseconds(0));
}

TEST_F(SupervisorTest, TimeInWhichWeWereStoppedIsNoRun) {
  start(NETWORKER);
  ready();
  for (int i = 0; i < 3; ++i) delay_after(SIGSEGV);
  gap(std::chrono::hours(1));
  EXPECT_EQ(delay_after(SIGSEGV), Milliseconds(80));
}

// A monitor that hangs.

TEST_F(SupervisorTest, AMonitorThatAnswersNothingIsEndedAfterThirtySeconds) {
  ready();
  answering_ = false;
  pass(kTick + seconds(29));
  EXPECT_TRUE(table_.killed.empty());
  EXPECT_EQ(pings(), 1U);
  pass(seconds(3));
  EXPECT_EQ(table_.killed, std::vector<pid_t>{kMonitor});
  EXPECT_THAT(log(), HasSubstr("the monitor does not answer"));
}

TEST_F(SupervisorTest, AMonitorThatHangsInItsFirstStartEndsTheServer) {
  answering_ = false;
  start(NETWORKER);
  pass(kTick + seconds(59));
  EXPECT_TRUE(table_.killed.empty()) << "its disk may be slow";
  pass(seconds(3));
  EXPECT_EQ(table_.killed, std::vector<pid_t>{kMonitor});
  const std::string said = log();
  EXPECT_THAT(said, HasSubstr("the monitor does not answer; killing it"));
  EXPECT_THAT(said, Not(HasSubstr("started afresh")));
  reap();
  EXPECT_EQ(supervisor_->run(), 1);
}

TEST_F(SupervisorTest, OneThatAnswersAtStartMayTakeItsTime) {
  pass(seconds(300));
  EXPECT_TRUE(table_.killed.empty());
  // Once it serves, it reads no file any more that could keep it so long.
  ready();
  answering_ = false;
  pass(kTick + seconds(33));
  EXPECT_EQ(table_.killed, std::vector<pid_t>{kMonitor});
}

TEST_F(SupervisorTest, TheNextMonitorThatHangsIsEndedToo) {
  ready();
  ends(kMonitor, SIGSEGV);
  pass(kStep);
  const pid_t next = table_.started.back().pid;
  answering_ = false;
  pass(kTick + seconds(63));
  EXPECT_THAT(table_.killed, Contains(next));
  reap();
  pass(seconds(1));
  EXPECT_GT(table_.started.back().pid, next);
}

TEST_F(SupervisorTest, AStopOfOursCostsTheMonitorNothing) {
  ready();
  answering_ = false;
  for (int i = 0; i < 20; ++i) {
    pass(kTick);
    gap(seconds(45));
    answer_pings();
  }
  // And with a Ping that was unanswered when both were stopped.
  pass(kTick * 2);
  gap(std::chrono::hours(10));
  pass(seconds(10));
  EXPECT_EQ(pings(), 1U);
  pong();
  pass(kTick * 2);
  EXPECT_EQ(pings(), 1U);
  EXPECT_TRUE(table_.killed.empty());
}

TEST_F(SupervisorTest, TheNextMonitorIsNotChargedForTheSilenceOfTheOneBefore) {
  ready();
  answering_ = false;
  pass(seconds(28));
  ends(kMonitor, SIGSEGV);
  pass(seconds(29));
  ASSERT_EQ(table_.started.back().file, "mandos-monitor");
  EXPECT_THAT(table_.killed, Not(Contains(table_.started.back().pid)));
}

class WatchdogTest : public SupervisorTest {
 protected:
  WatchdogTest() : SupervisorTest("1000000") {}
};

TEST_F(WatchdogTest, IsFedByEachAnswerOfTheMonitorAndByNothingElse) {
  ready();
  answering_ = false;
  manager_.heard();
  pong();  // that nobody asked for
  EXPECT_THAT(manager_.heard(), Not(Contains("WATCHDOG=1")));
  pass(Milliseconds(520));
  EXPECT_EQ(pings(), 1U);
  EXPECT_THAT(manager_.heard(), Not(Contains("WATCHDOG=1")));
  pong();
  EXPECT_THAT(manager_.heard(), Contains("WATCHDOG=1"));
  pass(seconds(5));
  EXPECT_THAT(manager_.heard(), Not(Contains("WATCHDOG=1")));
  // The monitor's own patience is no shorter for that.
  pass(seconds(24));
  EXPECT_TRUE(table_.killed.empty());
  pass(seconds(2));
  EXPECT_EQ(table_.killed, std::vector<pid_t>{kMonitor});
}

// The end of the monitor and of the server.

TEST_F(SupervisorTest, WhenTheMonitorDiesEverybodyEndsAndANewOneIsStarted) {
  const pid_t networker = start(NETWORKER);
  const pid_t runner = start(CHECKER_RUNNER);
  ready();
  ends(kMonitor, SIGSEGV);
  pass(kStep);
  EXPECT_THAT(table_.killed, Contains(networker));
  EXPECT_THAT(table_.killed, Contains(runner));
  EXPECT_EQ(table_.started.back().file, "mandos-monitor");
}

TEST_F(SupervisorTest, TheMonitorHasSixSecondsToEndAndThenIsEnded) {
  ready();
  kill(getpid(), SIGTERM);
  rounds();
  EXPECT_TRUE(hear().back().has_stop());
  EXPECT_THAT(manager_.heard(), Contains("STOPPING=1"));
  gap(std::chrono::hours(1));  // one tick
  pass(seconds(3));
  EXPECT_TRUE(table_.killed.empty());
  pass(seconds(2));
  EXPECT_EQ(table_.killed, std::vector<pid_t>{kMonitor});
  reap();
  EXPECT_EQ(supervisor_->run(), 0);
}

TEST_F(SupervisorTest, AChildThatCannotBeEndedDelaysTheEndByFiveSecondsAndIsNamed) {
  start(NETWORKER);
  ready();
  table_.stuck = 501;  // a checker, say
  table_.running.push_back(table_.stuck);
  kill(getpid(), SIGTERM);
  rounds();
  ends(kMonitor, 0);
  const Instant before = virtual_now;
  EXPECT_EQ(supervisor_->run(), 0);
  EXPECT_GE(virtual_now - before, seconds(5));
  EXPECT_LE(virtual_now - before, seconds(6));
  EXPECT_EQ(table_.running, std::vector<pid_t>{501});
  EXPECT_THAT(log(), HasSubstr("its-name[501]"));
}

TEST_F(SupervisorTest, AMonitorThatCannotBeEndedDelaysTheEndByFiveSecondsAndIsNamed) {
  const pid_t networker = start(NETWORKER);
  ready();
  table_.stuck = kMonitor;
  kill(getpid(), SIGTERM);
  pass(seconds(8));
  ASSERT_THAT(table_.killed, Contains(kMonitor));
  const Instant before = virtual_now;
  EXPECT_EQ(supervisor_->run(), 0);
  EXPECT_GE(virtual_now - before, seconds(5));
  EXPECT_LE(virtual_now - before, seconds(6));
  EXPECT_THAT(table_.killed, Contains(networker));
  EXPECT_THAT(log(), HasSubstr("its-name[100]"));
}

TEST_F(SupervisorTest, AChildThatCannotBeEndedKeepsNoMonitorFromStarting) {
  table_.stuck = start(NETWORKER);
  ready();
  ends(kMonitor, SIGSEGV);
  pass(seconds(1));
  EXPECT_EQ(table_.started.back().file, "mandos-monitor");
  EXPECT_THAT(log(), HasSubstr("its-name[101]"));
  // It ends in the end, and that is nobody's failure.
  ends(table_.stuck, SIGKILL);
  EXPECT_EQ(table_.started.back().file, "mandos-monitor");
}

TEST_F(SupervisorTest, WhoEndsAfterAStopOfOursIsNotNamed) {
  ready();
  table_.stuck = start(NETWORKER);
  table_.on_wait = [this] {
    virtual_now += std::chrono::hours(1);
    table_.ends(std::exchange(table_.stuck, -1), SIGKILL);
  };
  kill(getpid(), SIGTERM);
  rounds();
  ends(kMonitor, 0);
  EXPECT_EQ(supervisor_->run(), 0);
  EXPECT_THAT(log(), Not(HasSubstr("its-name")));
}

TEST_F(SupervisorTest, AMonitorThatClosedItsDoorHasAsLong) {
  ready();
  monitor_.reset();
  answering_ = false;
  pass(seconds(5));
  EXPECT_TRUE(table_.killed.empty());
  pass(seconds(3));
  EXPECT_EQ(table_.killed, std::vector<pid_t>{kMonitor});
}

// A start that fails.

TEST_F(SupervisorTest, AMonitorThatDiesAtStartIsTheOneToBlame) {
  const pid_t runner = start(CHECKER_RUNNER);
  ends(runner, 0);  // since its door was closed
  pass(Milliseconds(500));
  ends(kMonitor, W_EXITCODE(3, 0));
  EXPECT_EQ(supervisor_->run(), 1);
  const std::string said = log();
  EXPECT_THAT(said, HasSubstr("monitor[100] ended: exit status 3"));
  EXPECT_THAT(said, Not(HasSubstr("checker-runner")));
}

// It has said why, and there is nothing to add.
TEST_F(SupervisorTest, AMonitorThatSaysWhyItCannotStartHasTheLastWord) {
  ends(kMonitor, W_EXITCODE(1, 0));
  EXPECT_EQ(supervisor_->run(), 1);
  EXPECT_THAT(log(), Not(HasSubstr("ended")));
}

TEST_F(SupervisorTest, AProcessThatEndsLaterIsNamedWhateverItsStatus) {
  ready();
  ends(kMonitor, W_EXITCODE(1, 0));
  EXPECT_THAT(log(), HasSubstr("monitor[100] ended: exit status 1"));
}

TEST_F(SupervisorTest, AChildThatEndsByItselfAtStartIsToBlame) {
  const pid_t runner = start(CHECKER_RUNNER);
  answering_ = false;
  ends(runner, 0);
  pass(Milliseconds(1040));
  EXPECT_THAT(log(), HasSubstr("mandos-checker-runner[101] ended: exit status 0"));
  EXPECT_TRUE(hear().back().has_stop());
  ends(kMonitor, W_EXITCODE(1, 0));
  EXPECT_EQ(supervisor_->run(), 1);
}

TEST_F(SupervisorTest, AChildThatCrashesAtStartEndsTheServerAtOnce) {
  ends(start(NETWORKER), W_EXITCODE(1, 0));
  EXPECT_TRUE(hear().back().has_stop());
  ends(kMonitor, W_EXITCODE(1, 0));
  EXPECT_EQ(supervisor_->run(), 1);
}

TEST_F(SupervisorTest, AChildThatHangsAtStartIsReplaced) {
  const pid_t networker = start(NETWORKER);
  restart(NETWORKER, networker, true);
  pass(kStep);
  EXPECT_EQ(table_.running.size(), 2U);
  EXPECT_GT(table_.started.back().pid, networker);
}

TEST_F(SupervisorTest, AProgramThatCannotBeStartedEndsTheServerAfterAMinute) {
  start(NETWORKER);
  ready();
  serves(NETWORKER);
  delay_after(SIGSEGV);
  manager_.heard();
  const Instant first = virtual_now;
  while (virtual_now - first < seconds(90)) {
    ends(table_.started.back().pid, kCannotExecute);
    const auto notices = manager_.heard();
    if (testing::Value(notices, Contains("STOPPING=1"))) break;
    EXPECT_THAT(notices,
                Contains("STATUS=mandos-networker cannot be started: exit status 127; Serving"));
    for (const auto count = table_.started.size(); table_.started.size() == count;) pass(kStep);
  }
  EXPECT_GE(virtual_now - first, seconds(60));
  EXPECT_LE(virtual_now - first, seconds(72));
  EXPECT_THAT(log(), HasSubstr("mandos-networker: every start failed for 60 s"));
  ends(kMonitor, 0);
  EXPECT_EQ(supervisor_->run(), 1);
}

TEST_F(SupervisorTest, OneThatIsStartedInTheEndIsForgiven) {
  start(NETWORKER);
  ready();
  for (int round = 0; round < 4; ++round) {
    const Instant first = virtual_now;
    while (virtual_now - first < seconds(40)) delay_after(kCannotExecute);
    manager_.heard();
    serves(NETWORKER);
    EXPECT_THAT(manager_.heard(), Contains("STATUS=Serving"));
  }
  EXPECT_THAT(log(), Not(HasSubstr("every start failed")));
}

TEST_F(SupervisorTest, TimeInWhichWeWereStoppedIsNoFailure) {
  start(NETWORKER);
  ready();
  delay_after(kCannotExecute);
  gap(std::chrono::hours(1));
  delay_after(kCannotExecute);
  EXPECT_THAT(manager_.heard(), Not(Contains("STOPPING=1")));
}

TEST_F(SupervisorTest, AForkThatFailsIsAFailedStart) {
  start(NETWORKER);
  ready();
  table_.refusal = "fork: no";
  ends(table_.started.back().pid, SIGSEGV);
  pass(seconds(75));
  const auto notices = manager_.heard();
  EXPECT_THAT(notices, Contains("STATUS=mandos-networker cannot be started: fork: no; Serving"));
  EXPECT_THAT(notices, Contains("STOPPING=1"));
}

TEST_F(SupervisorTest, AMonitorThatCannotBeStartedAgainEndsTheServerToo) {
  ready();
  ends(kMonitor, SIGSEGV);
  const Instant first = virtual_now;
  answering_ = false;
  while (virtual_now - first < seconds(90)) {
    while (table_.running.empty() && virtual_now - first < seconds(90)) pass(kStep);
    ends(table_.started.back().pid, W_EXITCODE(1, 0));
    if (testing::Value(manager_.heard(), Contains("STOPPING=1"))) break;
  }
  EXPECT_GE(virtual_now - first, seconds(60));
  EXPECT_LE(virtual_now - first, seconds(72));
  EXPECT_EQ(supervisor_->run(), 1);
}

TEST_F(SupervisorTest, AForkThatFailsForTheMonitorIsTriedAgain) {
  ready();
  table_.refusal = "fork: no";
  ends(kMonitor, SIGSEGV);
  pass(seconds(20));
  const auto notices = manager_.heard();
  EXPECT_THAT(notices, Contains("STATUS=mandos-monitor cannot be started: fork: no; Not serving"));
  EXPECT_THAT(notices, Not(Contains("STOPPING=1")));
  table_.refusal.clear();
  pass(seconds(11));
  EXPECT_EQ(table_.started.back().file, "mandos-monitor");
  ASSERT_EQ(table_.running.size(), 1U);
}

TEST_F(SupervisorTest, AForkThatFailsForTheMonitorForAMinuteEndsTheServer) {
  ready();
  table_.refusal = "fork: no";
  const Instant first = virtual_now;
  ends(kMonitor, SIGSEGV);
  while (virtual_now - first < seconds(90)) {
    pass(kStep);
    if (testing::Value(manager_.heard(), Contains("STOPPING=1"))) break;
  }
  EXPECT_GE(virtual_now - first, seconds(60));
  EXPECT_LE(virtual_now - first, seconds(72));
  EXPECT_EQ(supervisor_->run(), 1);
}

TEST_F(SupervisorTest, WhatCannotBeStartedStaysInTheStatusUntilItIs) {
  start(NETWORKER);
  ready();
  for (int i = 0; i < 3; ++i) delay_after(kCannotExecute);
  manager_.heard();
  ToSupervisor message;
  message.mutable_status_text()->set_text("Serving, 1 waiting");
  say(message);
  EXPECT_THAT(manager_.heard(),
              testing::ElementsAre("STATUS=mandos-networker cannot be started: exit status 127; "
                                   "Serving, 1 waiting"));
  serves(NETWORKER);
  EXPECT_THAT(manager_.heard(), testing::ElementsAre("STATUS=Serving, 1 waiting"));
}

// What is left of a process.

TEST_F(SupervisorTest, TheCheckersOfADeadRunnerAreEndedAndNobodyElse) {
  const pid_t networker = start(NETWORKER);
  start(CHECKER_RUNNER);
  ready();
  table_.running.insert(table_.running.end(), {501, 502});
  ends(table_.started.back().pid, SIGSEGV);
  EXPECT_EQ(table_.killed, (std::vector<pid_t>{501, 502}));
  EXPECT_THAT(table_.running, Contains(networker));
}

TEST_F(SupervisorTest, WhatAnOrphanLeavesIsEndedToo) {
  const pid_t networker = start(NETWORKER);
  start(CHECKER_RUNNER);
  ready();
  table_.running.push_back(501);
  table_.stuck = 501;  // for the moment that its end takes
  ends(table_.started.back().pid, SIGSEGV);
  pass(seconds(1));
  const pid_t runner = table_.started.back().pid;
  // What 501 had started is ours from its end on, and so on.
  for (const pid_t orphan : {502, 503, 504}) {
    table_.running.push_back(orphan);
    ends(std::exchange(table_.stuck, orphan), SIGKILL);
    EXPECT_THAT(table_.killed, Contains(orphan));
  }
  ends(504, SIGKILL);
  EXPECT_EQ(table_.running, (std::vector<pid_t>{kMonitor, networker, runner}));
}

// As when a script starts others before it becomes the server.
TEST_F(SupervisorTest, WhoWasThereBeforeUsMayEndAndNobodyElseDoes) {
  start(CHECKER_RUNNER);
  ready();
  table_.running.insert(table_.running.end(), {50, 51});
  ends(50, 0);
  EXPECT_TRUE(table_.killed.empty());
}

TEST_F(SupervisorTest, AnotherChildsEndEndsNoChecker) {
  start(CHECKER_RUNNER);
  start(BUS_AGENT);
  ready();
  table_.running.push_back(501);
  ends(table_.started.back().pid, SIGSEGV);
  EXPECT_TRUE(table_.killed.empty());
}

class CrashNoteMemoryTest : public SupervisorTest {
 protected:
  ino_t memory() const { return table_.started.back().memory; }
  /// As networker/crash_note.cc has it: first whether a note is there, then what is known.
  void write(const std::string& bytes) const {
    EXPECT_EQ(pwrite(table_.started.back().note.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }
  std::string read() const {
    std::string bytes(100, '\0');
    const auto size = pread(table_.started.back().note.get(), bytes.data(), bytes.size(), 0);
    return bytes.substr(0, static_cast<std::size_t>(size));
  }
};

TEST_F(CrashNoteMemoryTest, TheNoteOfACrashOrAHangReachesTheNextNetworker) {
  start(NETWORKER);
  ready();
  const ino_t first = memory();
  write("note and known sources");
  delay_after(SIGSEGV);
  EXPECT_EQ(memory(), first);
  restart(NETWORKER, table_.started.back().pid, true);
  pass(seconds(1));
  EXPECT_EQ(table_.started.size(), 3U);
  EXPECT_EQ(memory(), first);
  EXPECT_EQ(read(), "note and known sources");
}

TEST_F(CrashNoteMemoryTest, AKillByOthersTakesTheNoteAndNothingThatWasKnown) {
  start(NETWORKER);
  ready();
  const ino_t first = memory();
  delay_after(SIGKILL);
  EXPECT_EQ(memory(), first);
  write("note and known sources");
  delay_after(SIGKILL);
  EXPECT_EQ(memory(), first);
  EXPECT_EQ(read(), std::string(4, '\0') + " and known sources");
}

TEST_F(CrashNoteMemoryTest, OneThatBrokeTheRulesLeavesNothing) {
  start(NETWORKER);
  ready();
  const ino_t first = memory();
  restart(NETWORKER, table_.started.back().pid, false);
  pass(seconds(1));
  EXPECT_EQ(table_.started.size(), 2U);
  EXPECT_NE(memory(), first);
}

TEST_F(SupervisorTest, AProcessThatWasReplacedAlreadyIsLeftAlone) {
  const pid_t networker = start(NETWORKER);
  ready();
  delay_after(SIGSEGV);
  restart(NETWORKER, networker, false);
  EXPECT_TRUE(table_.killed.empty());
}

// The monitor hears of them with each process that was started.
TEST_F(SupervisorTest, ReplacedProcessesAreCountedAlsoOverTheMonitors) {
  const auto told = [this] {
    std::vector<std::uint32_t> counts;
    for (const auto& message : hear()) {
      if (!message.has_started()) continue;
      counts.assign(message.started().restarts().begin(), message.started().restarts().end());
    }
    return counts;
  };
  start(NETWORKER);
  ready();
  EXPECT_THAT(told(), ElementsAre(0, 0, 0, 0));
  answering_ = false;  // it would hear, and we would not
  delay_after(SIGSEGV);
  EXPECT_THAT(told(), ElementsAre(0, 1, 0, 0));
  restart(NETWORKER, table_.started.back().pid, true);
  pass(seconds(1));
  EXPECT_THAT(told(), ElementsAre(0, 2, 0, 0));
  start(BUS_AGENT);
  delay_after(SIGSEGV);
  EXPECT_THAT(told(), ElementsAre(0, 2, 0, 1));
  // The next monitor has its processes started afresh, which is no fault of theirs.
  ends(kMonitor, SIGSEGV);
  pass(seconds(1));
  ASSERT_EQ(table_.started.back().file, "mandos-monitor");
  monitor_.emplace(std::move(table_.started.back().door), Channel::Limits{4096, 65536, 16});
  start(CHECKER_RUNNER);
  EXPECT_THAT(told(), ElementsAre(1, 2, 0, 1));
}

TEST_F(SupervisorTest, AFilterThatKilledIsCalledSo) {
  start(NETWORKER);
  ready();
  delay_after(SIGSYS);
  EXPECT_THAT(log(), HasSubstr("killed by its system call filter (SIGSYS)"));
}

TEST(Notify, AWatchdogIsForTheProcessThatItNames) {
  const std::string own = std::to_string(getpid());
  const struct {
    const char* usec;
    const char* pid;
    std::optional<Milliseconds> wanted;
  } cases[] = {{"2000000", "", Milliseconds(2000)},
               {"2000000", own.c_str(), Milliseconds(2000)},
               {"2000000", "1", std::nullopt},
               {"2000000", "nobody", std::nullopt},
               {"0", "", std::nullopt},
               {"soon", "", std::nullopt}};
  for (const auto& [usec, pid, wanted] : cases) {
    setenv("WATCHDOG_USEC", usec, 1);
    setenv("WATCHDOG_PID", pid, 1);
    EXPECT_EQ(Notify().watchdog(), wanted) << usec << ' ' << pid;
    EXPECT_EQ(getenv("WATCHDOG_USEC"), nullptr);
    EXPECT_EQ(getenv("WATCHDOG_PID"), nullptr);
  }
}

}  // namespace
}  // namespace supervisor
}  // namespace mandos
