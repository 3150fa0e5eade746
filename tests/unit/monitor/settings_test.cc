// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace mandos::monitor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

Result<CommandLine> parse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "mandos");
  std::vector<char*> argv;
  for (auto& each : arguments) argv.push_back(each.data());
  argv.push_back(nullptr);
  return parse_command_line(static_cast<int>(arguments.size()), argv.data());
}

class SettingsTest : public testing::Test {
 protected:
  SettingsTest() {
    std::string name = (std::filesystem::temp_directory_path() / "settings_test.XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~SettingsTest() override { std::filesystem::remove_all(folder_); }

  LoadedSettings load(const std::string& file, std::vector<std::string> arguments = {}) {
    const std::string path = folder_ + "/mandos.conf";
    std::ofstream(path) << file;
    chmod(path.c_str(), 0644);
    arguments.insert(arguments.end(), {"--configdir", folder_});
    const auto command_line = parse(arguments);
    EXPECT_TRUE(command_line);
    return load_settings(*command_line);
  }

  std::string folder_;
};

TEST_F(SettingsTest, HasTheManualsDefaults) {
  for (const bool with_file : {false, true}) {
    if (with_file) std::ofstream(folder_ + "/mandos.conf") << "[DEFAULT]\n";
    const auto loaded = load_settings(*parse({"--configdir", folder_}));
    EXPECT_THAT(loaded.problems, IsEmpty());
    EXPECT_THAT(loaded.warnings, IsEmpty());
    EXPECT_EQ(loaded.usage_error, "");
    const auto& settings = loaded.settings;
    EXPECT_EQ(settings.interface + settings.address, "");
    EXPECT_EQ(settings.port, 0);
    EXPECT_EQ(settings.socket, -1);
    EXPECT_EQ(settings.priority,
              "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA");
    EXPECT_EQ(settings.servicename, "Mandos");
    EXPECT_FALSE(settings.debug || settings.foreground);
    EXPECT_TRUE(settings.use_dbus && settings.use_ipv6 && settings.restore && settings.zeroconf);
    EXPECT_EQ(settings.level, LogLevel::kWarning);
    EXPECT_EQ(settings.configdir, folder_);
    EXPECT_EQ(settings.statedir, MANDOS_STATE_DIR);
    EXPECT_EQ(settings.max_connections, 6144U);
    EXPECT_EQ(settings.max_per_source, 64U);
    EXPECT_EQ(settings.login_grace, 15s);
    EXPECT_EQ(settings.source_penalty, 10s);
    EXPECT_EQ(settings.penalty_threshold, 20U);
    EXPECT_THAT(settings.penalty_exempt, IsEmpty());
    EXPECT_EQ(settings.networkers, 1U);
  }
}

TEST_F(SettingsTest, ReadsEveryOptionOfTheFile) {
  const auto loaded = load(
      "[DEFAULT]\ninterface = enp1s0\naddress: fe80::1%enp1s0\nport = 1025\ndebug = no\ndebuglevel "
      "= info\n"
      "priority = NORMAL:%PROFILE_ULTRA\nservicename = D\xc3\xa6na\nuse_dbus = 0\nuse_ipv6 = ON\n"
      "restore = off\nzeroconf = False\nforeground = Yes\nstatedir = /var/tmp/x\nsocket = 5\n"
      "max_connections = 10\nmax_connections_per_source = 2\nlogin_grace_time = PT1M\n"
      "source_penalty_time = 0s\nnetworkers = 16\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, IsEmpty());
  const auto& settings = loaded.settings;
  EXPECT_EQ(settings.interface, "enp1s0");
  EXPECT_EQ(settings.address, "fe80::1%enp1s0");
  EXPECT_EQ(settings.port, 1025);
  EXPECT_EQ(settings.level, LogLevel::kInfo);
  EXPECT_EQ(settings.priority, "NORMAL:%PROFILE_ULTRA");
  EXPECT_EQ(settings.servicename, "D\xc3\xa6na");
  EXPECT_FALSE(settings.debug || settings.use_dbus || settings.restore || settings.zeroconf);
  EXPECT_TRUE(settings.use_ipv6 && settings.foreground);
  EXPECT_EQ(settings.statedir, "/var/tmp/x");
  EXPECT_EQ(settings.socket, 5);
  EXPECT_EQ(settings.max_connections, 10U);
  EXPECT_EQ(settings.max_per_source, 2U);
  EXPECT_EQ(settings.login_grace, 1min);
  EXPECT_EQ(settings.source_penalty, 0s);
  EXPECT_EQ(settings.networkers, 16U);
}

TEST_F(SettingsTest, TheCommandLineComesFirst) {
  const auto loaded = load(
      "[DEFAULT]\ninterface = a\nport = 1\nrestore = yes\nservicename = file\nstatedir = /file\n",
      {"-ib", "--port=2", "--no-restore", "--no-dbus", "--no-ipv6", "--no-zeroconf", "--foreground",
       "--statedir", "/line", "-a", "127.0.0.1", "--priority", "SECURE256", "--debuglevel", "ERROR",
       "--socket", "7"});
  EXPECT_THAT(loaded.problems, IsEmpty());
  const auto& settings = loaded.settings;
  EXPECT_EQ(settings.interface, "b");
  EXPECT_EQ(settings.port, 2);
  EXPECT_FALSE(settings.restore || settings.use_dbus || settings.use_ipv6 || settings.zeroconf);
  EXPECT_TRUE(settings.foreground);
  EXPECT_EQ(settings.servicename, "file");
  EXPECT_EQ(settings.statedir, "/line");
  EXPECT_EQ(settings.address, "127.0.0.1");
  EXPECT_EQ(settings.priority, "SECURE256");
  EXPECT_EQ(settings.level, LogLevel::kError);
  EXPECT_EQ(settings.socket, 7);
}

TEST_F(SettingsTest, DebugImpliesTheForegroundAndEveryLine) {
  for (const auto& loaded :
       {load("[DEFAULT]\ndebug = True\nforeground = False\ndebuglevel = ERROR\n"),
        load("[DEFAULT]\n", {"--debug", "--debuglevel=ERROR"})}) {
    EXPECT_TRUE(loaded.settings.debug && loaded.settings.foreground);
    EXPECT_EQ(loaded.settings.level, LogLevel::kDebug);
  }
}

TEST_F(SettingsTest, ExpandsAllButTexts) {
  const auto loaded =
      load("[DEFAULT]\nnumber = 12\nport = 1%(number)s\nservicename = %(number)s\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, IsEmpty());
  EXPECT_EQ(loaded.settings.port, 112);
  EXPECT_EQ(loaded.settings.servicename, "%(number)s");
}

TEST_F(SettingsTest, EmptyValuesLeaveTheDefault) {
  const auto loaded =
      load("[DEFAULT]\nport =\nsocket =\naddress =\ninterface =\ndebuglevel =\nstatedir =\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_EQ(loaded.settings.port, 0);
  EXPECT_EQ(loaded.settings.socket, -1);
  EXPECT_EQ(loaded.settings.statedir, MANDOS_STATE_DIR);
}

TEST_F(SettingsTest, NamesEveryBadValue) {
  const std::pair<std::string, std::string> cases[] = {
      {"port", "65536"},
      {"port", "-1"},
      {"port", "1 2"},
      {"socket", "-2"},
      {"debug", ""},
      {"use_ipv6", "maybe"},
      {"restore", "%(nowhere)s"},
      {"debuglevel", "LOUD"},
      {"interface", "0123456789abcdef"},
      {"interface", "a/b"},
      {"servicename", ""},
      {"servicename", std::string(64, 'x')},
      {"address", "host.example"},
      {"address", "192.0.2.1"},
      {"address", "fe80::1%"},
      {"address", "fe80::1%0123456789abcdef"},
      {"max_connections", "0"},
      {"max_connections_per_source", "x"},
      {"login_grace_time", "0s"},
      {"login_grace_time", "5"},
      {"source_penalty_time", "P2D"},
      {"source_penalty_threshold", "0"},
      {"source_penalty_threshold", "10001"},
      {"networkers", "17"},
  };
  for (const auto& [option, value] : cases) {
    const auto loaded = load("[DEFAULT]\n\n" + option + " = " + value + "\n");
    EXPECT_THAT(
        loaded.problems,
        ElementsAre(AllOf(HasSubstr(concat(folder_, "/mandos.conf:3: [DEFAULT] ", option, ": ")),
                          HasSubstr("found"), HasSubstr("expected"))))
        << option << '=' << value;
  }
}

TEST_F(SettingsTest, SaysThatACommentNeedsALine) {
  EXPECT_THAT(
      load("[DEFAULT]\nuse_ipv6 = yes # the web\n").problems,
      ElementsAre(testing::EndsWith("\"yes # the web\", expected 1, yes, true, on, 0, no, false or "
                                    "off; a comment needs a line of its own")));
}

// What is taken with it would be another folder, with no client in it that was disabled.
TEST_F(SettingsTest, NoValueHasACommentOrQuotesWithIt) {
  const std::pair<std::string, std::string> values[] = {{"statedir", "/var/lib/mandos"},
                                                        {"servicename", "Mandos"},
                                                        {"interface", "eth0"},
                                                        {"address", "::1"},
                                                        {"priority", "SECURE128"},
                                                        {"source_penalty_exempt", "10.0.0.0/8"},
                                                        {"port", "4711"},
                                                        {"socket", "3"},
                                                        {"debuglevel", "INFO"},
                                                        {"login_grace_time", "15s"},
                                                        {"restore", "yes"}};
  constexpr const char* kComment = "a comment needs a line of its own";
  constexpr const char* kQuotes = "quotes around a value are part of it";
  for (const auto& [option, value] : values) {
    EXPECT_THAT(load(concat("[DEFAULT]\n", option, " = ", value, '\n')).problems, IsEmpty());
    for (const auto& [changed, hint] : {std::pair(value + " # its own", kComment),
                                        {value + "\t; its own", kComment},
                                        {concat('"', value, '"'), kQuotes},
                                        {concat('\'', value, '\''), kQuotes}}) {
      const auto loaded = load(concat("[DEFAULT]\n", option, " = ", changed, '\n'));
      EXPECT_THAT(loaded.problems,
                  ElementsAre(AllOf(HasSubstr(concat("mandos.conf:2: [DEFAULT] ", option, ": ")),
                                    testing::EndsWith(concat("; ", hint)))))
          << changed;
      EXPECT_EQ(loaded.settings.statedir, MANDOS_STATE_DIR);
    }
  }
  // What is meant.
  for (const char* name : {"Mandos #2", "Mandos;2", "Mandos of \"Bob\"s"}) {
    const auto loaded = load(concat("[DEFAULT]\nservicename = ", name, '\n'));
    EXPECT_THAT(loaded.problems, IsEmpty());
    EXPECT_EQ(loaded.settings.servicename, name);
  }
}

TEST_F(SettingsTest, TheStateDirectoryIsAnAbsolutePath) {
  for (const char* path : {"state", "./state", "~/state", "# the default"}) {
    EXPECT_THAT(load(concat("[DEFAULT]\nstatedir = ", path, '\n')).problems,
                ElementsAre(HasSubstr(
                    concat("statedir: found \"", path, "\", expected an absolute path"))));
  }
  EXPECT_THAT(parse({"--statedir", "state"}).error(),
              HasSubstr("--statedir: found \"state\", expected an absolute path"));
}

TEST_F(SettingsTest, TellsAllProblemsAtOnce) {
  EXPECT_THAT(load("[DEFAULT]\nport = x\ndebug = x\njunk\n[x]\ny = 1\ny = 2\n").problems,
              SizeIs(4));
}

TEST_F(SettingsTest, TakesIpv4OnlyWithoutIpv6) {
  EXPECT_THAT(load("[DEFAULT]\naddress = ::FFFF:192.0.2.3\n").problems, IsEmpty());
  EXPECT_THAT(load("[DEFAULT]\naddress = 192.0.2.3\nuse_ipv6 = no\n").problems, IsEmpty());
  EXPECT_THAT(load("[DEFAULT]\naddress = ::1\n", {"--no-ipv6"}).problems,
              ElementsAre(HasSubstr("IPv4")));
  EXPECT_THAT(load("[DEFAULT]\n", {"--address", "192.0.2.3"}).problems,
              ElementsAre(HasSubstr("--address: ")));
}

TEST_F(SettingsTest, WarnsOfWhatItIgnores) {
  const auto loaded =
      load("[DEFAULT]\ncolour = red\nreferred = 1\nport = %(referred)s\n[other]\nport = 2\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, ElementsAre(HasSubstr("mandos.conf:5: [other] "),
                                           HasSubstr("mandos.conf:2: [DEFAULT] colour: ")));
  EXPECT_EQ(loaded.settings.port, 1);
}

// A server reads it again from another folder than the one in which it was started.
TEST_F(SettingsTest, RefusesAConfigurationFolderWithoutItsWholePath) {
  for (const char* path : {"", "conf", "./conf", "../etc/mandos"}) {
    const auto refused = parse({"--configdir", path});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(),
              concat("--configdir: found \"", path, "\", expected an absolute path"));
  }
}

TEST_F(SettingsTest, RefusesAFileThatOthersMayWrite) {
  load("[DEFAULT]\n");
  chmod((folder_ + "/mandos.conf").c_str(), 0666);
  EXPECT_THAT(load_settings(*parse({"--configdir", folder_})).problems,
              ElementsAre(HasSubstr("0666")));
}

TEST_F(SettingsTest, RefusesALinkThatLeadsNowhere) {
  std::filesystem::create_symlink(folder_ + "/elsewhere", folder_ + "/mandos.conf");
  EXPECT_THAT(load_settings(*parse({"--configdir", folder_})).problems,
              ElementsAre(HasSubstr("mandos.conf: leads nowhere")));
}

TEST_F(SettingsTest, WithoutZeroconfAPortOrSocketIsNeeded) {
  EXPECT_NE(load("[DEFAULT]\n", {"--no-zeroconf"}).usage_error, "");
  EXPECT_NE(load("[DEFAULT]\nzeroconf = off\nport = 0\n").usage_error, "");
  EXPECT_EQ(load("[DEFAULT]\nport = 1\n", {"--no-zeroconf"}).usage_error, "");
  // There is one, with an error.
  EXPECT_EQ(load("[DEFAULT]\nport = abc\n", {"--no-zeroconf"}).usage_error, "");
  EXPECT_EQ(load("[DEFAULT]\nsocket = 3 # x\nzeroconf = no\n").usage_error, "");
  EXPECT_EQ(load("[DEFAULT]\n", {"--no-zeroconf", "--socket", "0"}).usage_error, "");
}

TEST(CommandLineTest, KnowsItsActions) {
  EXPECT_EQ(parse({})->action, Action::kRun);
  EXPECT_EQ(parse({})->configdir, MANDOS_CONFIG_DIR);
  EXPECT_EQ(parse({"-h", "--nonsense"})->action, Action::kHelp);
  EXPECT_EQ(parse({"--hel"})->action, Action::kHelp);
  EXPECT_EQ(parse({"-v"})->action, Action::kVersion);
  EXPECT_EQ(parse({"--vers"})->action, Action::kVersion);
  EXPECT_EQ(parse({"--check"})->action, Action::kCheck);
}

TEST(CommandLineTest, TakesUnambiguousAbbreviations) {
  const auto parsed = parse({"--serv", "x", "--debugl=INFO", "--no-z", "--por", "7", "--debug"});
  ASSERT_TRUE(parsed);
  EXPECT_THAT(parsed->overrides,
              ElementsAre(testing::Pair("servicename", "x"), testing::Pair("debuglevel", "INFO"),
                          testing::Pair("zeroconf", "False"), testing::Pair("port", "7"),
                          testing::Pair("debug", "True")));
}

TEST(CommandLineTest, RefusesWhatItDoesNotKnow) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--nonsense"}, "--nonsense"},
      {{"--no-"}, "--no-"},
      {{"--de"}, "--de"},
      {{"-x"}, "-x"},
      {{"-p"}, "-p"},
      {{"--port"}, "--port"},
      {{"--debug=1"}, "--debug=1"},
      {{"left over"}, "left over"},
      {{"--port", "x"}, "\"x\""},
      {{"--port=65536"}, "65535"},
      {{"--socket=x"}, "--socket"},
      {{"--debuglevel=x"}, "CRITICAL"},
      {{"-i", "0123456789abcdef"}, "15 bytes"},
      {{"--servicename", ""}, "UTF-8"}};
  for (const auto& [arguments, part] : cases) {
    const auto parsed = parse(arguments);
    ASSERT_FALSE(parsed) << arguments.front();
    EXPECT_THAT(parsed.error(), HasSubstr(part));
    EXPECT_THAT(usage_error_text(parsed.error()),
                AllOf(HasSubstr("usage: mandos"), HasSubstr("\nmandos: error: ")));
  }
}

TEST(CommandLineTest, SuggestsTheOptionThatWasMeant) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--prot", "4711"}, "--prot: unknown option; the nearest known one is --port"},
      {{"--foregroud"}, "--foregroud: unknown option; the nearest known one is --foreground"},
      {{"--nonsense"}, "--nonsense: unknown or ambiguous option"},
      {{"--no-"}, "--no-: unknown or ambiguous option"},
      {{"-x"}, "-x: unknown or ambiguous option"},
      {{"--port"}, "--port: found nothing, expected a value"},
      {{"-p"}, "-p: found nothing, expected a value"},
      {{"--debug=1"}, "--debug=1: found a value, expected none"}};
  for (const auto& [arguments, message] : cases) {
    const auto parsed = parse(arguments);
    ASSERT_FALSE(parsed) << arguments.front();
    EXPECT_EQ(parsed.error(), message);
  }
}

TEST(CommandLineTest, HelpNamesEveryOption) {
  for (const char* option :
       {"-h, --help", "-v, --version", "-i, --interface IF", "-a, --address ADDRESS",
        "-p, --port PORT", "--check", "--debug ", "--debuglevel LEVEL", "--priority ",
        "--servicename NAME", "--configdir DIR", "--no-dbus", "--no-ipv6", "--no-restore",
        "--socket ", "--statedir DIR", "--foreground", "--no-zeroconf"}) {
    EXPECT_THAT(help_text(), HasSubstr(option));
  }
  EXPECT_EQ(version_text(), "mandos " MANDOS_VERSION "\n");
}

}  // namespace
}  // namespace mandos::monitor
