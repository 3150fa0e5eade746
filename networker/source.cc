// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/source.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "common/text.h"

namespace mandos::networker {

std::optional<sockaddr_in6> as_ipv6(const sockaddr_storage& address) {
  sockaddr_in6 ipv6{};
  if (address.ss_family == AF_INET6) {
    std::memcpy(&ipv6, &address, sizeof ipv6);
    return ipv6;
  }
  if (address.ss_family != AF_INET) return std::nullopt;
  sockaddr_in ipv4{};
  std::memcpy(&ipv4, &address, sizeof ipv4);
  ipv6.sin6_addr.s6_addr[10] = 0xff;
  ipv6.sin6_addr.s6_addr[11] = 0xff;
  std::memcpy(&ipv6.sin6_addr.s6_addr[12], &ipv4.sin_addr, sizeof ipv4.sin_addr);
  return ipv6;
}

Source source_of(const sockaddr_storage& address) {
  Source source;
  const auto ipv6 = as_ipv6(address);
  if (!ipv6) return source;
  std::ranges::copy(ipv6->sin6_addr.s6_addr, source.address.begin());
  if (IN6_IS_ADDR_LINKLOCAL(&ipv6->sin6_addr)) {
    source.scope = ipv6->sin6_scope_id;
  } else if (!IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr) && !IN6_IS_ADDR_LOOPBACK(&ipv6->sin6_addr)) {
    std::fill(source.address.begin() + 8, source.address.end(), static_cast<unsigned char>(0));
  }
  return source;
}

bool is_whole(const Source& source) {
  in6_addr address{};
  std::ranges::copy(source.address, address.s6_addr);
  return IN6_IS_ADDR_V4MAPPED(&address) || IN6_IS_ADDR_LOOPBACK(&address) ||
         IN6_IS_ADDR_LINKLOCAL(&address);
}

std::string address_text(const sockaddr_storage& address) {
  const auto ipv6 = as_ipv6(address);
  if (!ipv6) return "unknown";
  const bool mapped = IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr);
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(mapped ? AF_INET : AF_INET6, &ipv6->sin6_addr.s6_addr[mapped ? 12 : 0], text.data(),
            text.size());
  return ipv6->sin6_scope_id == 0 ? text.data() : concat(text.data(), "%", ipv6->sin6_scope_id);
}

std::string source_text(const Source& source) {
  sockaddr_in6 ipv6{};
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_scope_id = source.scope;
  std::ranges::copy(source.address, ipv6.sin6_addr.s6_addr);
  sockaddr_storage address{};
  std::memcpy(&address, &ipv6, sizeof ipv6);
  return concat(address_text(address), is_whole(source) ? "" : "/64");
}

}  // namespace mandos::networker
