// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/callers.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace mandos::bus_agent {
namespace {

Message call(const char* sender, const char* member = "M", gsize size = 0) {
  Message made(g_dbus_message_new_method_call("se.recompile.Mandos", "/", nullptr, member));
  g_dbus_message_set_sender(made.get(), sender);
  if (size > 0) {
    const std::string text(size, 'x');
    g_dbus_message_set_body(made.get(), g_variant_new("(s)", text.c_str()));
  }
  return made;
}

std::string next(Callers& callers) {
  const Message message = callers.next();
  return std::string(g_dbus_message_get_sender(message.get())) +
         g_dbus_message_get_member(message.get());
}

TEST(Callers, AreServedInTurn) {
  Callers callers;
  for (int i = 0; i < 3; ++i) callers.add(call(":1.1"));
  callers.add(call(":1.2"));
  EXPECT_EQ(next(callers), ":1.1M");
  EXPECT_EQ(next(callers), ":1.2M");
  EXPECT_EQ(next(callers), ":1.1M");
  EXPECT_EQ(next(callers), ":1.1M");
  EXPECT_TRUE(callers.idle());
}

TEST(Callers, CallsOfOneKeepTheirOrder) {
  Callers callers;
  callers.add(call(":1.1", "A"));
  callers.add(call(":1.1", "B"));
  Message first = callers.next();
  callers.put_back(std::move(first), false);
  EXPECT_EQ(next(callers), ":1.1A");
  EXPECT_EQ(next(callers), ":1.1B");
}

TEST(Callers, OneThatIsHeldWaitsUntilReleased) {
  Callers callers;
  callers.add(call(":1.1", "A"));
  callers.add(call(":1.1", "B"));
  Message first = callers.next();
  callers.put_back(std::move(first), true);
  callers.add(call(":1.1", "C"));
  EXPECT_TRUE(callers.idle());
  callers.add(call(":1.2"));
  EXPECT_EQ(next(callers), ":1.2M");
  EXPECT_TRUE(callers.idle());
  callers.release(":1.1");
  EXPECT_EQ(next(callers), ":1.1A");
  EXPECT_EQ(next(callers), ":1.1B");
  EXPECT_EQ(next(callers), ":1.1C");
}

TEST(Callers, OneThatHasGoneIsForgotten) {
  Callers callers;
  callers.add(call(":1.1"));
  callers.add(call(":1.1"));
  EXPECT_EQ(callers.drop(":1.1").size(), 2U);
  EXPECT_TRUE(callers.idle());
  EXPECT_TRUE(callers.drop(":1.1").empty());
}

TEST(Shares, BoundWhatOneCallerHasUnanswered) {
  Shares shares;
  constexpr gsize kMebibyte = 1024 * 1024;
  const Message message = call(":1.1", "M", kMebibyte);
  int let_in = 0;
  while (let_in < 1000 && shares.let_in(message.get())) ++let_in;
  // 24 MiB, of which each takes a KiB more than its arguments.
  EXPECT_EQ(let_in, 23);
  // Another has a share of his own.
  EXPECT_TRUE(shares.let_in(call(":1.2").get()));
  EXPECT_FALSE(shares.let_in(message.get()));
  shares.answered(":1.1", weight(message.get()));
  EXPECT_TRUE(shares.let_in(message.get()));
}

TEST(Shares, BoundWhatAllTogetherHaveUnanswered) {
  Shares shares;
  constexpr gsize kMebibyte = 1024 * 1024;
  int let_in = 0;
  for (int caller = 0; caller < 10; ++caller) {
    const Message message = call((":1." + std::to_string(caller)).c_str(), "M", kMebibyte);
    for (int i = 0; i < 20; ++i) let_in += shares.let_in(message.get()) ? 1 : 0;
  }
  EXPECT_EQ(let_in, 95);
  shares.clear();
  EXPECT_TRUE(shares.let_in(call(":1.1", "M", kMebibyte).get()));
}

}  // namespace
}  // namespace mandos::bus_agent
