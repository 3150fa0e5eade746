// SPDX-License-Identifier: GPL-3.0-or-later
// Networks whose peers are never refused for offenses: source_penalty_exempt in mandos.conf.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "networker/source.h"

namespace mandos::networker {

class Exemptions {
 public:
  /// An address, IPv4 as mapped into IPv6, and how many of its bits count. An IPv4 network has at
  /// least the 96 bits that all mapped addresses share; one with fewer bits is IPv6 only.
  struct Network {
    std::array<unsigned char, 16> address{};
    unsigned bits = 128;
    friend bool operator==(const Network&, const Network&) = default;
  };
  static constexpr std::size_t kMost = 64;
  const std::vector<Network>& networks() const { return networks_; }

  Exemptions() = default;
  /// Parses source_penalty_exempt: addresses with an optional "/BITS", separated by commas and
  /// white space.
  static Result<Exemptions> parse(std::string_view text);
  explicit Exemptions(std::vector<Network> networks) : networks_(std::move(networks)) {}

  /// Whether the peer at `address` is exempt, whatever its source.
  bool cover(const sockaddr_storage& address) const;
  /// Whether all peers of `source` are exempt.
  bool cover(const Source& source) const;

 private:
  bool cover(const std::array<unsigned char, 16>& address, unsigned bits) const;

  std::vector<Network> networks_;
};

}  // namespace mandos::networker
