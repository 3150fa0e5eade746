// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/checker_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "common/unique_fd.h"
#include "tests/support/client_settings.h"
#include "tests/unit/monitor/client_driver.h"

namespace mandos::monitor {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

/// A client of which every attribute is known.
Client client(std::string checker) {
  Client c;
  c.name = "my client";
  c.object_path = "/clients/my_client";
  c.created = WallTime(std::chrono::sys_days{std::chrono::March / 4 / 2025}) + hours(5) +
              minutes(6) + seconds(7) + std::chrono::microseconds(89);
  test::own(c).key_id = KeyId::parse(std::string(64, 'a'));
  test::own(c).fingerprint = "ABCDEF";
  test::own(c).host = "host.example.org";
  test::own(c).checker = std::move(checker);
  return c;
}

std::string expanded(const Client& c) {
  const Result<std::string> command = expand_checker(c);
  return command ? *command : "error: " + command.error();
}
std::string expanded(std::string checker) { return expanded(client(std::move(checker))); }

struct Row {
  std::string checker;
  std::string command;
};

TEST(CheckerCommand, PutsInEachAttributeAsTheOriginalShowsIt) {
  const Row rows[] = {
      {"fping -q -- %(host)s", "fping -q -- host.example.org"},
      {"%(name)s", "'my client'"},
      {"%(key_id)s", std::string(64, 'A')},
      {"%(fingerprint)s", "ABCDEF"},
      {"%(enabled)s", "True"},
      {"%(timeout)s", "0:05:00"},
      {"%(interval)s", "0:02:00"},
      {"%(approval_delay)s", "0:00:00"},
      {"%(approval_duration)s", "0:00:01"},
      {"%(created)s", "'2025-03-04 05:06:07.000089'"},
      {"%(expires)s", "None"},
      {"%(last_enabled)s", "None"},
      {"%(last_checked_ok)s", "None"},
      {"%(last_approval_request)s", "None"},
      {"%(dbus_object_path)s", "/clients/my_client"},
      {"100%%%(name)s%(host)s%%", "100%'my client'host.example.org%"},
      {"", ""},
      {"no attribute", "no attribute"},
  };
  for (const Row& row : rows) EXPECT_EQ(expanded(row.checker), row.command);
}

TEST(CheckerCommand, ShowsDurationsAndTimesAsTheOriginalDoes) {
  const std::pair<Milliseconds, std::string_view> durations[] = {
      {Milliseconds(0), "0:00:00"},
      {Milliseconds(1), "0:00:00.001000"},
      {Milliseconds(61500), "0:01:01.500000"},
      {hours(23) + minutes(59) + seconds(59), "23:59:59"},
      {hours(24), "'1 day, 0:00:00'"},
      {hours(24 * 365) + seconds(1), "'365 days, 0:00:01'"},
      {Milliseconds::max(), "'106751991167 days, 7:12:55.807000'"},
  };
  for (const auto& [duration, text] : durations) {
    Client c = client("%(timeout)s");
    test::own(c).timeout = duration;
    EXPECT_EQ(expanded(c), text);
  }
  const WallTime noon =
      WallTime(std::chrono::sys_days{std::chrono::December / 31 / 1999}) + hours(12);
  Client c = client("%(expires)s %(last_enabled)s %(last_checked_ok)s %(last_approval_request)s");
  c.expires_shown = noon;
  c.last_enabled = noon + Milliseconds(250);
  c.last_checked_ok = noon + hours(12);
  c.last_approval_request = WallTime(std::chrono::microseconds(-1));
  EXPECT_EQ(expanded(c),
            "'1999-12-31 12:00:00' '1999-12-31 12:00:00.250000' '2000-01-01 00:00:00' "
            "'1969-12-31 23:59:59.999999'");
}

TEST(CheckerCommand, RefusesEveryOtherFormat) {
  for (const std::string_view bad :
       {"%", "%s", "%(host)", "%(host)d", "%(host)10s", "%(host)-s", "%(host", "%()s", "%(HOST)s",
        "%(secret)s", "%(checker)s", "%(nothing)s", "%(host)%", "% (host)s", "a %(host)s %z"}) {
    const Result<std::string> command = expand_checker(client(std::string(bad)));
    ASSERT_FALSE(command) << bad;
    EXPECT_THAT(command.error(), testing::StartsWith(concat("checker \"", bad, "\": "))) << bad;
  }
}

TEST(CheckerCommand, KnowsNoObjectPathWithoutABus) {
  Client c = client("%(dbus_object_path)s");
  c.object_path.clear();
  EXPECT_FALSE(expand_checker(c));
}

TEST(CheckerCommand, IsNoLongerThanTheKernelTakes) {
  Client c = client("%(host)s");
  test::own(c).host = std::string(131071, 'a');
  EXPECT_EQ(expanded(c).size(), 131071U);
  test::own(c).host = std::string(40000, '\'');
  EXPECT_THAT(expanded(c), testing::EndsWith("longer than 131072 bytes"));
}

TEST(CheckerCommand, RefusesAZeroByte) {
  Client c = client("%(host)s");
  test::own(c).host = std::string("a\0b", 3);
  EXPECT_FALSE(expand_checker(c));
  EXPECT_FALSE(expand_checker(client(std::string("a\0", 2))));
}

/// What the command writes, run as a checker is.
std::string output_of(const std::string& command) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  UniqueFd reader(ends[0]);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  close(ends[1]);
  std::string out;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; (got = read(reader.get(), buffer.data(), buffer.size())) > 0;) {
    out.append(buffer.data(), static_cast<std::size_t>(got));
  }
  int status = 0;
  waitpid(child, &status, 0);
  return out;
}

TEST(CheckerCommand, TheShellReceivesTheValueItself) {
  std::mt19937 random(20301);  // NOLINT: the same values every time
  const std::string_view pieces[] = {"'",   "\"", "\\",  "`id`", "$(id)", "$HOME", "*",    "\n",
                                     ";",   "&",  "|",   ">x",   "<x",    "#",     "!",    "~",
                                     "{a}", "-n", "%s",  "\t",   "\r",    "\x01",  "\xff", "a",
                                     "=",   "--", "[a]", "(",    ")",     " ",     "''",   "ä"};
  for (int round = 0; round < 300; ++round) {
    Client c = client("printf '<%%s>' %(host)s -%(name)s x%(fingerprint)s");
    auto& settings = test::own(c);
    for (std::string* value : {&settings.host, &c.name, &settings.fingerprint}) {
      value->clear();
      for (auto length = random() % 12; length > 0; --length) {
        if (random() % 4 == 0) {
          *value += static_cast<char>(1 + random() % 255);
        } else {
          *value += pieces[random() % std::size(pieces)];
        }
      }
    }
    const std::string command = expanded(c);
    EXPECT_EQ(output_of(command),
              concat("<", c.settings->host, "><-", c.name, "><x", c.settings->fingerprint, ">"))
        << escaped(command, 2000);
  }
}

}  // namespace
}  // namespace mandos::monitor
