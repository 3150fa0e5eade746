// SPDX-License-Identifier: GPL-3.0-or-later
// A monitor gone bad, at the doors of networker, checker-runner and bus-agent as they are shipped:
// each ends by itself or does not care; none crashes, is killed by its filter, hangs or grows.
// Needs root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "tests/support/as_networker.h"
#include "tests/support/datagram.h"

#include "bus_agent.pb.h"
#include "checker_runner.pb.h"

namespace mandos::test {
namespace {

constexpr uid_t kUser = 60999;
constexpr std::uint32_t kCritical = 2;
constexpr std::size_t kMostGrowthKib = 32 * 1024;

using door::bus_agent::ToBusAgent;
using door::checker_runner::ToCheckerRunner;
using door::networker::ToNetworker;

struct Program {
  const char* name;
  const char* variable;  // holds where the program lies
  std::vector<unsigned> capabilities;
  std::string settings;               // as it expects them
  std::vector<std::string> messages;  // every other kind, as it expects them or nearly so
  std::string harmless;               // a message to which it does nothing, or which ends it
};
void PrintTo(const Program& program, std::ostream* out) { *out << program.name; }

std::vector<Program> programs() {
  std::vector<Program> all;
  {
    ToNetworker settings;
    auto& values = *settings.mutable_settings();
    values.set_priority(
        "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA");
    values.set_log_level(kCritical);
    values.set_max_connections(100);
    values.set_max_per_source(10);
    values.set_login_grace_ms(1000);
    std::vector<std::string> messages;
    for (int kind = 0; kind < 4; ++kind) {
      ToNetworker message;
      if (kind == 3) message.mutable_ping();
      message.set_connection(1);
      if (kind == 0) message.mutable_nonce()->set_nonce(std::string(32, 'n'));
      if (kind == 1) message.mutable_part()->set_last(true), message.set_blob("a secret");
      if (kind == 2) message.mutable_refused();
      messages.push_back(message.SerializeAsString());
    }
    all.push_back({"networker",
                   "MANDOS_NETWORKER",
                   {CAP_SYS_CHROOT, CAP_SETPCAP},
                   settings.SerializeAsString(),
                   messages,
                   messages[2]});
  }
  {
    ToCheckerRunner settings;
    settings.mutable_settings()->set_log_level(kCritical);
    ToCheckerRunner run;
    run.mutable_run()->set_checker(7);
    run.mutable_run()->set_command("exit 3");
    ToCheckerRunner kill;
    kill.mutable_kill()->set_checker(8);
    ToCheckerRunner ping;
    ping.mutable_ping();
    all.push_back({"checker_runner",
                   "MANDOS_CHECKER_RUNNER",
                   {CAP_NET_RAW, CAP_SETPCAP},
                   settings.SerializeAsString(),
                   {run.SerializeAsString(), kill.SerializeAsString(), ping.SerializeAsString()},
                   kill.SerializeAsString()});
  }
  if (std::getenv("MANDOS_BUS_AGENT") != nullptr) {
    ToBusAgent settings;
    settings.mutable_settings()->set_log_level(kCritical);
    settings.mutable_settings()->set_dbus(true);
    std::vector<std::string> messages;
    for (int kind = 0; kind < 10; ++kind) {
      ToBusAgent message;
      if (kind == 0) message.mutable_added()->set_name("a"), message.mutable_added()->set_path("b");
      if (kind == 1) message.mutable_complete();
      if (kind == 2) message.mutable_changed()->set_name("a");
      if (kind == 3) message.mutable_removed()->set_name("a");
      if (kind == 4) message.mutable_signal()->set_name("a");
      if (kind == 5) message.mutable_not_found()->set_address("\xff\xfe");
      if (kind == 6) message.mutable_announce()->set_port(99999);
      if (kind == 7) message.mutable_withdraw();
      if (kind == 8) message.mutable_reply()->set_serial(77);
      if (kind == 9) message.mutable_ping();
      messages.push_back(message.SerializeAsString());
    }
    all.push_back({"bus_agent",
                   "MANDOS_BUS_AGENT",
                   {CAP_SETPCAP},
                   settings.SerializeAsString(),
                   messages,
                   messages[3]});
  }
  return all;
}

/// One that runs, with us as its monitor.
class Child {
 public:
  explicit Child(const Program& program) {
    auto door = make_door();
    auto log = make_door();
    EXPECT_TRUE(door && log);
    pid_ = fork();
    if (pid_ == 0) become(program, door->second.get(), log->second.get());
    door_ = std::move(door->first);
    log_ = std::move(log->first);
  }
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// False when it is gone or does not read.
  bool send(std::string_view bytes, std::span<const int> descriptors = {}, bool read = true) const {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 64)> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!descriptors.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(c), descriptors.data(), descriptors.size_bytes());
    }
    for (int i = 0; i < 500; ++i) {
      if (sendmsg(door_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
      if (errno != EAGAIN) return false;
      if (read) drain();
      usleep(1000);
    }
    return false;
  }
  /// What it is told first: settings and, for the networker, a listening socket.
  void settle(const Program& program) const {
    const UniqueFd listener(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
    listen(listener.get(), 1);
    const std::array<int, 1> descriptors{listener.get()};
    const bool wants = std::string_view(program.name) == "networker";
    EXPECT_TRUE(
        send(program.settings, wants ? std::span<const int>(descriptors) : std::span<const int>()));
  }
  void drain() const {
    std::array<char, 4096> bytes{};
    while (recv(door_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
    }
    while (recv(log_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
    }
  }
  void close_door() { door_.reset(); }

  /// The next datagram from it, or nothing within five seconds.
  std::string receive() const {
    std::array<char, 4096> bytes{};
    for (int i = 0; i < 5000; ++i) {
      const ssize_t size = recv(door_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (size > 0) return {bytes.data(), static_cast<std::size_t>(size)};
      usleep(1000);
    }
    return "";
  }
  bool runs() {
    // Until it has read what it was sent.
    for (int waiting = 1, i = 0; i < 1000 && waiting > 0; ++i) {
      if (ioctl(door_.get(), SIOCOUTQ, &waiting) != 0) break;
      usleep(200);
    }
    drain();
    if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
    return pid_ > 0;
  }
  /// It ends by itself, with a status of its own.
  void expect_end() {
    for (int i = 0; i < 3000 && pid_ > 0; ++i) {
      drain();
      if (waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
      usleep(2000);
    }
    EXPECT_EQ(pid_, -1) << "it goes on";
    EXPECT_TRUE(pid_ > 0 || (WIFEXITED(status_) && WEXITSTATUS(status_) <= 1))
        << "wait status " << status_;
  }
  /// Whatever it made of what it got, it ends well once the door is closed.
  void expect_unharmed() {
    close_door();
    expect_end();
  }
  std::size_t resident_kib() const {
    std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
    for (std::string word; status >> word;) {
      if (word == "VmRSS:") return status >> word, std::stoul(word);
    }
    return 0;
  }

 private:
  [[noreturn]] static void become(const Program& program, int door, int log) {
    const char* path = std::getenv(program.variable);
    if (path == nullptr) die(program.variable);
    const int file = open(path, O_PATH | O_CLOEXEC);
    provide_root();
    const int high_file = fcntl(file, F_DUPFD_CLOEXEC, 100);
    const int high_door = fcntl(door, F_DUPFD_CLOEXEC, 100);
    const int high_log = fcntl(log, F_DUPFD_CLOEXEC, 100);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(high_door, 3) < 0 || dup2(high_log, 4) < 0) {
      die("dup2");
    }
    drop_to(kUser, program.capabilities);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    std::string name = program.name;
    std::array<char*, 2> arguments{name.data(), nullptr};
    std::string bus = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent";
    std::array<char*, 2> environment{bus.data(), nullptr};
    syscall(SYS_execveat, high_file, "", arguments.data(), environment.data(), AT_EMPTY_PATH);
    die(path);
  }

  pid_t pid_ = -1;
  int status_ = 0;
  UniqueFd door_, log_;
};

class BadMonitor : public testing::TestWithParam<Program> {};

// Else nothing of what follows would mean anything.
TEST_P(BadMonitor, ItWorksWhereNothingIsBad) {
  Child child(GetParam());
  child.settle(GetParam());
  const std::string_view name = GetParam().name;
  if (name == "networker") {
    const auto messages = messages_of(child.receive());
    ASSERT_TRUE(messages && messages->size() == 1);
    EXPECT_TRUE(messages->front().has_greeting());
    EXPECT_EQ(messages->front().greeting().problem(), "");
  } else if (name == "bus_agent") {
    door::bus_agent::ToMonitor message;
    ASSERT_TRUE(message.ParseFromString(child.receive()));
    EXPECT_TRUE(message.has_greeting());
  } else {
    child.send(GetParam().messages[0]);
    door::checker_runner::ToMonitor message;
    ASSERT_TRUE(message.ParseFromString(child.receive()));
    EXPECT_EQ(message.finished().wait_status(), W_EXITCODE(3, 0));
  }
  // A Ping, the last kind, is answered by a Pong.
  child.send(GetParam().messages.back());
  const std::string answer = child.receive();
  if (name == "networker") {
    const auto messages = messages_of(answer);
    ASSERT_TRUE(messages && messages->size() == 1);
    EXPECT_TRUE(messages->front().has_pong());
  } else if (name == "bus_agent") {
    door::bus_agent::ToMonitor message;
    EXPECT_TRUE(message.ParseFromString(answer) && message.has_pong());
  } else {
    door::checker_runner::ToMonitor message;
    EXPECT_TRUE(message.ParseFromString(answer) && message.has_pong());
  }
  EXPECT_TRUE(child.runs());
  child.expect_unharmed();
}

TEST_P(BadMonitor, WhoClosesTheDoorEndsIt) {
  for (const bool settled : {false, true}) {
    Child child(GetParam());
    if (settled) child.settle(GetParam());
    child.expect_unharmed();
  }
}

TEST_P(BadMonitor, WhoSaysWhatIsNoMessageEndsIt) {
  for (const bool settled : {false, true}) {
    Child child(GetParam());
    if (settled) child.settle(GetParam());
    child.send("\xff\xff\xff\xff");
    child.expect_end();
  }
}

// The others know no settings without which they cannot begin.
TEST(BadMonitorOfTheNetworker, WhoSaysAnythingBeforeTheSettingsEndsIt) {
  const auto program = programs()[0];
  for (const auto& message : program.messages) {
    Child child(program);
    child.send(message);
    child.expect_end();
  }
}

// Or it would break the rules of the door: SECURITY.md, which is compared with the monitor.
TEST(BadMonitorOfTheNetworker, WhateverItsProblemIsTheGreetingIsNoLongerThanAllowed) {
  auto program = programs()[0];
  ToNetworker settings;
  ASSERT_TRUE(settings.ParseFromString(program.settings));
  settings.mutable_settings()->set_priority("NONSENSE");
  settings.mutable_settings()->set_priority_place(std::string(3000, 'p'));
  program.settings = settings.SerializeAsString();
  Child child(program);
  child.settle(program);
  const auto messages = messages_of(child.receive());
  ASSERT_TRUE(messages && messages->size() == 1);
  EXPECT_NE(messages->front().greeting().problem(), "");
  EXPECT_LE(messages->front().ByteSizeLong(), 1024U);
  child.expect_end();
}

TEST_P(BadMonitor, WhoSaysTooMuchAtATimeEndsIt) {
  Child child(GetParam());
  child.settle(GetParam());
  child.send(std::string(190'000, '\x08'));
  child.expect_end();
}

TEST_P(BadMonitor, WhoPassesDescriptorsThatNobodyWantsEndsIt) {
  for (const std::size_t count : {1UL, 16UL, 17UL, 64UL}) {
    Child child(GetParam());
    child.settle(GetParam());
    const std::vector<int> descriptors(count, 0);
    child.send(GetParam().harmless, descriptors);
    child.expect_end();
  }
}

TEST_P(BadMonitor, HalfMessagesDoNoHarm) {
  Child settled(GetParam());
  settled.settle(GetParam());
  for (const auto& message : GetParam().messages) {
    for (const std::size_t size : {message.size() / 2, message.size() - 1}) {
      if (size == 0) continue;
      Child child(GetParam());
      child.settle(GetParam());
      child.send(std::string_view(message).substr(0, size));
      child.expect_unharmed();
    }
  }
  for (std::size_t size = 1; size < GetParam().settings.size(); size += 7) {
    Child child(GetParam());
    child.send(std::string_view(GetParam().settings).substr(0, size));
    child.expect_unharmed();
  }
  settled.expect_unharmed();
}

TEST_P(BadMonitor, EveryMessageOutOfTurnDoesNoHarm) {
  for (const bool settled : {false, true}) {
    for (const auto& message : GetParam().messages) {
      Child child(GetParam());
      if (settled) child.settle(GetParam());
      for (int i = 0; i < 3; ++i) child.send(message);
      child.send(GetParam().settings);
      child.expect_unharmed();
    }
  }
}

TEST_P(BadMonitor, MessagesWithAnyByteChangedDoNoHarm) {
  std::mt19937 random(1);  // the same every time
  std::vector<std::string> seeds = GetParam().messages;
  seeds.push_back(GetParam().settings);
  std::unique_ptr<Child> child;
  for (int round = 0; round < 150; ++round) {
    if (child == nullptr || !child->runs()) {
      if (child != nullptr) child->expect_end();
      child = std::make_unique<Child>(GetParam());
      child->settle(GetParam());
    }
    std::string bytes = seeds[random() % seeds.size()];
    // A checker-runner would run what its command has become.
    if (bytes.find("exit 3") != std::string::npos) bytes.resize(bytes.find("exit 3"));
    for (auto i = random() % 3 + 1; i > 0 && !bytes.empty(); --i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (!bytes.empty() && !child->send(bytes)) child->expect_end();
  }
  child->expect_unharmed();
}

TEST_P(BadMonitor, AFloodIsNotKept) {
  Child child(GetParam());
  child.settle(GetParam());
  usleep(300'000);
  const std::size_t before = child.resident_kib();
  std::size_t most = before;
  for (int i = 0; i < 50'000 && child.send(GetParam().harmless); ++i) {
    if (i % 5000 == 0) most = std::max(most, child.resident_kib());
  }
  EXPECT_LT(most, before + kMostGrowthKib);
  child.expect_unharmed();
}

INSTANTIATE_TEST_SUITE_P(Of, BadMonitor, testing::ValuesIn(programs()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(BadMonitorOfTheCheckerRunner, OneThatNeverReadsIsGivenUp) {
  const auto program = programs()[1];
  Child child(program);
  child.settle(program);
  usleep(300'000);
  const std::size_t before = child.resident_kib();
  std::size_t most = before;
  for (std::uint64_t i = 0; i < 400'000; ++i) {
    ToCheckerRunner run;  // answered at once, since no such command can be
    run.mutable_run()->set_checker(i);
    run.mutable_run()->set_command(std::string(1, '\0'));
    const std::string bytes = run.SerializeAsString();
    if (!child.send(bytes, {}, false)) break;
    if (i % 5000 == 0) most = std::max(most, child.resident_kib());
  }
  EXPECT_LT(most, before + kMostGrowthKib);
  child.expect_unharmed();
}

}  // namespace
}  // namespace mandos::test
