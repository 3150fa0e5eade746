// SPDX-License-Identifier: GPL-3.0-or-later
// The checker-runner's end of the door, with this test in the place of the monitor.
#include "checker-runner/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mandos::checker_runner {
namespace {

using door::checker_runner::ToCheckerRunner;
using door::checker_runner::ToMonitor;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr int kTooLate = 99;

class RunnerTest : public testing::Test {
 protected:
  RunnerTest() {
    monitor_ = std::make_unique<Door>(
        loop_, std::move(door_->first), Channel::Limits{.receive = 64, .queue = 1 << 20},
        [this](const Channel::Datagram& datagram) { heard(datagram.bytes); },
        [](const std::string&) {});
  }

  void heard(std::string_view bytes) {
    ToMonitor message;
    ASSERT_TRUE(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    order_.push_back(message.message_case());
    if (message.has_finished()) {
      const auto& end = message.finished();
      finished_[end.checker()] =
          end.has_wait_status() ? std::optional(end.wait_status()) : std::nullopt;
    }
    if (order_.size() == enough_) on_enough_();
  }
  /// The monitor closes its door.
  void leave() {
    loop_.at(BootClock::now(), [this] { monitor_.reset(); });
  }
  /// How the runner ends when the monitor leaves after so many messages; 0: it does not leave.
  int status(std::size_t messages) {
    enough_ = messages;
    loop_.after(std::chrono::seconds(20), [this] { loop_.stop(kTooLate); });
    return runner_.run();
  }
  void run(std::uint64_t checker, const std::string& command) {
    ToCheckerRunner message;
    message.mutable_run()->set_checker(checker);
    message.mutable_run()->set_command(command);
    monitor_->send(message);
  }
  std::string logged() {
    std::string lines;
    std::array<char, 2048> line{};
    for (ssize_t size = 0;
         (size = recv(log_socket_->first.get(), line.data(), line.size(), MSG_DONTWAIT)) > 0;) {
      lines.append(line.data(), static_cast<std::size_t>(size)) += '\n';
    }
    return lines;
  }
  static bool nobody_is_left() { return waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }

  EventLoop loop_;
  Result<DoorPair> door_ = make_door();
  int monitor_fd_ = door_->first.get();
  Result<DoorPair> log_socket_ = make_door();
  Log log_ = Log::to_socket(log_socket_->second.get(), LogLevel::kInfo);
  Runner runner_{loop_, log_, std::move(door_->second)};
  std::unique_ptr<Door> monitor_;
  std::map<std::uint64_t, std::optional<int>> finished_;
  std::vector<ToMonitor::MessageCase> order_;
  std::size_t enough_ = 0;
  std::function<void()> on_enough_ = [this] { leave(); };
};

TEST_F(RunnerTest, TellsHowEachCheckerEnded) {
  run(1, "exit 3");
  run(2, std::string("true\0x", 6));
  run(1ULL << 63, "kill -9 $$");
  EXPECT_EQ(status(3), 0);
  EXPECT_THAT(finished_, ElementsAre(Pair(1, W_EXITCODE(3, 0)), Pair(2, std::nullopt),
                                     Pair(1ULL << 63, SIGKILL)));
}

TEST_F(RunnerTest, KillsWhatItIsToldTo) {
  run(1, "sleep 1000");
  ToCheckerRunner message;
  message.mutable_kill()->set_checker(2);  // nobody
  monitor_->send(message);
  message.mutable_kill()->set_checker(1);
  monitor_->send(message);
  EXPECT_EQ(status(1), 0);
  EXPECT_THAT(finished_, ElementsAre(Pair(1, SIGKILL)));
}

TEST_F(RunnerTest, AnswersAPing) {
  ToCheckerRunner ping;
  ping.mutable_ping();
  monitor_->send(ping);
  EXPECT_EQ(status(1), 0);
  EXPECT_THAT(order_, ElementsAre(ToMonitor::kPong));
}

TEST_F(RunnerTest, ShowsWhatCheckersPrintOnlyIfToldTo) {
  run(1, "echo unseen");
  ToCheckerRunner settings;
  settings.mutable_settings()->set_log_level(static_cast<std::uint32_t>(LogLevel::kDebug));
  settings.mutable_settings()->set_show_output(true);
  monitor_->send(settings);
  run(2, "echo seen");
  EXPECT_EQ(status(2), 0);
  const std::string lines = logged();
  EXPECT_THAT(lines, HasSubstr("7checker [echo seen]: seen\n"));
  EXPECT_THAT(lines, testing::Not(HasSubstr(": unseen")));
}

TEST_F(RunnerTest, ANumberThatRunsAlreadyEndsItAndAllCheckers) {
  run(1, "sleep 1000");
  run(1, "sleep 1000");
  EXPECT_EQ(status(0), 1);
  EXPECT_THAT(logged(), HasSubstr("2the monitor violated the rules of the door"));
  EXPECT_TRUE(nobody_is_left());
}

TEST_F(RunnerTest, AMessageThatIsNoneOfTheDoorEndsIt) {
  ToCheckerRunner::Judge other;  // its field is no message of the door
  other.set_others(7);
  monitor_->send(other);
  EXPECT_EQ(status(0), 1);
}

TEST_F(RunnerTest, WhatIsNoMessageEndsIt) {
  // A length beyond the end.
  ASSERT_EQ(send(monitor_fd_, "\x12\x7f\x01", 3, 0), 3);
  EXPECT_EQ(status(0), 1);
}

TEST_F(RunnerTest, EndsWithTheDoorAndLeavesNobody) {
  run(1, "sleep 1000 & sleep 1000");
  ToCheckerRunner ping;
  ping.mutable_ping();
  monitor_->send(ping);
  EXPECT_EQ(status(1), 0);
  EXPECT_TRUE(finished_.empty());
  EXPECT_TRUE(nobody_is_left());
}

TEST_F(RunnerTest, OfTheSignalsThatItMayGetSigtermEndsIt) {
  loop_.at(BootClock::now(), [this] {
    kill(getpid(), SIGINT);
    kill(getpid(), SIGHUP);
    ToCheckerRunner ping;
    ping.mutable_ping();
    monitor_->send(ping);
  });
  on_enough_ = [] { kill(getpid(), SIGTERM); };
  EXPECT_EQ(status(1), 0);
  EXPECT_THAT(order_, ElementsAre(ToMonitor::kPong));
  EXPECT_TRUE(monitor_) << "it has not left";
}

}  // namespace
}  // namespace mandos::checker_runner
