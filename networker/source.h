// SPDX-License-Identifier: GPL-3.0-or-later
// Where a connection comes from: as a key to count by, and as text to show.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>

namespace mandos::networker {

/// What counts as one peer. An IPv4 address, also when mapped into IPv6 (RFC 4291 section 2.5.5.2),
/// is one. Of an IPv6 address the first 64 bits are one, since a host has all the rest to choose
/// from; but loopback counts whole, and link-local addresses (fe80::/10) count whole and with their
/// interface, because all of a link's hosts share those 64 bits.
struct Source {
  std::array<unsigned char, 16> address{};
  std::uint32_t scope = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes the 0 in it for a null pointer
  auto operator<=>(const Source&) const = default;
};
/// Addresses of other families are all one source.
Source source_of(const sockaddr_storage& address);

/// Whether that is one address, and not a /64 network.
bool is_whole(const Source& source);

/// Both IP families in one form: IPv4 as mapped. Nothing for other families.
std::optional<sockaddr_in6> as_ipv6(const sockaddr_storage& address);

/// The IP address without port, a mapped IPv4 address as IPv4, "%" and the interface's index behind
/// an address that has a scope. "unknown" for other families.
std::string address_text(const sockaddr_storage& address);
/// The same of a source; "/64" behind one that is so many addresses.
std::string source_text(const Source& source);

}  // namespace mandos::networker
