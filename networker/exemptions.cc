// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/exemptions.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>

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

/// Nothing if `text` is not an address with an optional "/BITS", or has bits set after those.
std::optional<Exemptions::Network> parse_network(const std::string& text) {
  const auto slash = text.find('/');
  const std::string literal = text.substr(0, slash);
  Exemptions::Network network;
  auto* const bytes = network.address.data();
  const bool ipv6 = inet_pton(AF_INET6, literal.c_str(), bytes) == 1;
  if (!ipv6) {
    bytes[10] = bytes[11] = 0xff;
    if (inet_pton(AF_INET, literal.c_str(), bytes + 12) != 1) return std::nullopt;
  }
  const unsigned most = ipv6 ? 128 : 32;
  unsigned bits = most;
  if (slash != text.npos && !parse_number(text.substr(slash + 1), bits)) return std::nullopt;
  if (bits > most) return std::nullopt;
  network.bits = 128 - most + bits;
  for (unsigned bit = network.bits; bit < 128; ++bit) {
    if ((bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) return std::nullopt;
  }
  return network;
}

}  // namespace

Result<Exemptions> Exemptions::parse(std::string_view text) {
  std::vector<Network> networks;
  for (;;) {
    const auto begin = text.find_first_not_of(", \t\n");
    if (begin == text.npos) return Exemptions(std::move(networks));
    text.remove_prefix(begin);
    const std::string word(text.substr(0, text.find_first_of(", \t\n")));
    text.remove_prefix(word.size());
    const auto network = parse_network(word);
    if (!network || networks.size() == kMost) {
      return Error{concat("found '", std::string_view(word).substr(0, 60), "', expected at most ",
                          kMost, " networks such as 192.0.2.0/24 or 2001:db8::/32",
                          network ? "; it is one too many" : "")};
    }
    networks.push_back(*network);
  }
}

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
