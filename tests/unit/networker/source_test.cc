// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/source.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <cstring>

namespace mandos::networker {
namespace {

sockaddr_storage ipv6(const char* text, std::uint32_t scope = 0, std::uint16_t port = 1) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = port;
  address.sin6_scope_id = scope;
  EXPECT_EQ(inet_pton(AF_INET6, text, &address.sin6_addr), 1) << text;
  sockaddr_storage storage{};
  std::memcpy(&storage, &address, sizeof address);
  return storage;
}

sockaddr_storage ipv4(const char* text, std::uint16_t port = 1) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = port;
  EXPECT_EQ(inet_pton(AF_INET, text, &address.sin_addr), 1) << text;
  sockaddr_storage storage{};
  std::memcpy(&storage, &address, sizeof address);
  return storage;
}

bool same(const sockaddr_storage& a, const sockaddr_storage& b) {
  return source_of(a) == source_of(b);
}

TEST(Source, PortDoesNotCount) {
  EXPECT_TRUE(same(ipv4("192.0.2.1", 1), ipv4("192.0.2.1", 2)));
  EXPECT_TRUE(same(ipv6("2001:db8::1", 0, 1), ipv6("2001:db8::1", 0, 2)));
}

TEST(Source, Ipv4IsOneAddressHoweverItComes) {
  EXPECT_FALSE(same(ipv4("192.0.2.1"), ipv4("192.0.2.2")));
  EXPECT_TRUE(same(ipv4("192.0.2.1"), ipv6("::ffff:192.0.2.1")));
  EXPECT_FALSE(same(ipv6("::ffff:192.0.2.1"), ipv6("::ffff:192.0.2.2")));
}

TEST(Source, Ipv6IsItsFirst64Bits) {
  EXPECT_TRUE(same(ipv6("2001:db8::1"), ipv6("2001:db8::ffff:ffff:ffff:ffff")));
  EXPECT_FALSE(same(ipv6("2001:db8::1"), ipv6("2001:db8:0:1::1")));
  EXPECT_TRUE(same(ipv6("fd00::1"), ipv6("fd00::2")));
}

TEST(Source, LinkLocalIsAddressAndInterface) {
  EXPECT_FALSE(same(ipv6("fe80::1", 2), ipv6("fe80::2", 2)));
  EXPECT_FALSE(same(ipv6("fe80::1", 2), ipv6("fe80::1", 3)));
  EXPECT_TRUE(same(ipv6("fe80::1", 2), ipv6("fe80::1", 2)));
}

TEST(Source, LoopbackIsNotAnonymous) {
  EXPECT_FALSE(same(ipv6("::1"), ipv6("::2")));
  EXPECT_FALSE(same(ipv6("::1"), ipv4("0.0.0.0")));
}

TEST(Source, OtherFamiliesAreOneSource) {
  sockaddr_storage other{};
  other.ss_family = AF_UNIX;
  EXPECT_EQ(source_of(other), Source{});
  EXPECT_EQ(address_text(other), "unknown");
}

TEST(Source, AddressAsText) {
  EXPECT_EQ(address_text(ipv4("192.0.2.1")), "192.0.2.1");
  EXPECT_EQ(address_text(ipv6("::ffff:192.0.2.1")), "192.0.2.1");
  EXPECT_EQ(address_text(ipv6("2001:db8::1")), "2001:db8::1");
  EXPECT_EQ(address_text(ipv6("fe80::1", 7)), "fe80::1%7");
  EXPECT_EQ(address_text(ipv6("1111:2222:3333:4444:5555:6666:7777:8888")),
            "1111:2222:3333:4444:5555:6666:7777:8888");
}

TEST(Source, SourceAsText) {
  const auto text = [](const sockaddr_storage& address) { return source_text(source_of(address)); };
  EXPECT_EQ(text(ipv4("192.0.2.1")), "192.0.2.1");
  EXPECT_EQ(text(ipv6("2001:db8::1")), "2001:db8::/64");
  EXPECT_EQ(text(ipv6("fe80::1", 7)), "fe80::1%7");
  EXPECT_EQ(text(ipv6("::1")), "::1");
}

}  // namespace
}  // namespace mandos::networker
