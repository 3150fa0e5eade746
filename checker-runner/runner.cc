// SPDX-License-Identifier: GPL-3.0-or-later
#include "checker-runner/runner.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "checker-runner/judge.h"
#include "common/child.h"
#include "common/descriptors.h"
#include "proto/checker_runner.h"

namespace mandos::checker_runner {
namespace {

using door::checker_runner::ToCheckerRunner;
using door::checker_runner::ToMonitor;

// Room for the results of all checkers at once.
constexpr Channel::Limits kLimits{
    .receive = door::checker_runner::kLongestToCheckerRunner,
    .queue = Checkers::kMost * door::checker_runner::kLongestToMonitor};
// Within this time, the monitor sends all commands to be judged.
constexpr Milliseconds kAllJudged(500);

void judge(const std::vector<ToCheckerRunner::Judge>& all, Log& log) {
  std::map<std::string, std::pair<std::string, unsigned>> clients;  // one, and how many others
  for (const auto& judged : all) {
    const auto warning = judge_command(judged.command());
    if (!warning) continue;
    const auto [known, is_new] = clients.try_emplace(*warning, judged.client(), judged.others());
    if (!is_new) known->second.second += 1 + judged.others();
  }
  for (const auto& [warning, known] : clients) {
    const auto& [client, others] = known;
    log.warning("checker of client ", escaped(client),
                others == 0 ? "" : concat(" and ", others, " more"), ": ", warning);
  }
}

}  // namespace

Runner::Runner(EventLoop& loop, Log& log, UniqueFd door)
    : loop_(loop),
      log_(log),
      checkers_(loop, log,
                [this](std::uint64_t checker, std::optional<int> wait_status) {
                  ToMonitor message;
                  message.mutable_finished()->set_checker(checker);
                  if (wait_status) message.mutable_finished()->set_wait_status(*wait_status);
                  door_.send(message);
                }),
      door_(
          loop, std::move(door), kLimits,
          [this](const Channel::Datagram& datagram) { received(datagram); },
          [this](const std::string& why) {
            log_.debug("the monitor's door: ", why);
            loop_.stop(EXIT_SUCCESS);
          }) {}

int Runner::run() {
  if (auto prepared = checkers_.prepare(); !prepared) {
    log_.critical("the checker-runner cannot work: ", prepared.error());
    return EXIT_FAILURE;
  }
  // SIGINT and SIGHUP come from the terminal: the supervisor decides whether they end the server.
  loop_.on_signals({SIGCHLD, SIGTERM, SIGINT, SIGHUP}, [this](int signal) {
    if (signal == SIGCHLD) checkers_.reap();
    if (signal == SIGTERM) loop_.stop(EXIT_SUCCESS);
  });
  const int status = loop_.run();
  checkers_.end_all();
  return status;
}

void Runner::received(const Channel::Datagram& datagram) {
  ToCheckerRunner message;
  if (!message.ParseFromArray(datagram.bytes.data(), static_cast<int>(datagram.bytes.size())) ||
      !obey(message)) {
    log_.critical("the monitor violated the rules of the door");
    loop_.stop(EXIT_FAILURE);
  }
}

bool Runner::obey(const ToCheckerRunner& message) {
  switch (message.message_case()) {
    case ToCheckerRunner::kSettings:
      log_.set_level(static_cast<LogLevel>(message.settings().log_level()));
      checkers_.show_output(message.settings().show_output());
      return true;
    case ToCheckerRunner::kRun:
      if (checkers_.runs(message.run().checker())) return false;
      checkers_.run(message.run().checker(), message.run().command());
      return true;
    case ToCheckerRunner::kKill:
      checkers_.kill(message.kill().checker());
      return true;
    case ToCheckerRunner::kPing: {
      ToMonitor pong;
      pong.mutable_pong();
      door_.send_first(pong);
      return true;
    }
    case ToCheckerRunner::kJudge:
      to_judge_.push_back(message.judge());
      if (to_judge_.size() == 1) loop_.after(kAllJudged, [this] { begin_judging(); });
      return true;
    case ToCheckerRunner::MESSAGE_NOT_SET:
      break;
  }
  return false;
}

void Runner::begin_judging() {
  const auto all = std::exchange(to_judge_, {});
  if (checkers_.spares_one()) {
    return log_.warning(
        "programs of checkers are not looked for: the last search is still running, perhaps in a "
        "file system that hangs");
  }
  const pid_t child = fork();
  if (child < 0)
    return log_.warning(errno_error(errno, "programs of checkers are not looked for").text);
  if (child > 0) return checkers_.spare(child);
  // The door closes when the checker-runner ends, even if this process still runs.
  close(kDoorFd);
  close_descriptors(kLogFd + 1);
  judge(all, log_);
  _exit(EXIT_SUCCESS);
}

}  // namespace mandos::checker_runner
