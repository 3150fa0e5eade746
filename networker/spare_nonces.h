// SPDX-License-Identifier: GPL-3.0-or-later
// Nonces for peers to come. A nonce that is requested together with another peer's proof does not
// wake the monitor a second time. Pure: knows neither the door nor a clock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>

#include "common/clock.h"
#include "proto/networker.h"

namespace mandos::networker {

class SpareNonces {
 public:
  /// A number that the monitor knows already, and its nonce.
  struct Spare {
    std::uint32_t number;
    std::array<unsigned char, door::networker::kNonceSize> nonce;
    Instant requested;
  };
  /// Most that are kept.
  static constexpr std::size_t kMost = door::networker::kMostAhead / 2;

  /// A spare is good for `lifetime` from its request on.
  explicit SpareNonces(Milliseconds lifetime) : lifetime_(lifetime) {}

  /// Whether one more should be requested: they are too few, and none is on its way.
  bool wanted() const { return !requested_ && spares_.size() < kMost; }
  /// A nonce was requested for the connection `number`, which no peer has yet.
  void requested(std::uint32_t number, Instant now) { requested_ = {number, {}, now}; }
  /// The monitor answers the request. False, and no change, if `number` was not requested here.
  bool received(std::uint32_t number, std::span<const unsigned char> nonce);
  /// The oldest one that is still good. `expired` gets the numbers of those that are not, and that
  /// are forgotten with that.
  std::optional<Spare> take(Instant now, const std::function<void(std::uint32_t number)>& expired);

 private:
  const Milliseconds lifetime_;
  std::deque<Spare> spares_;
  std::optional<Spare> requested_;
};

}  // namespace mandos::networker
