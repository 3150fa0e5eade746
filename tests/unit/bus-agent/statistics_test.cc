// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <variant>

#include "bus-agent/server_object.h"

namespace mandos::bus_agent {
namespace {

using door::bus_agent::ToBusAgent;
using testing::ElementsAre;
using testing::Pair;

Outcome ask(const Statistics& statistics, const Mirror& mirror, const char* member, GVariant* body,
            const char* path = "/") {
  const Variant owned = own(body);
  return call({mirror, statistics, "Mandos #2"}, path, {kProperties, member, owned.get()});
}

/// The value of a property, alone and among all, which must agree.
Variant property(const Statistics& statistics, const Mirror& mirror, const char* name) {
  const Outcome one =
      ask(statistics, mirror, "Get", g_variant_new("(ss)", kStatisticsInterface, name));
  const Outcome all = ask(statistics, mirror, "GetAll", g_variant_new("(s)", kStatisticsInterface));
  const Variant boxed(g_variant_get_child_value(std::get<Answer>(one).body.get(), 0));
  Variant value(g_variant_get_variant(boxed.get()));
  const Variant dictionary(g_variant_get_child_value(std::get<Answer>(all).body.get(), 0));
  const Variant same(g_variant_lookup_value(dictionary.get(), name, nullptr));
  EXPECT_TRUE(same != nullptr && g_variant_equal(value.get(), same.get())) << name;
  return value;
}

std::uint64_t number(const Statistics& statistics, const char* name) {
  return g_variant_get_uint64(property(statistics, Mirror(), name).get());
}

std::map<std::string, std::uint64_t> numbers(const Statistics& statistics, const char* name) {
  std::map<std::string, std::uint64_t> found;
  const Variant value = property(statistics, Mirror(), name);
  for (gsize i = 0; i < g_variant_n_children(value.get()); ++i) {
    const char* key = nullptr;
    guint64 count = 0;
    g_variant_get_child(value.get(), i, "{&st}", &key, &count);
    found[key] = count;
  }
  return found;
}

ToBusAgent::Signal refusal(const char* reason) {
  ToBusAgent::Signal signal;
  signal.set_name("one");
  signal.set_rejected(reason);
  return signal;
}

TEST(Statistics, CountsWhatTheMonitorTells) {
  Statistics statistics(1'000'000LL * 86400 * 365 + 5);
  EXPECT_EQ(number(statistics, "Grants"), 0U);
  EXPECT_EQ(number(statistics, "UnknownKeys"), 0U);
  EXPECT_THAT(numbers(statistics, "Refusals"),
              ElementsAre(Pair("Approval timed out", 0), Pair("Denied", 0), Pair("Disabled", 0),
                          Pair("Key changed", 0)));
  ToBusAgent::Signal granted;
  granted.set_got_secret(true);
  ToBusAgent::Signal started;
  started.set_checker_started("true");
  ToBusAgent::Signal needs;
  needs.mutable_need_approval()->set_delay(1);
  for (const auto& signal : {granted, granted, started, needs}) statistics.count(signal);
  for (const char* reason : {"Denied", "Disabled", "Denied", "Reason of \xff tomorrow"}) {
    statistics.count(refusal(reason));
  }
  ToBusAgent::Signal checked;
  checked.mutable_checker_completed()->set_wait_status(0);
  statistics.count(checked);
  for (const int status : {256, 9}) {
    checked.mutable_checker_completed()->set_wait_status(status);
    statistics.count(checked);
  }
  statistics.count(ToBusAgent::NotFound());
  EXPECT_EQ(number(statistics, "Grants"), 2U);
  EXPECT_EQ(number(statistics, "ChecksPassed"), 1U);
  EXPECT_EQ(number(statistics, "ChecksFailed"), 2U);
  EXPECT_EQ(number(statistics, "UnknownKeys"), 1U);
  EXPECT_THAT(numbers(statistics, "Refusals"),
              ElementsAre(Pair("Approval timed out", 0), Pair("Denied", 2), Pair("Disabled", 1),
                          Pair("Key changed", 0), Pair("Reason of \xef\xbf\xbd tomorrow", 1)));
  EXPECT_STREQ(g_variant_get_string(property(statistics, Mirror(), "StartTime").get(), nullptr),
               "1971-01-01T00:00:00.000005");
  EXPECT_STREQ(g_variant_get_string(property(statistics, Mirror(), "ServiceName").get(), nullptr),
               "Mandos #2");
}

TEST(Statistics, RestartsAreThoseThatWereToldLast) {
  Statistics statistics(0);
  EXPECT_THAT(numbers(statistics, "Restarts"),
              ElementsAre(Pair("bus-agent", 0), Pair("checker-runner", 0), Pair("monitor", 0),
                          Pair("networker", 0)));
  for (const std::uint32_t factor : {1U, 3U}) {
    ToBusAgent::Restarts restarts;
    for (const std::uint32_t count : {1U, 20U, 300U, 4000U, 50000U}) {
      restarts.add_counts(count * factor);
    }
    statistics.restarts(restarts);
  }
  EXPECT_THAT(numbers(statistics, "Restarts"),
              ElementsAre(Pair("bus-agent", 12000), Pair("checker-runner", 900), Pair("monitor", 3),
                          Pair("networker", 60)));
}

TEST(Statistics, PendingApprovalsAreThoseOfTheClients) {
  Mirror mirror;
  for (const char* name : {"a", "b", "c"}) {
    Client client;
    client.set_name(name);
    client.set_path(std::string("/clients/") + name);
    client.set_approval_pending(*name != 'b');
    mirror.add(client);
  }
  EXPECT_EQ(g_variant_get_uint64(property(Statistics(0), mirror, "ApprovalsPending").get()), 2U);
}

TEST(Statistics, NothingElseCanBeReadAndNothingWritten) {
  const Statistics statistics(0);
  const Mirror mirror;
  const auto error = [&](const char* member, GVariant* body, const char* path = "/") {
    const Outcome outcome = ask(statistics, mirror, member, body, path);
    const auto* refusal = std::get_if<Refusal>(&outcome);
    return std::string(refusal == nullptr ? "" : refusal->error);
  };
  for (const char* name : {"Grants", "Refusals", "Restarts", "StartTime", "ServiceName"}) {
    EXPECT_EQ(
        error("Set", g_variant_new("(ssv)", kStatisticsInterface, name, g_variant_new_uint64(0))),
        errors::kPropertyReadOnly);
  }
  EXPECT_EQ(error("Get", g_variant_new("(ss)", kStatisticsInterface, "Secret")),
            errors::kUnknownProperty);
  EXPECT_EQ(error("Get", g_variant_new("(ss)", kServerInterfaces[0], "Grants")),
            errors::kUnknownProperty);
  EXPECT_EQ(error("Get", g_variant_new("(s)", kStatisticsInterface)), errors::kInvalidArgs);
  EXPECT_EQ(error("Get", g_variant_new("(su)", kStatisticsInterface, 1U)), errors::kInvalidArgs);
  EXPECT_EQ(error("GetAll", g_variant_new("()")), errors::kInvalidArgs);
  EXPECT_EQ(error("GetAll", g_variant_new("(s)", kStatisticsInterface), "/clients"),
            errors::kUnknownMethod);
  const Outcome other = ask(statistics, mirror, "GetAll", g_variant_new("(s)", "no.such"));
  const Variant all(g_variant_get_child_value(std::get<Answer>(other).body.get(), 0));
  EXPECT_EQ(g_variant_n_children(all.get()), 0U);
}

// Who asks "/" what there is finds each property with the type that it has.
TEST(Statistics, IntrospectionIsTrue) {
  const std::string xml = statistics_xml();
  const Variant all = own(Statistics(0).properties(Mirror(), ""));
  EXPECT_EQ(g_variant_n_children(all.get()), 9U);
  for (gsize i = 0; i < g_variant_n_children(all.get()); ++i) {
    const char* name = nullptr;
    GVariant* value = nullptr;
    g_variant_get_child(all.get(), i, "{&sv}", &name, &value);
    const Variant owned(value);
    EXPECT_NE(xml.find(std::string("name=\"") + name + "\" type=\"" +
                       g_variant_get_type_string(value) + "\" access=\"read\""),
              std::string::npos)
        << name;
  }
}

}  // namespace
}  // namespace mandos::bus_agent
