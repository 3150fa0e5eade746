// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/exemptions.h"

#include <algorithm>
#include <cstddef>

namespace mandos::networker {
namespace {

constexpr unsigned kMappedBits = 96;
constexpr std::array<unsigned char, 16> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool same(const std::array<unsigned char, 16>& one, const std::array<unsigned char, 16>& other,
          unsigned bits) {
  const std::size_t whole = bits / 8;
  if (!std::equal(one.begin(), one.begin() + static_cast<std::ptrdiff_t>(whole), other.begin())) {
    return false;
  }
  if (bits % 8 == 0) return true;
  return (one.at(whole) ^ other.at(whole)) >> (8 - bits % 8) == 0;
}

}  // namespace

bool Exemptions::cover(const std::array<unsigned char, 16>& address, unsigned bits) const {
  const bool mapped = same(address, kMapped, kMappedBits);
  return std::ranges::any_of(networks_, [&](const Network& network) {
    return network.bits <= bits &&
           mapped == (network.bits >= kMappedBits && same(network.address, kMapped, kMappedBits)) &&
           same(network.address, address, network.bits);
  });
}

bool Exemptions::cover(const sockaddr_storage& address) const {
  const auto ipv6 = as_ipv6(address);
  if (!ipv6) return false;
  std::array<unsigned char, 16> bytes{};
  std::ranges::copy(ipv6->sin6_addr.s6_addr, bytes.begin());
  return cover(bytes, 128);
}

bool Exemptions::cover(const Source& source) const {
  return cover(source.address, is_whole(source) ? 128 : 64);
}

}  // namespace mandos::networker
