// SPDX-License-Identifier: GPL-3.0-or-later
// A checker-runner gone bad at the monitor's door, while checkers are started. An input is a
// sequence of operations (kOperations below, each a byte and its operands). Only a checker that
// runs can finish, once; when the door is gone, none runs.
#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "monitor/doors/checker_runner.h"
#include "tests/fuzz/monitor_world.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using door::checker_runner::ToCheckerRunner;
using door::checker_runner::ToMonitor;

constexpr std::size_t kMostOperations = 64;
constexpr std::size_t kMostText = 64UL * 1024;  // as the bus takes it
// What the checker-runner takes.
constexpr std::size_t kLongestMessage = 128UL * 1024 + 64;

// In the place of a wait status.
constexpr int kNotStarted = 0xffff;

enum Operation : unsigned {
  kRaw,         // length (1 byte), bytes
  kFinished,    // which of the checkers that ever ran (1), wait status (4)
  kInvented,    // checker (8), wait status (4)
  kDescriptor,  // length (1), bytes: with a descriptor
  kRunning,     // client (1), start or stop (1): an administrator's
  kEnabled,     // client (1), yes or no (1)
  kChecker,     // client (1), length (1), command
  kHost,        // client (1), length (1), host, how many times (2)
  kListen,      // nothing
  kHangUp,      // nothing
  kTick,        // nothing: the monitor asks whether it is alive
  kPong,        // nothing
  kOperations,
};

class Scene {
 public:
  Scene() {
    auto pair = make_door();
    require(static_cast<bool>(pair), "socketpair");
    peer_.emplace(std::move(pair->second));
    door_.emplace(
        world_.loop, world_.registry, std::move(pair->first), LogLevel::kWarning, false,
        [this](const std::string& why) {
          require(!why.empty(), "a reason is given");
          broken_ = true;
        },
        [this] { require(asked_, "a Pong answers a Ping"); });
    world_.registry.start();
    listen();
  }
  ~Scene() { close(); }

  void play(Input& input) {
    for (std::size_t i = 0; i < kMostOperations && !input.empty() && door_; ++i) step(input);
    listen();
    if (!door_) return;
    close();
  }

 private:
  void close() {
    if (!door_) return;
    door_.reset();
    for (int i = 0; i < 2; ++i) world_.loop.run_once(Milliseconds(0));
    world_.registry.for_each([](const monitor::Client& client) {
      require(!client.checker, "no checker runs without a checker-runner", client.name);
    });
  }

  static std::string name(Input& input) {
    return std::string(MonitorWorld::kNames.at(input.below(MonitorWorld::kNames.size())));
  }

  void step(Input& input) {
    ToMonitor message;
    switch (input.below(kOperations)) {
      case kRaw:
        provoked_ = true;
        return peer_->send(input.sized(1));
      case kFinished: {
        const unsigned which = input.byte();
        if (started_.empty()) return;
        provoked_ = true;
        message.mutable_finished()->set_checker(started_.at(which % started_.size()));
        if (const auto status = static_cast<int>(input.number(4)); status != kNotStarted) {
          message.mutable_finished()->set_wait_status(status);
        }
        break;
      }
      case kInvented:
        provoked_ = true;
        message.mutable_finished()->set_checker(input.number(8));
        message.mutable_finished()->set_wait_status(static_cast<int>(input.number(4)));
        break;
      case kDescriptor:
        provoked_ = true;
        return peer_->send(input.sized(1), {peer_->fd()});
      case kRunning: {
        const auto client = name(input);
        return change(client, {monitor::Property::kCheckerRunning, input.flag()});
      }
      case kEnabled: {
        const auto client = name(input);
        return change(client, {monitor::Property::kEnabled, input.flag()});
      }
      case kChecker: {
        const auto client = name(input);
        return change(client, {monitor::Property::kChecker, std::string(input.sized(1))});
      }
      case kHost: {
        const auto client = name(input);
        const auto piece = input.sized(1);
        std::string host;
        for (auto times = input.number(2); times > 0 && host.size() < kMostText; --times) {
          host += piece;
        }
        return change(client, {monitor::Property::kHost, host.substr(0, kMostText)});
      }
      case kListen:
        return listen();
      case kTick:
        provoked_ = true;
        // It is given up after a while, as the server would.
        if (!door_->ask_alive()) return peer_->hang_up(), listen();
        asked_ = true;
        return;
      case kPong:
        provoked_ = true;
        message.mutable_pong();
        break;
      default:
        provoked_ = true;
        peer_->hang_up();
        return listen();
    }
    peer_->send(message.SerializeAsString());
  }

  void change(const std::string& client, const monitor::Set& set) {
    world_.registry.change(client, set, [](const Status& done) {
      require(static_cast<bool>(done), "a change is carried out");
    });
  }

  void listen() {
    for (std::size_t i = 0; i < kMostOperations / 16 + 2; ++i) {
      world_.loop.run_once(Milliseconds(0));
      require(!broken_ || provoked_, "an administrator's change does not break the door");
      if (broken_) close();
      peer_->receive([this](std::string_view bytes) {
        require(bytes.size() <= kLongestMessage, "a message is not too long");
        ToCheckerRunner message;
        require(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())),
                "the monitor speaks the door's language");
        if (!message.has_run()) return;
        require(ran_.insert(message.run().checker()).second, "a checker's number is used once");
        require(message.run().command().find('\0') == std::string::npos, "a command is whole");
      });
    }
    world_.registry.for_each([](const monitor::Client& client) {
      require(client.last_checker_status >= -2 && client.last_checker_status <= 255,
              "a checker's status is one", client.name);
    });
  }

  monitor::Registry::Outlets outlets() {
    auto out = quiet_outlets();
    out.start_checker = [this](monitor::CheckerId checker, const std::string& command) {
      started_.push_back(checker);
      if (door_) return door_->run(checker, command);
      // As monitor/doors/doors.cc does while the checker-runner is started afresh.
      world_.loop.at(BootClock::now(),
                     [this, checker] { world_.registry.checker_finished(checker, SIGKILL); });
    };
    out.kill_checker = [this](monitor::CheckerId checker) {
      require(std::ranges::find(started_, checker) != started_.end(), "what is killed has run");
      if (door_) door_->kill(checker);
    };
    return out;
  }

  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  std::vector<monitor::CheckerId> started_;
  MonitorWorld world_{log_, outlets()};
  std::optional<monitor::CheckerRunnerDoor> door_;
  std::optional<Peer> peer_;
  bool broken_ = false;
  bool provoked_ = false;
  bool asked_ = false;
  std::set<std::uint64_t> ran_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 8192) return 0;
  Input input(data, size);
  Scene().play(input);
  require_descriptors();
  return 0;
}
