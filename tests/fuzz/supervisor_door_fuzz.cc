// SPDX-License-Identifier: GPL-3.0-or-later
// The supervisor's messages to the monitor, which trusts it: any datagrams with any descriptors.
// Each message reaches its handler once, with as many descriptors as it must have, or stops the
// monitor; no descriptor is lost. An input is a sequence of operations (kOperations below, each a
// byte and its operands).
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "monitor/doors/supervisor.h"
#include "tests/fuzz/peer.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using door::supervisor::ToMonitor;
using door::supervisor::ToSupervisor;

constexpr std::size_t kMostOperations = 64;

enum Operation : unsigned {
  kRaw,      // descriptors (1 byte), length (1), bytes
  kBegin,    // descriptors (1), restarted (1)
  kStarted,  // descriptors (1), role (1), index (4), process (4)
  kReload,   // descriptors (1)
  kStop,     // descriptors (1)
  kPing,     // descriptors (1)
  kAsk,      // nothing: the monitor asks for everything that it can ask for
  kOperations,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4096) return 0;
  Input input(data, size);
  EventLoop loop;
  auto pair = make_door();
  require(static_cast<bool>(pair), "socketpair");
  Peer peer(std::move(pair->second));
  std::array<unsigned, kOperations> handled{};
  std::optional<monitor::SupervisorDoor> door;
  door.emplace(
      loop, std::move(pair->first),
      monitor::SupervisorDoor::Handlers{
          .begin = [&](const ToMonitor::Begin&, std::vector<UniqueFd>) { ++handled[kBegin]; },
          .started =
              [&](const ToMonitor::Started&, UniqueFd one, UniqueFd other) {
                require(one && other, "a process comes with its two descriptors");
                ++handled[kStarted];
              },
          .reload = [&](std::uint64_t) { ++handled[kReload]; },
          .stop = [&] { ++handled[kStop]; }});
  for (std::size_t i = 0; i < kMostOperations && !input.empty(); ++i) {
    const unsigned operation = input.below(kOperations);
    if (operation == kAsk) {
      door->start(door::supervisor::NETWORKER, 0);
      door->restart(door::supervisor::BUS_AGENT, 0, 1, true);
      door->serves(door::supervisor::NETWORKER, 0, 1);
      door->keep({peer.fd()}, false, "[DEFAULT]\n");
      door->listen(1);
      door->status_text("status");
      door->ready("1:2", false, {});
      door->reloaded(1, false, {"problem", std::string(20000, 'x')});
      peer.receive([](std::string_view) {});
      continue;
    }
    const std::vector<int> descriptors(input.below(Peer::kMostDescriptors + 1), peer.fd());
    ToMonitor message;
    std::string raw;
    if (operation == kRaw) raw = input.sized(1);
    if (operation == kBegin) message.mutable_begin()->set_restarted(input.flag());
    if (operation == kStarted) {
      message.mutable_started()->set_role(static_cast<door::supervisor::Role>(input.byte()));
      message.mutable_started()->set_index(static_cast<std::uint32_t>(input.number(4)));
      message.mutable_started()->set_pid(static_cast<pid_t>(input.number(4)));
    }
    if (operation == kReload) message.mutable_reload();
    if (operation == kStop) message.mutable_stop();
    if (operation == kPing) message.mutable_ping();
    const auto before = handled;
    peer.send(operation == kRaw ? raw : message.SerializeAsString(), descriptors);
    for (int round = 0; round < 2; ++round) loop.run_once(Milliseconds(0));
    unsigned events = 0;
    for (std::size_t kind = 0; kind < kOperations; ++kind) events += handled[kind] - before[kind];
    unsigned pongs = 0;
    peer.receive([&](std::string_view bytes) {
      ToSupervisor answer;
      require(
          answer.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) && answer.has_pong(),
          "only a question is answered");
      ++pongs;
    });
    // A datagram that is no message ends the door, and then nothing more is heard.
    require(events + pongs <= 1, "a message is handled once");
    if (operation == kStarted && events == 1 && handled[kStop] == 0) {
      require(descriptors.size() == 2 && handled[kStarted] == before[kStarted] + 1,
              "a process that comes otherwise stops the monitor");
    }
  }
  door.reset();
  peer.hang_up();
  require_descriptors();
  return 0;
}
