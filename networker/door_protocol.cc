// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/door_protocol.h"

#include <utility>

#include "networker.pb.h"

namespace mandos::networker {
namespace {

using door::networker::ToMonitor;

// Opens and Proofs that are sent before the monitor's answers are handled, which brings twice as
// many.
constexpr int kMostAsked = 8;
// Connections that are handled before the monitor's messages are: a Ping must not wait for
// thousands.
constexpr int kMostHeard = 256;

ToMonitor message_about(std::uint32_t number) {
  ToMonitor message;
  message.set_connection(number);
  return message;
}

}  // namespace

void DoorProtocol::let_speak() {
  if (asked_ < kMostAsked && ++heard_ < kMostHeard) return;
  asked_ = heard_ = 0;
  door_.serve();
}

void DoorProtocol::open(std::uint32_t number) {
  auto message = message_about(number);
  message.mutable_open();
  outbox_.send(message);
  ++asked_;
}

void DoorProtocol::prove(std::uint32_t number, std::string transcript, const std::string& address,
                         std::optional<std::uint32_t> spare) {
  auto message = message_about(number);
  message.mutable_proof()->set_transcript(std::move(transcript));
  message.mutable_proof()->set_address(address);
  if (spare) {
    // The monitor has to be woken anyway.
    outbox_.add(message);
    open(*spare);
  } else {
    outbox_.send(message);
    ++asked_;
  }
}

void DoorProtocol::next_part(std::uint32_t number) {
  auto message = message_about(number);
  message.mutable_next_part();
  outbox_.send(message);
}

void DoorProtocol::closed(std::uint32_t number, bool delivered) {
  auto message = message_about(number);
  message.mutable_closed()->set_delivered(delivered);
  outbox_.add(message);
}

}  // namespace mandos::networker
