// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/wire.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bus-agent/main_loop.h"
#include "bus-agent/outcome.h"

namespace mandos::bus_agent {
namespace {

/// The other end, which the test plays; and what the wire tells.
struct WireTest : testing::Test {
  WireTest() {
    std::string name = "/tmp/mandos-wire-XXXXXX";
    folder = mkdtemp(name.data());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    listener.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    wire = std::move(*Wire::connect(
        path(), {.on_ready = [this] { ready = true; },
                 .on_message = [this](Message message) { messages.push_back(std::move(message)); },
                 .on_drained = [this] { drained = true; },
                 .on_closed = [this](const std::string& why) { closed = why; }}));
    daemon.reset(accept(listener.get(), nullptr, nullptr));
  }
  ~WireTest() override {
    wire.reset();
    std::filesystem::remove_all(folder);
  }
  std::string path() const { return folder + "/bus"; }

  /// Everything that can be done now.
  void turn() {
    while (g_main_context_iteration(nullptr, FALSE)) {
    }
  }
  void say(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(daemon.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
      turn();
      if (!closed.empty()) return;
    }
  }
  std::string heard() {
    turn();
    std::string bytes(1 << 20, '\0');
    const ssize_t size = recv(daemon.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return bytes;
  }
  void greet() {
    const std::string first = heard();
    EXPECT_EQ(first.substr(0, 15), std::string("\0AUTH EXTERNAL ", 15));
    say("OK 0123456789abcdef0123456789abcdef\r\n");
    EXPECT_EQ(heard(), "BEGIN\r\n");
    EXPECT_TRUE(ready);
  }
  /// A message as the daemon would hand it on.
  std::string blob(const char* member, GVariant* body, const std::string& path = "/") {
    const Message message(
        g_dbus_message_new_method_call("se.recompile.Mandos", path.c_str(), nullptr, member));
    g_dbus_message_set_sender(message.get(), ":1.7");
    g_dbus_message_set_serial(message.get(), 77);
    if (body != nullptr) g_dbus_message_set_body(message.get(), body);
    gsize size = 0;
    guchar* bytes =
        g_dbus_message_to_blob(message.get(), &size, G_DBUS_CAPABILITY_FLAGS_NONE, nullptr);
    std::string text(reinterpret_cast<char*>(bytes), size);
    g_free(bytes);
    return text;
  }
  /// The name of the error that the wire itself answers.
  std::string error() {
    std::string bytes = heard();
    if (bytes.empty()) return "";
    const Message reply(g_dbus_message_new_from_blob(reinterpret_cast<guchar*>(bytes.data()),
                                                     bytes.size(), G_DBUS_CAPABILITY_FLAGS_NONE,
                                                     nullptr));
    if (reply == nullptr || g_dbus_message_get_reply_serial(reply.get()) != 77) return "";
    return g_dbus_message_get_error_name(reply.get());
  }

  std::string folder;
  UniqueFd listener;
  UniqueFd daemon;
  std::unique_ptr<Wire> wire;
  bool ready = false;
  bool drained = false;
  std::vector<Message> messages;
  std::string closed;
};

TEST_F(WireTest, MessagesComeInWhateverPieces) {
  greet();
  const std::string both = blob("First", g_variant_new("(s)", "x")) + blob("Second", nullptr);
  for (const char byte : both) say({&byte, 1});
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_STREQ(g_dbus_message_get_member(messages[0].get()), "First");
  EXPECT_STREQ(g_dbus_message_get_member(messages[1].get()), "Second");
  say(both + both);
  EXPECT_EQ(messages.size(), 6U);
}

TEST_F(WireTest, ASecretComesApartFromItsMessage) {
  greet();
  say(blob("Set", g_variant_new("(ssv)", "", "Secret", g_variant_new_bytestring("hidden"))));
  ASSERT_EQ(messages.size(), 1U);
  const SecretBytes* secret = secret_of(messages[0].get());
  ASSERT_NE(secret, nullptr);
  EXPECT_EQ(secret->bytes.size(), 7U);
  const Variant body(g_variant_ref(g_dbus_message_get_body(messages[0].get())));
  const std::string left(static_cast<const char*>(g_variant_get_data(body.get())),
                         g_variant_get_size(body.get()));
  EXPECT_EQ(left.find("hidden"), std::string::npos);
}

TEST_F(WireTest, AMessageThatIsTooLongIsAnsweredAndSkipped) {
  greet();
  const std::string text(5 << 20, 'x');
  say(blob("Long", g_variant_new("(s)", text.c_str())) + blob("Next", nullptr));
  EXPECT_EQ(error(), errors::kLimitsExceeded);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_STREQ(g_dbus_message_get_member(messages[0].get()), "Next");
}

// The header is part of the message, and may be as long.
TEST_F(WireTest, AHeaderThatIsTooLongIsAnsweredAndSkipped) {
  greet();
  const std::string path = "/" + std::string(5 << 20, 'x');
  say(blob("Long", nullptr, path) + blob("Next", nullptr));
  EXPECT_EQ(error(), errors::kLimitsExceeded);
  // With arguments of every length, so that the message ends anywhere in what is read at once.
  const std::string shorter = "/" + std::string(400'000, 'x');
  for (int i = 0; i < 40; ++i) {
    const std::string text(static_cast<std::size_t>(i * 1000), 'y');
    say(blob("Long", g_variant_new("(s)", text.c_str()),
             shorter + std::string(static_cast<std::size_t>(i), 'x')) +
        blob("Next", nullptr));
    EXPECT_EQ(error(), errors::kLimitsExceeded) << i;
  }
  EXPECT_EQ(messages.size(), 41U);
  EXPECT_EQ(closed, "");
}

// A parsed message takes up to a hundred times its length.
TEST_F(WireTest, OnlyASecretMayBeLong) {
  greet();
  const std::string text(1 << 20, 'x');
  const auto bytes = [&text] {
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, text.data(), text.size(), 1);
  };
  say(blob("Text", g_variant_new("(s)", text.c_str())));
  EXPECT_EQ(error(), errors::kLimitsExceeded);
  say(blob("Set", g_variant_new("(ssv)", "", "Host", g_variant_new_string(text.c_str()))));
  EXPECT_EQ(error(), errors::kLimitsExceeded);
  say(blob("Set", g_variant_new("(ssv)", "", "Host", bytes())));
  EXPECT_EQ(error(), errors::kLimitsExceeded);
  say(blob("Set", g_variant_new("(ssv)", text.c_str(), "Secret", g_variant_new_string("x"))));
  EXPECT_EQ(error(), errors::kLimitsExceeded);
  EXPECT_TRUE(messages.empty());
  say(blob("Set", g_variant_new("(ssv)", "", "Secret", bytes())));
  ASSERT_EQ(messages.size(), 1U);
  ASSERT_NE(secret_of(messages[0].get()), nullptr);
  EXPECT_EQ(secret_of(messages[0].get())->bytes.size(), text.size());
  // Not even that without end.
  const std::string endless(5 << 20, 'x');
  say(blob("Set", g_variant_new("(ssv)", "", "Secret",
                                g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, endless.data(),
                                                          endless.size(), 1))));
  EXPECT_EQ(error(), errors::kLimitsExceeded);
  EXPECT_EQ(messages.size(), 1U);
  // What GetConnectionCredentials may answer of a user in as many groups as there can be.
  const std::vector<guint32> groups(65536, 1000);
  say(blob("Groups",
           g_variant_new("(@au)", g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, groups.data(),
                                                            groups.size(), 4))));
  EXPECT_EQ(messages.size(), 2U);
  EXPECT_EQ(closed, "");
}

// "Unknown types must be ignored", D-Bus specification, "Message Format".
TEST_F(WireTest, AMessageOfAnUnknownTypeIsNoReasonToLeave) {
  greet();
  std::string strange = blob("Strange", nullptr);
  strange[1] = 77;
  say(strange + blob("Next", nullptr));
  ASSERT_FALSE(messages.empty());
  EXPECT_STREQ(g_dbus_message_get_member(messages.back().get()), "Next");
  EXPECT_EQ(heard(), "");
  EXPECT_EQ(closed, "");
}

// The daemon closes the connection of a sender of more.
TEST_F(WireTest, WhatIsLongerThanTheBusLetsPassIsNotSent) {
  greet();
  const std::string text(32 << 20, 'x');
  const Message signal(g_dbus_message_new_signal("/", "a.b", "C"));
  g_dbus_message_set_body(signal.get(), g_variant_new("(s)", text.c_str()));
  EXPECT_EQ(wire->send(signal.get()), 0U);
  EXPECT_EQ(wire->queued(), 0U);
}

// They go to the same bus that brings the calls: one who does not read must not fill our memory.
TEST_F(WireTest, RefusalsThatNobodyReadsAreBounded) {
  greet();
  std::string bad = blob("Bad", g_variant_new("(s)", "text"));
  bad[bad.find("text")] = '\xff';
  std::string many;
  for (int i = 0; i < 1000; ++i) many += bad;
  for (int i = 0; i < 20; ++i) say(many);
  EXPECT_GT(wire->queued(), 1U << 20);
  EXPECT_LT(wire->queued(), (1U << 20) + 1024);
  EXPECT_EQ(closed, "");
}

// GLib and the daemon do not agree about everything; a caller must not be able to end our
// connection.
TEST_F(WireTest, AMessageThatGLibDoesNotReadIsAnsweredAndSkipped) {
  greet();
  std::string bad = blob("Bad", g_variant_new("(s)", "text"));
  bad[bad.find("text")] = '\xff';  // no UTF-8
  say(bad + blob("Next", nullptr));
  EXPECT_EQ(error(), errors::kInvalidArgs);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(closed, "");
}

TEST_F(WireTest, WhatIsNoDBusEndsTheConnection) {
  greet();
  say(std::string(64, 'x'));
  EXPECT_NE(closed, "");
}

TEST_F(WireTest, ARefusalEndsTheConnection) {
  heard();
  say("REJECTED EXTERNAL\r\n");
  EXPECT_NE(closed, "");
  EXPECT_FALSE(ready);
}

TEST_F(WireTest, ADaemonThatDoesNotReadKeepsNobody) {
  greet();
  const std::string text(1 << 20, 'x');
  for (int i = 0; i < 8; ++i) {
    const Message signal(g_dbus_message_new_signal("/", "a.b", "C"));
    g_dbus_message_set_body(signal.get(), g_variant_new("(s)", text.c_str()));
    wire->send(signal.get());
  }
  drained = false;
  turn();
  EXPECT_GT(wire->queued(), text.size());
  EXPECT_FALSE(drained);
  std::size_t all = 0;
  while (!drained) all += heard().size();
  all += heard().size();
  EXPECT_EQ(wire->queued(), 0U);
  EXPECT_GT(all, 8 * text.size());
  daemon.reset();
  turn();
  EXPECT_NE(closed, "");
}

}  // namespace
}  // namespace mandos::bus_agent
