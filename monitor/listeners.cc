// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/listeners.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/inspection.h"
#include "proto/networker.h"

namespace mandos::monitor {
namespace {

constexpr int kFirstListenFd = 3;  // SD_LISTEN_FDS_START
constexpr unsigned kLoopback = 1;  // LOOPBACK_IFINDEX: the same in all network namespaces

Result<UniqueFd> adopt(int fd, bool served) {
  const int inherited = fd <= STDERR_FILENO ? inspection::kMovedSockets + fd : fd;
  int protocol = 0;
  socklen_t size = sizeof protocol;
  if (getsockopt(inherited, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0) {
    return errno_error(errno, "descriptor ", fd);
  }
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP) {
    return Error{concat("descriptor ", fd, ": not a TCP socket")};
  }
  UniqueFd socket(fcntl(inherited, F_DUPFD_CLOEXEC, 0));
  if (!socket || (served && (listen(socket.get(), SOMAXCONN) != 0 ||
                             fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0))) {
    return errno_error(errno, "descriptor ", fd);
  }
  return socket;
}

/// Returns the errno value of the failure, or 0 and sets `out`.
int open_new(int family, const Settings& settings, unsigned index, bool served, UniqueFd& out) {
  const auto address = address_of(settings);
  UniqueFd listener(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno;
  const auto set = [&listener](int level, int option, int value) {
    return setsockopt(listener.get(), level, option, &value, sizeof value) == 0;
  };
  set(SOL_SOCKET, SO_REUSEADDR, 1);
  // IPv4 clients appear with mapped addresses, RFC 4291 section 2.5.5.2.
  if (family == AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, 0);
  // It is not an error if the address does not exist yet, or disappears and comes back.
  set(family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP,
      family == AF_INET6 ? IPV6_FREEBIND : IP_FREEBIND, 1);
  // bind(2) needs an interface that exists: until ours does, use the loopback interface.
  const unsigned device = index != 0 ? index : kLoopback;
  const bool bound = !interface_of(settings).empty();
  if (bound && !set(SOL_SOCKET, SO_BINDTOIFINDEX, static_cast<int>(device))) return errno;
  const sockaddr_in6 ipv6{
      .sin6_family = AF_INET6,
      .sin6_port = htons(settings.port),
      .sin6_flowinfo = 0,
      .sin6_addr = address.value_or(in6addr_any),
      .sin6_scope_id = address && IN6_IS_ADDR_LINKLOCAL(&*address) ? device : 0};
  sockaddr_in ipv4{
      .sin_family = AF_INET, .sin_port = ipv6.sin6_port, .sin_addr = {}, .sin_zero = {}};
  std::memcpy(&ipv4.sin_addr, &ipv6.sin6_addr.s6_addr[12], sizeof ipv4.sin_addr);
  const auto* place = family == AF_INET6 ? reinterpret_cast<const sockaddr*>(&ipv6)
                                         : reinterpret_cast<const sockaddr*>(&ipv4);
  if (bind(listener.get(), place, family == AF_INET6 ? sizeof ipv6 : sizeof ipv4) != 0) {
    return errno;
  }
  // If this fails for lack of CAP_NET_RAW, loopback connections are possible in the meantime.
  if (bound && index == 0) set(SOL_SOCKET, SO_BINDTOIFINDEX, kNoInterface);
  if (served && listen(listener.get(), SOMAXCONN) != 0) return errno;
  out = std::move(listener);
  return 0;
}

}  // namespace

std::optional<in6_addr> address_of(const Settings& settings) {
  const std::string literal = settings.address.substr(0, settings.address.find('%'));
  in6_addr address{};
  if (inet_pton(AF_INET6, literal.c_str(), &address) != 1) {
    address = in6_addr{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}}};
    if (inet_pton(AF_INET, literal.c_str(), &address.s6_addr[12]) != 1) return std::nullopt;
  }
  const bool any = IN6_IS_ADDR_UNSPECIFIED(&address) || literal == "0.0.0.0";
  return any ? std::nullopt : std::optional(address);
}

std::string interface_of(const Settings& settings) {
  const auto percent = settings.address.find('%');
  if (!settings.interface.empty() || percent == settings.address.npos) return settings.interface;
  std::string zone = settings.address.substr(percent + 1);
  unsigned index = 0;
  std::array<char, IFNAMSIZ> name{};
  if (!parse_number(std::string_view(zone), index) || if_indextoname(index, name.data()) == nullptr)
    return zone;
  return name.data();
}

bool are_inherited(const Settings& settings) {
  return settings.socket >= 0 || std::getenv("LISTEN_FDS") != nullptr;
}

Result<Listeners> open_listeners(const Settings& settings, unsigned index,
                                 std::vector<std::string>& warnings, bool served) {
  std::vector<int> given;
  if (settings.socket >= 0) {
    given.push_back(settings.socket);
  } else if (const char* text = std::getenv("LISTEN_FDS"); text != nullptr) {
    unsigned count = 0;
    if (!parse_number(std::string_view(text), count) || count < 1 ||
        count > door::networker::kMostListeners) {
      return Error{concat("LISTEN_FDS is \"", escaped(text), "\", not a number from 1 to ",
                          door::networker::kMostListeners)};
    }
    for (unsigned i = 0; i < count; ++i) given.push_back(kFirstListenFd + static_cast<int>(i));
  }
  Listeners listeners{.sockets = {}, .inherited = !given.empty()};
  for (const int fd : given) {
    auto adopted = adopt(fd, served);
    if (!adopted) return Error{concat(settings.place("socket"), adopted.error())};
    listeners.sockets.push_back(std::move(*adopted));
  }
  if (listeners.inherited) return listeners;
  UniqueFd listener;
  int failed = open_new(settings.use_ipv6 ? AF_INET6 : AF_INET, settings, index, served, listener);
  const bool no_ipv6 = settings.use_ipv6 && (failed == EAFNOSUPPORT || failed == EADDRNOTAVAIL);
  const auto address = address_of(settings);
  if (no_ipv6 && (!address || IN6_IS_ADDR_V4MAPPED(&*address))) {
    warnings.push_back(errno_error(failed, "no IPv6 on this system, serving IPv4 alone").text);
    failed = open_new(AF_INET, settings, index, served, listener);
  }
  if (failed != 0) {
    return errno_error(
        failed, settings.place("port"), "cannot listen on port ", settings.port,
        settings.address.empty() ? "" : concat(" of address ", escaped(settings.address)),
        no_ipv6                ? ": no IPv6 on this system"
        : failed == EADDRINUSE ? ": another program has it (ss -tlnp shows which)"
                               : "");
  }
  listeners.sockets.push_back(std::move(listener));
  return listeners;
}

Families families_of(const std::vector<UniqueFd>& listeners) {
  Families families;
  for (const auto& listener : listeners) {
    sockaddr_in6 address{};
    socklen_t size = sizeof address;
    if (getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) continue;
    // The port is at the same place in both families.
    if (families.port == 0) families.port = ntohs(address.sin6_port);
    int only = 0;
    size = sizeof only;
    getsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, &size);
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&address.sin6_addr);
    const bool any = IN6_IS_ADDR_UNSPECIFIED(&address.sin6_addr) && only == 0;
    families.ipv4 |= address.sin6_family == AF_INET || mapped || any;
    families.ipv6 |= address.sin6_family == AF_INET6 && !mapped;
  }
  return families;
}

}  // namespace mandos::monitor
