// SPDX-License-Identifier: GPL-3.0-or-later
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "bus-agent/client_object.h"
#include "bus-agent/server_object.h"
#include "bus-agent/statistics.h"

namespace mandos::bus_agent {
namespace {

Client client() {
  Client made;
  made.set_name("one");
  made.set_path("/clients/one");
  made.set_host("\xff not UTF-8");
  made.set_created(1'000'000LL * 86400 * 365 + 5);
  made.set_expires(0);
  return made;
}

std::string error_of(const Outcome& outcome) {
  const auto* refusal = std::get_if<Refusal>(&outcome);
  return refusal == nullptr ? "" : refusal->error;
}

Outcome call_with(const Mirror& mirror, const char* path, const char* interface, const char* member,
                  GVariant* body) {
  const Variant owned = own(body);
  static const Statistics none(0);
  return call({mirror, none, ""}, path, {interface, member, owned.get()});
}

struct Objects : testing::Test {
  Objects() { mirror.add(client()); }
  Mirror mirror;
};

TEST_F(Objects, TextIsMendedAndTimesAreWrittenOut) {
  const Variant all = own(readable_properties(client()));
  const char* text = nullptr;
  ASSERT_TRUE(g_variant_lookup(all.get(), "Host", "&s", &text));
  EXPECT_STREQ(text, "\xef\xbf\xbd not UTF-8");
  ASSERT_TRUE(g_variant_lookup(all.get(), "Created", "&s", &text));
  EXPECT_STREQ(text, "1971-01-01T00:00:00.000005");
  ASSERT_TRUE(g_variant_lookup(all.get(), "Expires", "&s", &text));
  EXPECT_STREQ(text, "");
  EXPECT_FALSE(g_variant_lookup(all.get(), "Secret", "@ay", nullptr));
}

TEST_F(Objects, AWriteBecomesARequest) {
  const Outcome outcome =
      call_with(mirror, "/clients/one", kProperties, "Set",
                g_variant_new("(ssv)", kClientInterfaces[1], "Timeout", g_variant_new_uint64(7)));
  const auto* change = std::get_if<Change>(&outcome);
  ASSERT_NE(change, nullptr);
  EXPECT_EQ(change->request.name(), "one");
  EXPECT_EQ(change->request.timeout(), 7U);
}

// Each method and each property that can be written asks for one change, its own; no other can.
TEST_F(Objects, EachCallAsksForWhatItsNameSays) {
  using Request = door::bus_agent::ToMonitor::Request;
  const auto asked = [this](const char* interface, const char* member, GVariant* body) {
    const Outcome outcome = call_with(mirror, "/clients/one", interface, member, body);
    const auto* change = std::get_if<Change>(&outcome);
    return change == nullptr ? error_of(outcome) : change->request.SerializeAsString();
  };
  const auto request = [](auto setter, auto value) {
    Request made;
    made.set_name("one");
    (made.*setter)(value);
    return made.SerializeAsString();
  };
  for (const char* interface : kClientInterfaces) {
    const auto method = [&](const char* member, GVariant* body = nullptr) {
      return asked(interface, member, body == nullptr ? g_variant_new("()") : body);
    };
    EXPECT_EQ(method("Approve", g_variant_new("(b)", TRUE)), request(&Request::set_approve, true));
    EXPECT_EQ(method("Approve", g_variant_new("(b)", FALSE)),
              request(&Request::set_approve, false));
    EXPECT_EQ(method("CheckedOK"), request(&Request::set_checked_ok, true));
    EXPECT_EQ(method("Enable"), request(&Request::set_enabled, true));
    EXPECT_EQ(method("Disable"), request(&Request::set_enabled, false));
    EXPECT_EQ(method("StartChecker"), request(&Request::set_checker_running, true));
    EXPECT_EQ(method("StopChecker"), request(&Request::set_checker_running, false));
    const auto set = [&](const char* property, GVariant* value) {
      return asked(kProperties, "Set", g_variant_new("(ssv)", interface, property, value));
    };
    const auto text = [](const char* value) { return g_variant_new_string(value); };
    const auto number = [](std::uint64_t value) { return g_variant_new_uint64(value); };
    const auto truth = [](bool value) { return g_variant_new_boolean(value ? TRUE : FALSE); };
    const auto set_host = [](const char* value) {
      Request made;
      made.set_name("one");
      made.set_host(value);
      return made.SerializeAsString();
    };
    const auto set_checker = [](const char* value) {
      Request made;
      made.set_name("one");
      made.set_checker(value);
      return made.SerializeAsString();
    };
    EXPECT_EQ(set("Host", text("h")), set_host("h"));
    EXPECT_EQ(set("Checker", text("c")), set_checker("c"));
    EXPECT_EQ(set("Timeout", number(1)), request(&Request::set_timeout, 1U));
    EXPECT_EQ(set("ExtendedTimeout", number(2)), request(&Request::set_extended_timeout, 2U));
    EXPECT_EQ(set("Interval", number(3)), request(&Request::set_interval, 3U));
    EXPECT_EQ(set("ApprovalDelay", number(4)), request(&Request::set_approval_delay, 4U));
    EXPECT_EQ(set("ApprovalDuration", number(5)), request(&Request::set_approval_duration, 5U));
    EXPECT_EQ(set("LastCheckedOK", text("")), request(&Request::set_checked_ok, true));
    EXPECT_EQ(set("Secret", g_variant_new_bytestring("s")), request(&Request::set_secret, true));
    for (const bool value : {true, false}) {
      EXPECT_EQ(set("Enabled", truth(value)), request(&Request::set_enabled, value));
      EXPECT_EQ(set("CheckerRunning", truth(value)), request(&Request::set_checker_running, value));
      EXPECT_EQ(set("ApprovedByDefault", truth(value)),
                request(&Request::set_approved_by_default, value));
    }
    for (const char* property : {"Name", "ObjectPath", "KeyID", "Fingerprint", "Created",
                                 "LastApprovalRequest", "LastEnabled", "Expires"}) {
      EXPECT_EQ(set(property, text("x")), errors::kPropertyReadOnly) << property;
    }
    EXPECT_EQ(set("ApprovalPending", truth(true)), errors::kPropertyReadOnly);
    EXPECT_EQ(set("LastCheckerStatus", g_variant_new_int16(0)), errors::kPropertyReadOnly);
  }
}

TEST_F(Objects, ANumberMayBeOfAnyTypeButNotNegative) {
  const auto set = [this](const char* property, GVariant* value) {
    return call_with(mirror, "/clients/one", kProperties, "Set",
                     g_variant_new("(ssv)", kClientInterfaces[0], property, value));
  };
  for (GVariant* value : {g_variant_new_byte(7), g_variant_new_int16(7), g_variant_new_uint16(7),
                          g_variant_new_int32(7), g_variant_new_uint32(7), g_variant_new_int64(7),
                          g_variant_new_uint64(7), g_variant_new_double(7.9),
                          g_variant_new_variant(g_variant_new_variant(g_variant_new_int32(7)))}) {
    const Outcome outcome = set("Timeout", value);
    const auto* change = std::get_if<Change>(&outcome);
    ASSERT_NE(change, nullptr);
    EXPECT_EQ(change->request.timeout(), 7U);
  }
  const double infinity = std::numeric_limits<double>::infinity();
  for (GVariant* value :
       {g_variant_new_int32(-7), g_variant_new_int64(G_MININT64), g_variant_new_double(-7),
        g_variant_new_double(infinity), g_variant_new_double(std::nan("")),
        g_variant_new_double(1e30), g_variant_new_string("7"), g_variant_new("(i)", 7)}) {
    EXPECT_EQ(error_of(set("Timeout", value)), errors::kInvalidArgs);
  }
}

TEST_F(Objects, ABooleanMayBeANumberButNoText) {
  const auto set = [this](GVariant* value) {
    return call_with(mirror, "/clients/one", kProperties, "Set",
                     g_variant_new("(ssv)", kClientInterfaces[0], "Enabled", value));
  };
  for (GVariant* value : {g_variant_new_boolean(TRUE), g_variant_new_int32(-1),
                          g_variant_new_byte(2), g_variant_new_double(0.5)}) {
    const Outcome outcome = set(value);
    const auto* change = std::get_if<Change>(&outcome);
    ASSERT_NE(change, nullptr);
    EXPECT_TRUE(change->request.has_enabled() && change->request.enabled());
  }
  for (GVariant* value :
       {g_variant_new_boolean(FALSE), g_variant_new_int64(0), g_variant_new_double(0)}) {
    const Outcome outcome = set(value);
    const auto* change = std::get_if<Change>(&outcome);
    ASSERT_NE(change, nullptr);
    EXPECT_TRUE(change->request.has_enabled() && !change->request.enabled());
  }
  // Anybody's guess what is meant: to the Python server "false" is true.
  EXPECT_EQ(error_of(set(g_variant_new_string("false"))), errors::kInvalidArgs);
  EXPECT_EQ(error_of(set(g_variant_new_strv(nullptr, 0))), errors::kInvalidArgs);
}

TEST_F(Objects, ASecretIsNotInItsRequest) {
  const auto set = [this](GVariant* value) {
    return call_with(mirror, "/clients/one", kProperties, "Set",
                     g_variant_new("(ssv)", kClientInterfaces[0], "Secret", value));
  };
  const Outcome outcome = set(g_variant_new_bytestring("hidden"));
  const auto* change = std::get_if<Change>(&outcome);
  ASSERT_NE(change, nullptr);
  EXPECT_TRUE(change->request.has_secret());
  EXPECT_EQ(change->request.SerializeAsString().find("hidden"), std::string::npos);
  EXPECT_EQ(error_of(set(g_variant_new_string("text"))), errors::kInvalidArgs);
  EXPECT_EQ(error_of(set(g_variant_new_boolean(TRUE))), errors::kInvalidArgs);
}

TEST_F(Objects, WhatCannotBeIsRefused) {
  EXPECT_EQ(error_of(call_with(mirror, "/clients/two", kClientInterfaces[0], "CheckedOK",
                               g_variant_new("()"))),
            errors::kUnknownObject);
  EXPECT_EQ(error_of(call_with(mirror, "/clients/one", kClientInterfaces[0], "CheckedOK",
                               g_variant_new("(s)", "x"))),
            errors::kInvalidArgs);
  EXPECT_EQ(error_of(call_with(mirror, "/clients/one", kServerInterfaces[0], "GetAllClients",
                               g_variant_new("()"))),
            errors::kUnknownMethod);
  EXPECT_EQ(error_of(call_with(mirror, "/", kServerInterfaces[0], "RemoveClient",
                               g_variant_new("(o)", "/clients/two"))),
            errors::kUnknownObject);
}

TEST_F(Objects, AChangeIsToldThreeTimesASecretOnce) {
  std::vector<std::string> told;
  const Emit emit = [&told](const std::string& path, const char* interface, const char* member,
                            GVariant* parameters) {
    const Variant owned(g_variant_ref_sink(parameters));
    told.push_back(path + " " + interface + " " + member);
  };
  Client change;
  change.set_name("one");
  change.set_host("new");
  emit_changed(client(), change, emit);
  EXPECT_EQ(told, (std::vector<std::string>{
                      "/clients/one se.recompile.Mandos.Client PropertyChanged",
                      "/clients/one se.bsnet.fukt.Mandos.Client PropertyChanged",
                      "/clients/one org.freedesktop.DBus.Properties PropertiesChanged"}));
  told.clear();
  change.clear_host();
  change.set_secret(true);
  emit_changed(client(), change, emit);
  EXPECT_EQ(told, std::vector<std::string>{
                      "/clients/one org.freedesktop.DBus.Properties PropertiesChanged"});
}

}  // namespace
}  // namespace mandos::bus_agent
