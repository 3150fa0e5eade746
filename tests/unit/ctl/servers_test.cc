// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/servers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mandos::ctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr Option kOptions[] = {kServer, kServerTimeout, {"secret", 's', "FILE", ""}};

Arguments arguments(std::vector<std::string_view> words) {
  return *parse_arguments(kOptions, words);
}

std::vector<std::string> names(const Result<Servers>& servers) {
  std::vector<std::string> found;
  if (!servers) return {servers.error()};
  for (const auto& server : servers->list) found.push_back(server.name);
  return found;
}

TEST(ParseServer, SplitsTargetAndPort) {
  struct Row {
    std::string_view text, target, port;
  };
  for (const auto& [text, target, port] : {
           Row{"web.example.org", "web.example.org", ""},
           Row{"my_alias", "my_alias", ""},
           Row{"admin@web", "admin@web", ""},
           Row{"web:2222", "web", "2222"},
           Row{"a.b-c_d@192.0.2.1:1", "a.b-c_d@192.0.2.1", "1"},
           Row{"[2001:db8::1]", "2001:db8::1", ""},
           Row{"root@[fe80::1%eth0]:65535", "root@fe80::1%eth0", "65535"},
           Row{"[::ffff:192.0.2.1]", "::ffff:192.0.2.1", ""},
           Row{".host", "", ""},
       }) {
    const auto server = parse_server(text);
    ASSERT_TRUE(server) << text;
    EXPECT_EQ(server->name, text);
    EXPECT_EQ(server->target, target);
    EXPECT_EQ(server->port, port);
  }
}

TEST(ParseServer, RefusesWhatSshOrAShellCouldTakeForMore) {
  const std::string long_name(256, 'a');
  for (const std::string_view text :
       std::vector<std::string_view>{"",        " ",       "-v",       "-oProxyCommand=x",
                                     "--",      "root@-v", "-l@web",   "@web",
                                     "web@",    "a@b@c",   "a b",      "a\tb",
                                     "a\nb",    "a;b",     "a|b",      "a&b",
                                     "$a",      "`a`",     "a'b",      "a\"b",
                                     "a\\b",    "a,b",     "a=b",      "a%b",
                                     "a/b",     "a:b",     "a:22/b",   "a:",
                                     "a:0",     "a:-1",    "a:+1",     "a:65536",
                                     "a:1x",    "::1",     "[::1",     "[]",
                                     "[a]",     "[::1]x",  "[::1]:",   "[::1]22",
                                     "[-::1]",  "[::1%]",  "[::1%-v]", "[::1%$x]",
                                     "]",       "[",       ".",        ".hosts",
                                     "a@.host", "ssh://a", "\xc3\xa4", long_name}) {
    const auto server = parse_server(text);
    ASSERT_FALSE(server) << text;
    EXPECT_THAT(server.error(), HasSubstr("expected [USER@]HOST[:PORT]"));
  }
}

TEST(ChooseServers, TheOptionsGoBeforeTheEnvironmentAndThatBeforeTheFile) {
  constexpr std::string_view kFile = "# mine\n server = f \n\nserver=g\r\nserver = f\n";
  EXPECT_THAT(names(choose_servers(arguments({}), nullptr, kFile)), ElementsAre("f", "g"));
  EXPECT_THAT(names(choose_servers(arguments({}), " e , f\n", kFile)), ElementsAre("e", "f"));
  EXPECT_THAT(names(choose_servers(arguments({"--server", "o"}), "e", kFile)), ElementsAre("o"));
  EXPECT_THAT(names(choose_servers(arguments({"--server=p", "--server=o", "--server=p"}), "e", "")),
              ElementsAre("p", "o"));
  EXPECT_THAT(names(choose_servers(arguments({}), "", kFile)), IsEmpty());
  EXPECT_THAT(names(choose_servers(arguments({}), nullptr, "")), IsEmpty());
}

TEST(ChooseServers, TheTimeLimit) {
  const auto limit = [](std::vector<std::string_view> words, std::string_view file) {
    const auto servers = choose_servers(arguments(std::move(words)), nullptr, file);
    return servers ? servers->limit.count() : -1;
  };
  EXPECT_EQ(limit({}, ""), 30'000);
  EXPECT_EQ(limit({}, "server-timeout = PT5M"), 300'000);
  EXPECT_EQ(limit({"--server-timeout=1s"}, "server-timeout = PT5M"), 1000);
  EXPECT_EQ(limit({"--server-timeout=24h"}, ""), 86'400'000);
  for (const std::string_view wrong : {"0", "", "5", "-1s", "P2D", "x"}) {
    const std::string word = concat("--server-timeout=", wrong);
    EXPECT_EQ(limit({word}, ""), -1) << wrong;
  }
}

TEST(ChooseServers, AMistakeIsToldWithItsPlace) {
  EXPECT_THAT(
      names(choose_servers(arguments({}), nullptr, "\nservers = a\n")),
      ElementsAre(HasSubstr("ctl.conf:2: found \"servers = a\", expected \"server = HOST\"")));
  EXPECT_THAT(names(choose_servers(arguments({"--server=a"}), nullptr, "server\n")),
              ElementsAre(HasSubstr("ctl.conf:1: server: found \"\"")));
  EXPECT_THAT(names(choose_servers(arguments({}), "a,-v", "")),
              ElementsAre(HasSubstr("MANDOS_SERVERS: server: found \"-v\"")));
  EXPECT_THAT(names(choose_servers(arguments({"--server="}), nullptr, "")),
              ElementsAre(HasSubstr("--server: found \"\"")));
}

TEST(ServerOptions, AreNotAbbreviated) {
  EXPECT_EQ(*arguments({"--se", "x"}).value("secret"), "x");
  EXPECT_FALSE(parse_arguments(kOptions, std::vector<std::string_view>{"--serve", "x"}));
  EXPECT_FALSE(parse_arguments(kOptions, std::vector<std::string_view>{"--server-t", "1s"}));
}

TEST(Address, RunsSshWithTheServerAfterAllOptions) {
  EXPECT_EQ(
      address_of({"u@[::1%e]:22", "u@::1%e", "22"}, Milliseconds(2001)),
      "unixexec:path=ssh,argv1=-axT,argv2=-oClearAllForwardings%3dyes,argv3=-oBatchMode%3dyes,"
      "argv4=-oLogLevel%3dERROR,argv5=-oConnectTimeout%3d3,argv6=-oServerAliveInterval%3d10,"
      "argv7=-oServerAliveCountMax%3d3,argv8=-p22,argv9=--,argv10=u%40%3a%3a1%25e,"
      "argv11=systemd-stdio-bridge");
  EXPECT_THAT(address_of({"a", "a", ""}, Milliseconds(1)), HasSubstr("ConnectTimeout%3d1,"));
  EXPECT_THAT(address_of({"a", "a", ""}, Milliseconds(1)), Not(HasSubstr("argv8=-p")));
}

}  // namespace
}  // namespace mandos::ctl
