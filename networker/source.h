// SPDX-License-Identifier: GPL-3.0-or-later
// Where a connection comes from: as a key for counting, and as text for display.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>

namespace mandos::networker {

/// What counts as one peer: an IPv4 address, even if mapped into IPv6 (RFC 4291 section 2.5.5.2),
/// or the first 64 bits of an IPv6 address, since a host can choose the rest. Loopback addresses
/// count as a whole, and link-local addresses (fe80::/10) as a whole with their interface, because
/// all hosts on a link share those 64 bits.
struct Source {
  std::array<unsigned char, 16> address{};
  std::uint32_t scope = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes the 0 in it for a null pointer
  auto operator<=>(const Source&) const = default;
};
/// Addresses of other families are all the same source.
Source source_of(const sockaddr_storage& address);

/// Whether this is a single address, not a /64 network.
bool is_whole(const Source& source);

/// Both IP families in one form: IPv4 as mapped addresses. Nothing for other families.
std::optional<sockaddr_in6> as_ipv6(const sockaddr_storage& address);

/// The IP address without port, a mapped IPv4 address as IPv4, followed by "%" and the interface's
/// index if the address has a scope. "unknown" for other families.
std::string address_text(const sockaddr_storage& address);
/// The same for a source, followed by "/64" if it is a network.
std::string source_text(const Source& source);

}  // namespace mandos::networker
