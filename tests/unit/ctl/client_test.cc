// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ctl/json.h"

namespace mandos::ctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Client client(std::string_view name) {
  Client made;
  made.path = "/clients/x";
  for (const auto& property : all_properties()) {
    Value value = std::string();
    if (property.kind == Kind::kBoolean) value = false;
    if (property.kind == Kind::kDuration) value = std::uint64_t{90'061'999};
    if (property.kind == Kind::kNumber) value = std::int64_t{-2};
    made.properties.emplace(property.name, value);
  }
  made.properties["Name"] = std::string(name);
  return made;
}

TEST(Client, NamesThatLookLikeAnother) {
  const std::vector<Client> clients = {client("web.example.org"), client("mail"), client("main"),
                                       client("nail"), client("db")};
  EXPECT_THAT(near_matches("web", clients), ElementsAre("web.example.org"));
  EXPECT_THAT(near_matches("mial", clients), ElementsAre("mail"));
  EXPECT_THAT(near_matches("mixx", clients), IsEmpty());  // two letters of four
  EXPECT_THAT(near_matches("MAIL", clients), ElementsAre("mail", "main", "nail"));
  EXPECT_THAT(near_matches("dbb", clients), ElementsAre("db"));
  EXPECT_THAT(near_matches("", clients), IsEmpty());
  EXPECT_THAT(near_matches(std::string(1000, 'x'), clients), IsEmpty());
  EXPECT_EQ(no_such_client("mai", {client("mail")}), "no client \"mai\"; did you mean \"mail\"?");
  EXPECT_EQ(no_such_client("x\n", {client("mail")}), "no client \"x?\"");
}

TEST(Client, AreFoundByName) {
  std::vector<Client> clients = {client("mail"), client("web"), client("mail")};
  clients[2].path = "/clients/other";
  const ByName by_name(clients);
  EXPECT_EQ(by_name.find("mail"), &clients[0]);
  EXPECT_EQ(by_name.find("web"), &clients[1]);
  EXPECT_EQ(by_name.find("mai"), nullptr);
  EXPECT_EQ(by_name.find(""), nullptr);
}

TEST(Client, Durations) {
  EXPECT_EQ(duration_text(0), "00:00:00");
  EXPECT_EQ(duration_text(999), "00:00:00");
  EXPECT_EQ(duration_text(86'399'999), "23:59:59");
  EXPECT_EQ(duration_text(86'400'000), "1T00:00:00");
  EXPECT_EQ(duration_text(UINT64_MAX), "213503982334T14:25:51");
}

TEST(Client, NothingReachesTheTerminalThatMovesItsCursor) {
  EXPECT_EQ(printable("a\x1b[1mb\tc\x7f"), "a?[1mb?c?");
  EXPECT_EQ(printable("\u00fc\u009b1m\u20ac"), "\u00fc?1m\u20ac");
  EXPECT_EQ(printable("\xc2"), "\xc2");
}

TEST(Client, ATableIsAlignedByCharacters) {
  EXPECT_EQ(table({client("\u00fc"), client("second")}, false),
            "Name   Enabled Timeout    Last Successful Check\n"
            "\u00fc      No      1T01:01:01                      \n"
            "second No      1T01:01:01                      \n");
  EXPECT_EQ(table({}, false), "Name Enabled Timeout Last Successful Check\n");
  EXPECT_THAT(table({client("one")}, true), HasSubstr("Last Checker Status\n"));
}

TEST(Client, Json) {
  EXPECT_EQ(dump_json({}), "{}\n");
  const std::string text = dump_json({client("\u00fc\"\n\x7f")});
  EXPECT_THAT(text, HasSubstr(R"(    "\u00fc\"\n\u007f": {
        "Name": "\u00fc\"\n\u007f",
        "Enabled": false,
        "Timeout": 90061999,
        "LastCheckedOK": "",
)"));
  EXPECT_THAT(text, HasSubstr("        \"LastCheckerStatus\": -2\n    }\n}\n"));
}

TEST(Client, JsonOfSomethingElseIsRefused) {
  const auto problem = [](std::string_view text) {
    const auto read = read_dump(text);
    return read ? std::string() : read.error();
  };
  EXPECT_EQ(problem(dump_json({client("one"), client("two")})), "");
  EXPECT_EQ(problem(R"({"one": {"Enabled": false}})"), "");
  EXPECT_EQ(problem(R"({"one": {"enabled": false}})"),
            "client \"one\": found no Enabled, expected what --dump-json writes");
  EXPECT_EQ(problem(R"({"one": {"Enabled": false, "Host": "x\u0000y"}})"),
            "client \"one\": Host has a null character");
  EXPECT_EQ(problem(R"({"one": {"Enabled": "no"}})"), "client \"one\": Enabled has the wrong type");
}

}  // namespace
}  // namespace mandos::ctl
