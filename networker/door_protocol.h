// SPDX-License-Identifier: GPL-3.0-or-later
// What connections say to the monitor, and when it is heard.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/channel.h"
#include "common/event_loop.h"
#include "networker/outbox.h"

namespace mandos::networker {

/// The messages of proto/networker.proto about connections, in the order and number that the
/// monitor's table of the door allows.
class DoorProtocol {
 public:
  /// References must outlive this.
  DoorProtocol(EventLoop& loop, Door& door) : door_(door), outbox_(loop, door) {}

  /// The monitor has not read all yet: no more connections should be begun.
  bool is_behind() const { return !door_.drained(); }
  /// Call before input of a connection is handled. Now and then it handles the monitor's answers,
  /// which in a rush would queue up behind everybody's requests.
  void let_speak();

  /// Requests a nonce for the connection `number`.
  void open(std::uint32_t number);
  /// Asks for the client's secret and, if there is a `spare`, for a nonce for that number.
  void prove(std::uint32_t number, std::string transcript, const std::string& address,
             std::optional<std::uint32_t> spare);
  /// Requests the next part of the secret.
  void next_part(std::uint32_t number);
  /// A connection that the monitor knows has ended. This goes with the next message, or a hundredth
  /// of a second later.
  void closed(std::uint32_t number, bool delivered);

 private:
  Door& door_;
  Outbox outbox_;
  int asked_ = 0;  // Opens and Proofs since the monitor was last let speak
  int heard_ = 0;  // connections, since then
};

}  // namespace mandos::networker
