// SPDX-License-Identifier: GPL-3.0-or-later
// Networks whose peers are never punished: source_penalty_exempt in mandos.conf.
#pragma once

#include <sys/socket.h>

#include <array>
#include <utility>
#include <vector>

#include "networker/source.h"

namespace mandos::networker {

class Exemptions {
 public:
  /// An address, IPv4 as mapped into IPv6, and how many of its bits count. An IPv4 network has at
  /// least the 96 that all mapped addresses have in common; one of fewer bits is of IPv6 alone.
  struct Network {
    std::array<unsigned char, 16> address{};
    unsigned bits = 128;
  };
  /// Most that the monitor may give.
  static constexpr int kMost = 64;

  Exemptions() = default;
  explicit Exemptions(std::vector<Network> networks) : networks_(std::move(networks)) {}

  /// Whether the peer at `address` is exempt, whatever its source.
  bool cover(const sockaddr_storage& address) const;
  /// Whether all peers of `source` are.
  bool cover(const Source& source) const;

 private:
  bool cover(const std::array<unsigned char, 16>& address, unsigned bits) const;

  std::vector<Network> networks_;
};

}  // namespace mandos::networker
