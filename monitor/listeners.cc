// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/listeners.h"

#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace mandos::monitor {
namespace {

constexpr int kFirstListenFd = 3;  // SD_LISTEN_FDS_START
constexpr int kMostListenFds = 16;

Result<UniqueFd> adopt(int fd) {
  int type = 0;
  int family = 0;
  socklen_t size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    return errno_error(errno, "descriptor ", fd);
  }
  size = sizeof family;
  getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
  if (type != SOCK_STREAM || (family != AF_INET && family != AF_INET6)) {
    return Error{concat("descriptor ", fd, ": not a TCP socket")};
  }
  UniqueFd socket(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!socket) return errno_error(errno, "descriptor ", fd);
  close(fd);
  if (listen(socket.get(), SOMAXCONN) != 0)
    return errno_error(errno, "descriptor ", fd, ": listen");
  if (fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) return errno_error(errno, "descriptor ", fd);
  return socket;
}

Result<UniqueFd> open_new(const Settings& settings, std::vector<std::string>& warnings) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_family = settings.use_ipv6 ? AF_INET6 : AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(settings.address.empty() ? nullptr : settings.address.c_str(),
                                     std::to_string(settings.port).c_str(), &hints, &found);
      failed != 0) {
    return Error{concat("address ", settings.address, ": ", gai_strerror(failed))};
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &freeaddrinfo);
  if (found->ai_family == AF_INET6) {
    auto& address = *reinterpret_cast<sockaddr_in6*>(found->ai_addr);
    if (IN6_IS_ADDR_LINKLOCAL(&address.sin6_addr) && address.sin6_scope_id == 0) {
      address.sin6_scope_id = if_nametoindex(settings.interface.c_str());
    }
  }
  UniqueFd listener(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno_error(errno, "socket");
  const int on = 1;
  const int off = 0;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // IPv4 clients come in as mapped addresses, RFC 4291 section 2.5.5.2.
  if (found->ai_family == AF_INET6) {
    setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (!settings.interface.empty() &&
      setsockopt(listener.get(), SOL_SOCKET, SO_BINDTODEVICE, settings.interface.data(),
                 static_cast<socklen_t>(settings.interface.size())) != 0) {
    warnings.push_back(
        errno_error(errno, "cannot bind to the interface ", settings.interface).text);
  }
  if (bind(listener.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0) {
    return errno_error(errno, "cannot listen on address \"", settings.address, "\" port ",
                       settings.port);
  }
  return listener;
}

}  // namespace

Result<std::vector<UniqueFd>> open_listeners(const Settings& settings, std::vector<UniqueFd> kept,
                                             std::vector<std::string>& warnings) {
  if (!kept.empty()) return kept;
  std::vector<int> given;
  if (settings.socket >= 0) {
    given.push_back(settings.socket);
  } else if (const char* text = std::getenv("LISTEN_FDS"); text != nullptr) {
    int count = 0;
    if (!parse_number(std::string_view(text), count) || count < 1 || count > kMostListenFds) {
      return Error{
          concat("LISTEN_FDS is \"", escaped(text), "\", not a number from 1 to ", kMostListenFds)};
    }
    for (int i = 0; i < count; ++i) given.push_back(kFirstListenFd + i);
  }
  std::vector<UniqueFd> listeners;
  for (const int fd : given) {
    auto adopted = adopt(fd);
    if (!adopted) return Error{adopted.error()};
    listeners.push_back(std::move(*adopted));
  }
  if (listeners.empty()) {
    auto opened = open_new(settings, warnings);
    if (!opened) return Error{opened.error()};
    listeners.push_back(std::move(*opened));
  }
  return listeners;
}

void close_inherited() {
  std::vector<int> inherited;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    int fd = -1;
    const std::string name = entry.path().filename();
    if (!parse_number(std::string_view(name), fd) || fd <= STDERR_FILENO) continue;
    if (fcntl(fd, F_GETFD) == 0) inherited.push_back(fd);
  }
  for (const int fd : inherited) close(fd);
}

std::uint16_t port_of(const UniqueFd& listener) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getsockname(listener.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return 0;
  // The port stands at the same place in both families.
  return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
}

}  // namespace mandos::monitor
