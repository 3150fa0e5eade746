// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/frame.h"

#include <gio/gio.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "bus-agent/callers.h"

namespace mandos::bus_agent {
namespace {

using Bytes = std::vector<unsigned char>;

/// As a bus daemon would hand it on.
Bytes call(GVariant* body, GDBusMessageByteOrder order = G_DBUS_MESSAGE_BYTE_ORDER_LITTLE_ENDIAN,
           const char* path = "/clients/one") {
  const Message message(g_dbus_message_new_method_call("se.recompile.Mandos", path,
                                                       "org.freedesktop.DBus.Properties", "Set"));
  g_dbus_message_set_sender(message.get(), ":1.7");
  g_dbus_message_set_serial(message.get(), 77);
  g_dbus_message_set_byte_order(message.get(), order);
  if (body != nullptr) g_dbus_message_set_body(message.get(), body);
  gsize size = 0;
  guchar* blob =
      g_dbus_message_to_blob(message.get(), &size, G_DBUS_CAPABILITY_FLAGS_NONE, nullptr);
  Bytes bytes(blob, blob + size);
  g_free(blob);
  return bytes;
}

GVariant* set(const char* property, GVariant* value) {
  return g_variant_new("(ssv)", "se.recompile.Mandos.Client", property, value);
}

bool take(Bytes& message, SecretBytes& secret) {
  const auto head = read_head(message);
  if (!head || head->size != message.size()) return false;
  const auto fields = read_fields(*head, message);
  return fields && take_secret(*head, *fields, message, secret);
}

constexpr GDBusMessageByteOrder kOrders[] = {G_DBUS_MESSAGE_BYTE_ORDER_LITTLE_ENDIAN,
                                             G_DBUS_MESSAGE_BYTE_ORDER_BIG_ENDIAN};

TEST(Frame, TellsHowLongAMessageIsFromItsFirstBytes) {
  for (const auto order : kOrders) {
    const Bytes message = call(set("Host", g_variant_new_string("x")), order);
    const auto head = read_head(std::span(message).first(kHeadSize));
    ASSERT_TRUE(head);
    EXPECT_EQ(head->size, message.size());
    EXPECT_EQ(head->serial, 77U);
    EXPECT_TRUE(head->wants_answer);
    const auto fields = read_fields(*head, message);
    ASSERT_TRUE(fields);
    EXPECT_EQ(fields->sender, ":1.7");
    EXPECT_EQ(fields->signature, "ssv");
  }
}

TEST(Frame, WhatIsNoMessageIsNone) {
  Bytes message = call(nullptr);
  EXPECT_FALSE(read_head(std::span(message).first(kHeadSize - 1)));
  message[3] = 2;  // another protocol
  EXPECT_FALSE(read_head(message));
  message = call(nullptr);
  message[0] = 'x';
  EXPECT_FALSE(read_head(message));
  message = call(nullptr);
  message[7] = 0x10;  // a body of 256 MiB
  EXPECT_FALSE(read_head(message));
}

TEST(Frame, ASecretIsTakenAndZerosAreLeft) {
  const std::string text = "the secret of a client";
  for (const auto order : kOrders) {
    Bytes message = call(
        set("Secret", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, text.data(), text.size(), 1)),
        order);
    const std::size_t size = message.size();
    SecretBytes secret;
    ASSERT_TRUE(take(message, secret));
    EXPECT_TRUE(secret.valid);
    EXPECT_EQ(std::string(secret.bytes.begin(), secret.bytes.end()), text);
    ASSERT_EQ(message.size(), size);
    EXPECT_EQ(std::string(message.begin(), message.end()).find("secret of"), std::string::npos);
    // GLib still reads it.
    GError* error = nullptr;
    const Message parsed(g_dbus_message_new_from_blob(message.data(), message.size(),
                                                      G_DBUS_CAPABILITY_FLAGS_NONE, &error));
    ASSERT_NE(parsed, nullptr) << error->message;
    EXPECT_STREQ(g_dbus_message_get_signature(parsed.get()), "ssv");
  }
}

TEST(Frame, ASecretOfIntegersIsTakenAsBytes) {
  for (const char* type : {"y", "b", "n", "q", "i", "u", "x", "t"}) {
    for (const auto order : kOrders) {
      GVariantBuilder numbers;
      const std::string array = std::string("a") + type;
      g_variant_builder_init(&numbers, G_VARIANT_TYPE(array.c_str()));
      for (const int number : {1, 0, 1}) g_variant_builder_add(&numbers, type, number, 0);
      Bytes message = call(set("Secret", g_variant_builder_end(&numbers)), order);
      SecretBytes secret;
      ASSERT_TRUE(take(message, secret)) << type;
      EXPECT_TRUE(secret.valid);
      EXPECT_EQ(secret.bytes, (Bytes{1, 0, 1})) << type;
    }
  }
  for (const int number : {256, -1}) {
    const gint32 numbers[] = {7, number};
    Bytes message =
        call(set("Secret", g_variant_new_fixed_array(G_VARIANT_TYPE_INT32, numbers, 2, 4)));
    SecretBytes secret;
    EXPECT_TRUE(take(message, secret));
    EXPECT_FALSE(secret.valid) << number;
  }
}

TEST(Frame, NothingElseIsTaken) {
  for (GVariant* body :
       {set("Host", g_variant_new_bytestring("x")), set("Secret", g_variant_new_string("text")),
        set("Secret", g_variant_new_double(1)), g_variant_new("(ss)", "a", "Secret"),
        set("Secret", g_variant_new_strv(nullptr, 0)),
        g_variant_new("(sv)", "Secret", g_variant_new_bytestring("x"))}) {
    Bytes message = call(body);
    const Bytes before = message;
    SecretBytes secret;
    EXPECT_FALSE(take(message, secret));
    EXPECT_EQ(message, before);
  }
}

TEST(Frame, ASenderIsFoundInAHeaderThatComesInPieces) {
  for (const auto order : kOrders) {
    const Bytes message = call(set("Host", g_variant_new_string("x")), order);
    const auto head = read_head(message);
    ASSERT_TRUE(head);
    const auto header = std::span(message).first(head->body_at).subspan(kHeadSize);
    for (std::size_t size = 1; size <= header.size(); ++size) {
      SenderSearch search(*head);
      for (auto rest = header; !rest.empty(); rest = rest.subspan(std::min(size, rest.size()))) {
        search.feed(rest.first(std::min(size, rest.size())));
      }
      EXPECT_EQ(search.sender(), ":1.7") << size;
    }
    Bytes other = message;
    other[kHeadSize + 2] = 'v';  // of a type that no field has
    SenderSearch search(*head);
    search.feed(std::span(other).first(head->body_at).subspan(kHeadSize));
    EXPECT_EQ(search.sender(), "");
  }
}

// The daemon checks what it hands on; nothing here relies on that.
TEST(Frame, DamagedBytesAreReadWithinTheirBounds) {
  std::mt19937 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same every time
  const Bytes whole = call(set("Secret", g_variant_new_bytestring("a secret of some length")));
  for (int round = 0; round < 20000; ++round) {
    Bytes message(whole.begin(), whole.begin() + static_cast<long>(random() % whole.size() + 1));
    for (unsigned i = 0; i < random() % 4; ++i) {
      message[random() % message.size()] = static_cast<unsigned char>(random());
    }
    const auto head = read_head(message);
    if (!head || head->body_at > message.size()) continue;
    const auto fields = read_fields(*head, std::span(message).first(head->body_at));
    if (!fields) continue;
    SecretBytes secret;
    if (take_secret(*head, *fields, message, secret)) {
      EXPECT_LE(secret.bytes.size(), message.size());
    }
  }
}

}  // namespace
}  // namespace mandos::bus_agent
