// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/callers.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstddef>
#include <string>
#include <utility>

#include "bus-agent/outcome.h"
#include "tests/support/sanitized.h"

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
  // 24 MiB, of which each takes some more than its arguments.
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

/// The array `type` with `count` values of `child`, which floats.
GVariant* array_of(const char* type, GVariant* child, int count = 10000) {
  const Variant owned = own(child);
  GVariantBuilder builder;
  g_variant_builder_init(&builder, G_VARIANT_TYPE(type));
  for (int i = 0; i < count; ++i) g_variant_builder_add_value(&builder, owned.get());
  return g_variant_builder_end(&builder);
}

#ifndef MANDOS_SANITIZED  // whose allocator is another
std::size_t in_use() {
  const auto heap = mallinfo2();
  return heap.uordblks + heap.hblkhd;
}

// An empty text is five bytes in a message and 160 in memory.
TEST(Shares, WeighACallByTheMemoryThatItTakes) {
  const auto empty = [](const char* type) {
    return g_variant_new_array(G_VARIANT_TYPE(type), nullptr, 0);
  };
  GVariant* deep = g_variant_new_byte(1);
  for (int i = 0; i < 50; ++i) deep = g_variant_new_variant(deep);
  struct Case {
    const char* what;
    GVariant* body;
  };
  const std::string text(100'000, 'x');
  for (const auto& [what, body] :
       {Case{"no arguments", nullptr}, Case{"s", g_variant_new_string("x")},
        Case{"long s", g_variant_new_string(text.c_str())},
        Case{"as", array_of("as", g_variant_new_string(""))},
        Case{"ag", array_of("ag", g_variant_new_signature(""))},
        Case{"av", array_of("av", g_variant_new_variant(g_variant_new_byte(1)))},
        Case{"aay", array_of("aay", empty("y"))}, Case{"aas", array_of("aas", empty("s"))},
        Case{"ab", array_of("ab", g_variant_new_boolean(TRUE))},
        Case{"a(y)", array_of("a(y)", g_variant_new("(y)", 1))},
        Case{"a{sv}", array_of("a{sv}", g_variant_new("{sv}", "x", g_variant_new_byte(1)))},
        Case{"au", array_of("au", g_variant_new_uint32(1))}, Case{"v", deep}}) {
    Message made = call(":1.1");
    if (body != nullptr) g_dbus_message_set_body(made.get(), g_variant_new_tuple(&body, 1));
    g_dbus_message_set_serial(made.get(), 7);
    gsize size = 0;
    guchar* blob = g_dbus_message_to_blob(made.get(), &size, G_DBUS_CAPABILITY_FLAGS_NONE, nullptr);
    made.reset();
    std::size_t before = 0;
    Message parsed;
    for (int i = 0; i < 2; ++i) {  // GLib keeps what it learns of a type
      parsed.reset();
      before = in_use();
      parsed.reset(g_dbus_message_new_from_blob(blob, size, G_DBUS_CAPABILITY_FLAGS_NONE, nullptr));
    }
    const std::size_t taken = in_use() - before;
    g_free(blob);
    ASSERT_NE(parsed, nullptr) << what;
    Shares shares;
    ASSERT_TRUE(shares.let_in(parsed.get())) << what;
    // The allocator has some of it elsewhere; a small message takes more for its header.
    EXPECT_GT(weight(parsed.get()) * 5 / 4, taken) << what;
    EXPECT_LT(weight(parsed.get()), taken * 5 / 2 + 4096) << what;
  }
}
#endif

TEST(Shares, TenThousandCallsOfOneCallerFit) {
  Shares shares;
  const Message message = call(":1.1", "GetAll", 30);
  for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(shares.let_in(message.get())) << i;
}

// A value may take another form in memory once it was read.
TEST(Shares, TakeBackWhatTheyGave) {
  Shares shares;
  int rounds = 0;
  for (; rounds < 30; ++rounds) {
    const Message message = call(":1.1");
    GVariant* strings = array_of("as", g_variant_new_string(""));
    g_dbus_message_set_body(message.get(), g_variant_new_tuple(&strings, 1));
    if (!shares.let_in(message.get())) break;
    g_variant_get_data(g_dbus_message_get_body(message.get()));
    shares.answered(":1.1", weight(message.get()));
  }
  EXPECT_EQ(rounds, 30);
}

}  // namespace
}  // namespace mandos::bus_agent
