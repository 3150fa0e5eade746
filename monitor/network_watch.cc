// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/network_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mandos::monitor {
namespace {

// A network that changes all the time must not keep the monitor from serving others.
constexpr int kMostNotifications = 256;

template <class Body, std::size_t Size>
struct Attribute {
  rtattr header;
  std::array<Body, Size> body;
};
// rtnetlink(7): which interface has this name?
struct LinkQuestion {
  ifinfomsg link;
  Attribute<char, IFNAMSIZ> name;
};
// Where does a packet to this address go? If the address is ours, it is local (RTN_LOCAL).
struct RouteQuestion {
  rtmsg route;
  Attribute<std::uint32_t, 1> interface;
  Attribute<std::uint8_t, sizeof(in6_addr)> destination;
};

}  // namespace

Result<NetworkWatch> NetworkWatch::open(std::string interface, std::optional<in6_addr> address) {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl us{
      .nl_family = AF_NETLINK,
      .nl_pad = 0,
      .nl_pid = 0,
      .nl_groups = RTMGRP_LINK | (address ? RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR : 0U)};
  socklen_t size = sizeof us;
  if (!socket || bind(socket.get(), reinterpret_cast<const sockaddr*>(&us), size) != 0 ||
      getsockname(socket.get(), reinterpret_cast<sockaddr*>(&us), &size) != 0) {
    return errno_error(errno, "netlink socket");
  }
  return NetworkWatch(std::move(socket), us.nl_pid, std::move(interface), address);
}

void NetworkWatch::drain() const {
  std::array<char, 16> buffer{};
  for (int i = 0; i < kMostNotifications; ++i) {
    if (recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) < 0 && errno != ENOBUFS) {
      return;
    }
  }
}

template <class Answer, class Question>
bool NetworkWatch::ask(std::uint16_t type, const Question& question, std::optional<Answer>& answer,
                       std::size_t unused) {
  struct {
    nlmsghdr header;
    Question question;
  } message{{.nlmsg_len = static_cast<std::uint32_t>(sizeof message - unused),
             .nlmsg_type = type,
             .nlmsg_flags = NLM_F_REQUEST,
             .nlmsg_seq = ++serial_,
             .nlmsg_pid = port_},
            question};
  const sockaddr_nl kernel{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  if (sendto(socket_.get(), &message, message.header.nlmsg_len, MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel) < 0) {
    return false;
  }
  // The answer comes after notifications. Only its fixed part is needed.
  for (int i = 0; i < kMostNotifications; ++i) {
    struct {
      nlmsghdr header;
      Answer answer;
    } received{};
    sockaddr_nl sender{};
    socklen_t size = sizeof sender;
    const ssize_t got = recvfrom(socket_.get(), &received, sizeof received, MSG_DONTWAIT,
                                 reinterpret_cast<sockaddr*>(&sender), &size);
    if (got < 0 && errno != ENOBUFS) return false;
    if (got != sizeof received || sender.nl_pid != 0 || received.header.nlmsg_seq != serial_ ||
        received.header.nlmsg_pid != port_) {
      continue;
    }
    if (received.header.nlmsg_type != NLMSG_ERROR) answer = received.answer;
    return true;
  }
  return false;
}

std::optional<NetworkWatch::View> NetworkWatch::look() {
  drain();
  View view{.index = 0, .address_exists = !address_};
  if (!interface_.empty()) {
    LinkQuestion question{.link = {},
                          .name = {.header = {sizeof question.name, IFLA_IFNAME}, .body = {}}};
    interface_.copy(question.name.body.data(), IFNAMSIZ - 1);
    std::optional<ifinfomsg> link;
    if (!ask(RTM_GETLINK, question, link)) return std::nullopt;
    view.index = link ? static_cast<unsigned>(link->ifi_index) : 0;
  }
  // If the interface does not exist, its address need not be looked up.
  if (address_ && (interface_.empty() || view.index != 0)) {
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&*address_);
    RouteQuestion question{};
    const std::size_t size = mapped ? sizeof(in_addr) : sizeof(in6_addr);
    question.route.rtm_family = mapped ? AF_INET : AF_INET6;
    question.route.rtm_dst_len = static_cast<unsigned char>(size * 8);
    question.destination.header = {
        static_cast<unsigned short>(sizeof question.destination.header + size), RTA_DST};
    std::memcpy(question.destination.body.data(), &address_->s6_addr[sizeof(in6_addr) - size],
                size);
    const bool link_local = IN6_IS_ADDR_LINKLOCAL(&*address_);
    question.interface.header = {sizeof question.interface, RTA_OIF};
    question.interface.body = {link_local ? view.index : 0};
    std::optional<rtmsg> route;
    if (!ask(RTM_GETROUTE, question, route, sizeof(in6_addr) - size)) return std::nullopt;
    view.address_exists = route && route->rtm_type == RTN_LOCAL;
  }
  return view;
}

}  // namespace mandos::monitor
