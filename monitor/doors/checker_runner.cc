// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/doors/checker_runner.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "proto/checker_runner.h"

namespace mandos::monitor {
namespace {

using namespace door::checker_runner;

// 10,000 commands of a few hundred bytes may wait while the checker-runner is busy.
constexpr Channel::Limits kLimits{.receive = kLongestToMonitor, .queue = 16UL * 1024 * 1024};

}  // namespace

std::span<const DoorRow<CheckerRunnerDoor, ToMonitor>> CheckerRunnerDoor::rows() {
  static constexpr DoorRow<CheckerRunnerDoor, ToMonitor> kRows[] = {
      {ToMonitor::kFinished, "Finished", kRunning, kLongestFinished, kMostFinishedPerSecond,
       &CheckerRunnerDoor::finished},
      {ToMonitor::kPong, "Pong", kAsked, kLongestOther, 1, &CheckerRunnerDoor::pong},
  };
  return kRows;
}

CheckerRunnerDoor::CheckerRunnerDoor(EventLoop& loop, Registry& registry, UniqueFd door,
                                     LogLevel level, bool show_output,
                                     std::function<void(const std::string& why)> on_broken,
                                     std::function<void()> on_alive)
    : ChildDoor(
          loop, std::move(door), kLimits,
          [this](std::string_view bytes) {
            if (const char* broken = table_.dispatch(*this, bytes)) on_broken_(broken);
          },
          [this](const std::string& why) { on_broken_(why); }, std::move(on_alive)),
      registry_(registry),
      on_broken_(std::move(on_broken)) {
  tell([&](auto& message) {
    message.mutable_settings()->set_log_level(static_cast<std::uint32_t>(level));
    message.mutable_settings()->set_show_output(show_output);
  });
  judge();
}

void CheckerRunnerDoor::judge() {
  std::map<std::string_view, ToCheckerRunner::Judge> commands;
  registry_.for_each([&](const Client& client) {
    const auto [known, is_new] = commands.try_emplace(client.settings->checker);
    if (is_new) known->second.set_client(client.name);
    if (!is_new) known->second.set_others(known->second.others() + 1);
  });
  std::size_t judged = 0;
  for (auto& entry : commands) {
    if (entry.first.size() > kLongestJudged || judged > kLongestJudged * 1000) continue;
    judged += entry.first.size() + entry.second.client().size();
    entry.second.set_command(std::string(entry.first));
    tell([&entry](auto& message) { *message.mutable_judge() = std::move(entry.second); });
  }
}

CheckerRunnerDoor::~CheckerRunnerDoor() {
  const auto running = std::exchange(running_, {});
  for (const CheckerId checker : running) registry_.checker_lost(checker);
}

void CheckerRunnerDoor::run(CheckerId checker, const std::string& command) {
  running_.insert(checker);
  tell([&](auto& message) {
    message.mutable_run()->set_checker(checker);
    message.mutable_run()->set_command(command);
  });
}

void CheckerRunnerDoor::kill(CheckerId checker) {
  tell([&](auto& message) { message.mutable_kill()->set_checker(checker); });
}

unsigned CheckerRunnerDoor::state_of(const ToMonitor& message) const {
  if (message.has_pong()) return asked(message) ? kAsked : kAbsent;
  return running_.contains(message.finished().checker()) ? kRunning : kAbsent;
}

void CheckerRunnerDoor::finished(const ToMonitor& message) {
  const auto& end = message.finished();
  running_.erase(end.checker());
  if (!end.has_wait_status()) return registry_.checker_lost(end.checker());
  registry_.checker_finished(end.checker(), end.wait_status());
}

}  // namespace mandos::monitor
