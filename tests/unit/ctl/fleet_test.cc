// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ctl/command.h"
#include "ctl/json.h"

namespace mandos::ctl {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

Client client(std::string_view name, std::vector<std::pair<std::string_view, Value>> changed = {}) {
  Client made;
  for (const auto& property : all_properties()) {
    Value value = std::string("x");
    if (property.kind == Kind::kBoolean) value = true;
    if (property.kind == Kind::kDuration) value = std::uint64_t{60'000};
    if (property.kind == Kind::kNumber) value = std::int64_t{0};
    made.properties.emplace(property.name, value);
  }
  made.properties["Name"] = std::string(name);
  for (const auto& [property, value] : changed) made.properties[std::string(property)] = value;
  return made;
}

Listing listing(std::string server, std::vector<Client> clients) {
  return {std::move(server), std::move(clients)};
}

TEST(Disagreements, NoneWhereServersAgreeInWhatIsCompared) {
  EXPECT_EQ(disagreements({}), "");
  EXPECT_EQ(disagreements({listing("a", {client("one")})}), "");
  // What each server counts by itself is not compared, nor is the order.
  const std::vector<std::pair<std::string_view, Value>> own = {
      {"LastCheckedOK", std::string("y")}, {"Created", std::string("y")},
      {"CheckerRunning", false},           {"LastEnabled", std::string("y")},
      {"ApprovalPending", false},          {"LastApprovalRequest", std::string("y")},
      {"Expires", std::string("y")},       {"LastCheckerStatus", std::int64_t{1}}};
  EXPECT_EQ(disagreements({listing("a", {client("one"), client("two")}),
                           listing("b", {client("two"), client("one", own)})}),
            "");
}

TEST(Disagreements, EachComparedPropertyIsOne) {
  for (const auto& property : all_properties()) {
    if (!property.setting && property.name != "Enabled" && property.name != "KeyID" &&
        property.name != "Fingerprint") {
      continue;
    }
    Value other = std::string("y");
    std::string difference = "x on a; y on b";
    if (property.kind == Kind::kBoolean) {
      other = false;
      difference = "Yes on a; No on b";
    } else if (property.kind == Kind::kDuration) {
      other = std::uint64_t{61'000};
      difference = "00:01:00 on a; 00:01:01 on b";
    }
    EXPECT_EQ(disagreements({listing("a", {client("one")}),
                             listing("b", {client("one", {{property.name, other}})})}),
              concat("one: ", property.name, ": ", difference, "\n"));
  }
}

TEST(Disagreements, NameTheServersOfEachValueAndThoseThatLackTheClient) {
  const Client off = client("one", {{"Enabled", false}});
  EXPECT_EQ(disagreements({listing("a", {off}),
                           listing("b", {client("one")}),
                           listing("c", {off}),
                           listing("d", {}),
                           listing("e", {client("z\x1b")}),
                           {"f", std::nullopt}}),
            "one: not on d, e\n"
            "one: Enabled: No on a, c; Yes on b\n"
            "z?: not on a, b, c, d\n");
}

TEST(FleetTable, HasTheServerInFront) {
  EXPECT_EQ(fleet_table({listing("long", {client("two"), client("one")}),
                         {"f", std::nullopt},
                         listing("b", {client("two")})},
                        false),
            "Server Name Enabled Timeout  Last Successful Check\n"
            "long   one  Yes     00:01:00 x                    \n"
            "long   two  Yes     00:01:00 x                    \n"
            "b      two  Yes     00:01:00 x                    \n");
  EXPECT_THAT(fleet_table({}, true), StartsWith("Server Name Enabled Timeout"));
}

TEST(FleetJson, HasAMemberForEachServer) {
  const std::string text =
      fleet_json({listing("b", {client("one")}), {"a", std::nullopt}, listing("c", {})});
  EXPECT_THAT(text,
              StartsWith("{\n    \"b\": {\n        \"one\": {\n            \"Name\": \"one\""));
  EXPECT_THAT(text, HasSubstr("    \"a\": null,\n    \"c\": {}\n}\n"));
}

Answer answer(std::optional<int> status) { return {"a", status, "", ""}; }

TEST(JointStatus, TellsAllFromSome) {
  EXPECT_EQ(joint_status({answer(0), answer(0)}), 0);
  EXPECT_EQ(joint_status({answer(1), answer(std::nullopt)}), 1);
  EXPECT_EQ(joint_status({answer(0), answer(1)}), 3);
  EXPECT_EQ(joint_status({answer(std::nullopt), answer(0)}), 3);
}

TEST(OneLine, JoinsWhatStandsOnStandardError) {
  EXPECT_EQ(one_line(""), "");
  EXPECT_EQ(one_line("ssh: refused\r\nmandos-ctl: no\x1b[2J\n\nlast"),
            "ssh: refused; no?[2J; last");
}

Servers servers(std::vector<std::string> names) {
  Servers all;
  for (auto& name : names) all.list.push_back({name, name, ""});
  return all;
}

/// The server that the process in `work` has for its own.
bool is_for(std::string_view server) {
  const char* const address = std::getenv("DBUS_SYSTEM_BUS_ADDRESS");
  return address != nullptr &&
         std::string_view(address).find(concat("=", server, ",")) != std::string_view::npos;
}

class OnEach : public testing::Test {
 protected:
  // use() looks for an ssh, which these tests do not run.
  void SetUp() override {
    directory_ = testing::TempDir() + "/mandos-fleet-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    ASSERT_EQ(symlink("/bin/true", (directory_ + "/ssh").c_str()), 0);
    setenv("PATH", directory_.c_str(), 1);
  }
  void TearDown() override {
    unlink((directory_ + "/ssh").c_str());
    rmdir(directory_.c_str());
  }
  std::string directory_;
};

TEST_F(OnEach, RunsTheWorkForEachAndKeepsTheirOrder) {
  const auto answers = on_each(servers({"a", "b", "c"}), false, [] {
    const char* const named = std::getenv("MANDOS_SERVERS");
    if (named == nullptr || *named != '\0') return 9;
    if (is_for("b")) return complain(5, "b says no");
    write_out(std::string(200'000, is_for("a") ? 'a' : 'c'));  // more than a pipe holds
    return 0;
  });
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0].output, std::string(200'000, 'a'));
  EXPECT_EQ(answers[0].status, 0);
  EXPECT_EQ(answers[1].status, 5);
  EXPECT_EQ(answers[1].errors, "b says no");
  EXPECT_EQ(answers[2].output, std::string(200'000, 'c'));
  EXPECT_EQ(std::getenv("DBUS_SYSTEM_BUS_ADDRESS"), nullptr);  // here nothing has changed
}

TEST_F(OnEach, GivesUpWhoeverTakesTooLong) {
  Servers two = servers({"a", "b"});
  two.limit = Milliseconds(300);
  const auto answers = on_each(two, false, [] {
    if (is_for("b")) {
      complain(0, "waiting");
      for (;;) pause();
    }
    return 0;
  });
  EXPECT_EQ(answers[0].status, 0);
  EXPECT_EQ(answers[1].status, std::nullopt);
  EXPECT_THAT(answers[1].errors, StartsWith("waiting; no answer within 00:00:00"));
}

TEST_F(OnEach, KeepsLittleOfWhatHasNoEnd) {
  Servers two = servers({"a", "b"});
  two.limit = std::chrono::minutes(1);
  const auto answers = on_each(two, false, [] {
    const std::string part(65536, 'x');
    while (is_for("a") && write(STDERR_FILENO, part.data(), part.size()) > 0) {
    }
    return 0;
  });
  EXPECT_EQ(answers[0].status, std::nullopt);
  EXPECT_THAT(answers[0].errors, EndsWith("; answers without end"));
  EXPECT_LT(answers[0].errors.size(), 70'000U);
  EXPECT_EQ(answers[1].status, 0);
}

TEST_F(OnEach, ReportsAProcessThatDies) {
  const auto answers = on_each(servers({"a"}), false, [] { return raise(SIGKILL); });
  EXPECT_EQ(answers[0].status, std::nullopt);
  EXPECT_THAT(answers[0].errors, HasSubstr("ended by signal 9"));
}

}  // namespace
}  // namespace mandos::ctl
