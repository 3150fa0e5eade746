// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/clients_conf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/jail.h"

namespace mandos::monitor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

constexpr const char* kKey = "788cd77115cd0bb7b2d5e0ae8496f6b48149d5e712c652076b1fd2d957ef7c1f";
constexpr const char* kOtherKey =
    "F90C7A81 D72D1EA6 9A51031A 91FF8885 F36C8B46 D155C8C5 8709A4C9 9AE9E361";

std::string text_of(const SecretPtr& secret) {
  if (!secret) return "none";
  return {reinterpret_cast<const char*>(secret->bytes().data()), secret->bytes().size()};
}

class ClientsConfTest : public testing::Test {
 protected:
  ClientsConfTest() {
    std::string name =
        (std::filesystem::temp_directory_path() / "clients_conf_test.XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~ClientsConfTest() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content, mode_t mode = 0600) {
    const std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << content;
    chmod(path.c_str(), mode);
    return path;
  }
  LoadedClients load() {
    auto loaded = load_clients(folder_);
    // Most sections here have no host, which the preset checker is given.
    std::erase_if(loaded.warnings,
                  [](const auto& warning) { return warning.ends_with("its checks would fail"); });
    return loaded;
  }
  LoadedClients load(const std::string& content) {
    write("clients.conf", content);
    return load();
  }
  /// A client with all that is needed, and `more`.
  static std::string section(const std::string& more, const std::string& name = "foo") {
    return concat('[', name, "]\nkey_id = ", kKey, "\nsecret = 0gEB\n", more);
  }
  static std::string secret_section(const std::string& secret) {
    return concat("[foo]\nkey_id = ", kKey, "\n", secret, '\n');
  }

  std::string folder_;
};

TEST_F(ClientsConfTest, NothingWrongIsToldOfThePresetChecker) {
  const auto loaded = load(section(std::string("host = a\0b\n", 11)));
  EXPECT_THAT(loaded.problems, ElementsAre(HasSubstr("clients.conf:4: [foo] found bytes that")));
  EXPECT_THAT(loaded.warnings, IsEmpty());
}

TEST_F(ClientsConfTest, HasTheManualsDefaults) {
  const auto loaded = load(section(""));
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, IsEmpty());
  ASSERT_EQ(loaded.clients.size(), 1U);
  const auto& client = loaded.clients.at("foo");
  EXPECT_EQ(client.key_id, KeyId::parse(kKey));
  EXPECT_EQ(text_of(client.secret), "\xd2\1\1");
  EXPECT_EQ(client.fingerprint + client.host, "");
  EXPECT_EQ(client.checker, "fping -q -- %(host)s");
  EXPECT_TRUE(client.enabled && client.approved_by_default);
  EXPECT_EQ(client.timeout, 5min);
  EXPECT_EQ(client.extended_timeout, 15min);
  EXPECT_EQ(client.interval, 2min);
  EXPECT_EQ(client.approval_delay, 0s);
  EXPECT_EQ(client.approval_duration, 1s);
}

TEST_F(ClientsConfTest, ReadsEveryOption) {
  const auto loaded = load(
      "[DEFAULT]\ntimeout = 1h\nhost = %(fingerprint)s\n[x.y-z \xc3\xa9]\nfingerprint = 3e39 "
      "3aeA\n" +
      concat("KEY_ID: ", kOtherKey,
             "\nsecret =\n  0g\n  # a comment\n\n  EB\nextended_timeout = PT2M\n") +
      "interval = 90s\napproval_delay = PT30S\napproval_duration = P1W\napproved_by_default = 0\n"
      "enabled = False\nchecker = c %%(name)s 5%%%%\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, ElementsAre(HasSubstr("host: found \"%(fingerprint)s\"")));
  const auto& client = loaded.clients.at("x.y-z \xc3\xa9");
  EXPECT_EQ(client.key_id, KeyId::parse(kOtherKey));
  EXPECT_EQ(client.fingerprint, "3E393AEA");
  EXPECT_EQ(client.host, "3e39 3aeA");
  EXPECT_EQ(client.checker, "c %(name)s 5%%");
  EXPECT_FALSE(client.enabled || client.approved_by_default);
  EXPECT_EQ(client.timeout, 1h);
  EXPECT_EQ(client.extended_timeout, 2min);
  EXPECT_EQ(client.interval, 90s);
  EXPECT_EQ(client.approval_delay, 30s);
  EXPECT_EQ(client.approval_duration, std::chrono::weeks(1));
}

TEST_F(ClientsConfTest, KnowsTheOptionsThatAnotherRefersTo) {
  const auto loaded =
      load(section("ssh_fingerprint = a/b\nchecker = check %(ssh_fingerprint)s\nstray = 1\n"));
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings,
              ElementsAre(HasSubstr("clients.conf:6: [foo] stray: unknown option")));
  EXPECT_EQ(loaded.clients.at("foo").checker, "check a/b");
}

TEST_F(ClientsConfTest, SuggestsTheOptionThatWasMeant) {
  const auto loaded = load(section("chekcer = true\nhots = a\ntimeouts = 5m\nmy_own = 1\n") +
                           "[DEFAULT]\nintervall = 5m\napproval_duratoin = 5m\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(
      loaded.warnings,
      testing::UnorderedElementsAre(
          HasSubstr(
              ":4: [foo] chekcer: unknown option, ignored; the nearest known one is \"checker\""),
          HasSubstr(":5: [foo] hots: unknown option, ignored; the nearest known one is \"host\""),
          HasSubstr(
              ":6: [foo] timeouts: unknown option, ignored; the nearest known one is \"timeout\""),
          testing::EndsWith(":7: [foo] my_own: unknown option, ignored"),
          HasSubstr(":9: [DEFAULT] intervall: unknown option, ignored; the nearest known one is "
                    "\"interval\""),
          HasSubstr(
              "[DEFAULT] approval_duratoin: unknown option, ignored; the nearest known one is "
              "\"approval_duration\"")));
}

TEST_F(ClientsConfTest, WarnsOfACommentBehindAHost) {
  for (const char* host : {"web.example # the web", "web.example  ;the web"}) {
    EXPECT_THAT(load(section(concat("host = ", host, "\n"))).warnings,
                ElementsAre(testing::EndsWith(concat(
                    ":4: [foo] host: found \"", host,
                    "\", expected a name or an address; a comment needs a line of its own"))));
  }
  EXPECT_THAT(load(section("host = web.example#1\nchecker = true # in the shell\n")).warnings,
              IsEmpty());
}

TEST_F(ClientsConfTest, SaysThatQuotesArePartOfAValue) {
  const std::string hint = "; quotes around a value are part of it";
  for (const char* option :
       {"timeout = \"PT50S\"", "enabled = 'no'", "key_id = \"12ab\"", "secret = \"0gEB\""}) {
    EXPECT_THAT(load(concat("[foo]\n", option, "\n")).problems,
                testing::Contains(testing::EndsWith(hint)))
        << option;
  }
  EXPECT_THAT(load(section("host = \"web.example\"\n")).warnings,
              ElementsAre(testing::EndsWith("expected a name or an address" + hint)));
}

TEST_F(ClientsConfTest, ASectionThatMayBeDefaultIsSaidToBe) {
  for (const char* name : {"Default", "DEFUALT", "default", "DEFAULTS"}) {
    const auto loaded = load(section("") + concat('[', name, "]\ntimeout = PT10M\n"));
    EXPECT_THAT(loaded.problems,
                testing::Contains(testing::EndsWith(concat(
                    ":4: [", name,
                    "] key_id: found nothing, expected 64 hexadecimal digits; or is it meant to "
                    "be [DEFAULT]?"))));
    EXPECT_THAT(loaded.clients, IsEmpty());
  }
}

TEST_F(ClientsConfTest, RefusesATypingErrorInAnOptionThatGuards) {
  for (const auto& [typed, meant] : {std::pair{"enable", "enabled"},
                                     {"enabeld", "enabled"},
                                     {"approve_by_default", "approved_by_default"},
                                     {"approved-by-default", "approved_by_default"},
                                     {"aproval_dely", "approval_delay"}}) {
    const auto expected = concat(typed, ": found an unknown option, expected \"", meant, '"');
    EXPECT_THAT(load(section(concat(typed, " = no\n"))).problems,
                ElementsAre(testing::EndsWith(":4: [foo] " + expected)));
    EXPECT_THAT(load(section("") + "[DEFAULT]\n" + typed + ": 0\n").problems,
                ElementsAre(testing::EndsWith(":5: [DEFAULT] " + expected)));
  }
  // Not one that another option's value needs, nor what differs in more than two characters.
  const auto loaded = load(section("enable = x\nhost = %(enable)s\ndelay = yes\n"));
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, ElementsAre(HasSubstr("[foo] delay: unknown option")));
}

TEST_F(ClientsConfTest, RefusesAnUnknownOptionThatReadsAsAGuard) {
  for (const char* name :
       {"disabled", "approved_default", "approve", "enabled_by_default", "deny_by_default",
        "denied_by_default", "denied", "aprovedbydefault", "appr_delay", "by_default", "allow",
        "allowed", "refuse", "reject", "revoked", "blocked", "stolen"}) {
    EXPECT_THAT(
        load(section(concat(name, " = no\n"))).problems,
        ElementsAre(testing::EndsWith(concat(":4: [foo] ", name,
                                             ": found an unknown option, expected approval_delay, "
                                             "approved_by_default or enabled"))));
    EXPECT_THAT(load(section(concat(name, " = no\nhost = %(", name, ")s\n"))).problems, IsEmpty());
  }
}

TEST_F(ClientsConfTest, SuggestsAShortNameAfterOneEdit) {
  for (const char* name : {"hosts", "hots", "hst", "gost", "ohst"}) {
    EXPECT_THAT(load(section(concat(name, " = x\n"))).warnings,
                ElementsAre(testing::EndsWith("the nearest known one is \"host\"")))
        << name;
  }
  for (const char* name : {"hostage", "shots", "ghosts", "most_", "ho", "thso"}) {
    EXPECT_THAT(load(section(concat(name, " = x\n"))).warnings,
                ElementsAre(testing::EndsWith("unknown option, ignored")))
        << name;
  }
}

TEST_F(ClientsConfTest, AnEditOfASectionShows) {
  const auto of = [this](const std::string& text, const char* name = "foo") {
    const auto loaded = load(text);
    EXPECT_THAT(loaded.problems, IsEmpty());
    return loaded.clients.at(name).section;
  };
  const std::string other = concat("[bar]\nkey_id = ", kOtherKey, "\nsecret = 0gEB\n");
  const auto plain = of(section("host = a\n"));
  EXPECT_NE(plain, decltype(plain){});
  // Neither DEFAULT, nor another section, nor what is only layout.
  EXPECT_EQ(of("[DEFAULT]\ntimeout = PT9M\nenabled = no\nx = y\n" + section("host = a\n")), plain);
  EXPECT_EQ(of(other + section("; a remark\nHOST:  a\n")), plain);
  EXPECT_EQ(of(concat("[foo]\nhost = a\nsecret = 0gEB\nkey_id = ", kKey, "\n")), plain);
  for (const char* text : {"", "host = b\n", "host = a\nx = y\n", "host = a\nx =\n", "hos = ta\n",
                           "host = a\ntimeout = PT5M\n"}) {
    EXPECT_NE(of(section(text)), plain) << text;
  }
  // Nor the content of a secfile.
  const auto path = write("secret", "one");
  const auto filed = of(secret_section("secfile = " + path));
  write("secret", "two");
  EXPECT_EQ(of(secret_section("secfile = " + path)), filed);
}

TEST_F(ClientsConfTest, DecodesBase64) {
  const std::pair<const char*, const char*> cases[] = {
      {"hUE=", "\205A"}, {"hQ==", "\x85"}, {"h U\n  FC", "\205AB"}, {"////", "\xff\xff\xff"}};
  for (const auto& [text, value] : cases) {
    const auto loaded = load(secret_section(concat("secret = ", text)));
    EXPECT_THAT(loaded.problems, IsEmpty()) << text;
    EXPECT_EQ(text_of(loaded.clients.at("foo").secret), value) << text;
  }
}

TEST_F(ClientsConfTest, SaysThatAKeyIdIsTooShortAndThatACommentNeedsALine) {
  EXPECT_THAT(load("[foo]\nsecret = 0gEB\nkey_id = 12ab\n").problems,
              ElementsAre("" + folder_ +
                          "/clients.conf:3: [foo] key_id: found \"12ab\", expected "
                          "64 hexadecimal digits, not 4 characters"));
  EXPECT_THAT(load(section("timeout = PT5M  # five\n")).problems,
              ElementsAre(HasSubstr("\"5m 30s\"; a comment needs a line of its own")));
}

// What Python decodes all the same: the client could not decrypt what is missing.
TEST_F(ClientsConfTest, SaysWhereBase64IsDamaged) {
  const std::pair<const char*, const char*> cases[] = {
      {"!", "damaged base64 at line 3, character 1 of its text"},
      {"hUFC!", "damaged base64 at line 3, character 5 of its text"},
      {"\"hUFC\"", "damaged base64 at line 3, character 1 of its text"},
      {"hUFC\n  hU#FC", "damaged base64 at line 4, character 3 of its text"},
      {"\n  hUFC\n  hUFC\n  =hUFC", "damaged base64 at line 6, character 1 of its text"},
      {"\n  hUFC\n  # a comment\n\n  hU!C", "damaged base64 at line 7, character 3 of its text"},
      {"hUE=hUFC", "damaged base64 at line 3, character 5 of its text"},
      {"hUE==", "damaged base64 at line 3, character 5 of its text"},
      {"h", "base64 that breaks off at line 3, character 2 of its text"},
      {"hQ", "base64 that breaks off at line 3, character 3 of its text"},
      {"hUFC\n  hUE", "base64 that breaks off at line 4, character 4 of its text"},
      {"hUFC\n ; one\n # two\n  hUE\n\n",
       "base64 that breaks off at line 6, character 4 of its text"},
      {"hR==", "damaged base64 at line 3, character 3 of its text"},
      {"%(other)s\nother = hUFC\n  hU!C", "damaged base64 at line 3, character 3 of its text"},
  };
  for (const auto& [text, what] : cases) {
    EXPECT_THAT(load(secret_section(concat("secret = ", text))).problems,
                ElementsAre(AllOf(HasSubstr(concat("clients.conf:3: [foo] secret: found ", what)),
                                  HasSubstr("the client could not decrypt"))))
        << text;
  }
}

// The rules are in openpgp_test.
TEST_F(ClientsConfTest, WarnsOfWhatIsNoOpenPgpMessageAndRefusesOneThatIsCut) {
  for (const char* text : {"0gEB", "hQAOAzEyMzQ1Njc4AWtra2vSAQE="}) {
    const auto loaded = load(secret_section(concat("secret = ", text)));
    EXPECT_THAT(loaded.problems, IsEmpty()) << text;
    EXPECT_THAT(loaded.warnings, IsEmpty()) << text;
  }
  for (const char* text : {"QUJD", "mUFC", "xkFC", "hUFC"}) {
    const auto loaded = load(secret_section(concat("secret = ", text)));
    EXPECT_THAT(loaded.problems, IsEmpty()) << text;
    EXPECT_THAT(loaded.warnings,
                ElementsAre(HasSubstr("[foo] secret: this is not an OpenPGP message")))
        << text;
  }
  for (const char* text : {"hQAOAzEyMzQ1Njc4AWtra2s=", "hQAOAzEyMzQ1Njc4AWtr"}) {
    EXPECT_THAT(
        load(secret_section(concat("secret = ", text))).problems,
        ElementsAre(AllOf(HasSubstr("clients.conf:3: [foo] secret: found an OpenPGP message"),
                          HasSubstr("the client could not decrypt"))))
        << text;
  }
}

TEST_F(ClientsConfTest, TakesSecretsFromOneByteToOneMebibyte) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{1} << 20}) {
    const auto path = write("secret", std::string(size, 'x'));
    const auto loaded = load(secret_section("secfile = " + path));
    EXPECT_THAT(loaded.problems, IsEmpty());
    EXPECT_EQ(loaded.clients.at("foo").secret->bytes().size(), size);
  }
  std::string folded = "secret =";
  for (int i = 0; i < (1 << 20) / 48; ++i) folded += "\n    " + std::string(64, 'h');
  EXPECT_THAT(load(secret_section(folded)).problems, IsEmpty());
  EXPECT_THAT(load(secret_section(folded + "\n " + std::string(64, 'h'))).problems,
              ElementsAre(AllOf(HasSubstr("[foo] secret: "), HasSubstr("1 to 1048576"))));
  write("secret", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(load(secret_section("secfile = " + folder_ + "/secret")).problems,
              ElementsAre(AllOf(HasSubstr("secfile"), HasSubstr("at most 1048576"))));
  write("secret", "");
  EXPECT_THAT(load(secret_section("secfile = " + folder_ + "/secret")).problems,
              ElementsAre(HasSubstr("0 bytes")));
}

TEST_F(ClientsConfTest, FindsSecretFiles) {
  write("secret", "in a file");
  setenv("HOME", folder_.c_str(), 1);
  setenv("MANDOS_TEST_1", folder_.c_str(), 1);
  for (const auto& folder : {folder_, std::string("~"), std::string("$MANDOS_TEST_1"),
                             std::string("${MANDOS_TEST_1}")}) {
    const auto path = folder + "/secret";
    const auto loaded = load(secret_section("secfile = " + path));
    EXPECT_THAT(loaded.problems, IsEmpty()) << path;
    EXPECT_EQ(text_of(loaded.clients.at("foo").secret), "in a file") << path;
  }
  // What cannot be expanded stays.
  for (const char* path :
       {"/~no-such-user/x", "/$MANDOS_TEST_2/x", "/${MANDOS_TEST_1/x", "/x$", "/$/${}/x"}) {
    EXPECT_THAT(load(secret_section(concat("secfile = ", path))).problems,
                ElementsAre(HasSubstr(path)));
  }
  EXPECT_THAT(load(secret_section("secfile = ~root/no-such-file")).problems,
              ElementsAre(AllOf(HasSubstr("/no-such-file"), testing::Not(HasSubstr("~")))));
}

// From the folder of whoever checks, and from that of a server, it would lead to two places.
TEST_F(ClientsConfTest, RefusesASecretFileWithoutItsWholePath) {
  for (const char* path : {"secret", "./secret", "~no-such-user/secret", "etc/secret"}) {
    EXPECT_THAT(load(secret_section(concat("secfile = ", path))).problems,
                ElementsAre(testing::EndsWith(concat(":3: [foo] secfile: found \"", path,
                                                     "\", expected the absolute path of a file"))));
  }
}

// With the root folder among them, a jail would let everything in, and refuse to close.
TEST_F(ClientsConfTest, NotesAFileOfTheRootFolderItself) {
  for (const char* path : {"/no-such-secret", "//no-such-secret", "/x/../no-such-secret"}) {
    EXPECT_THAT(folders_of(load(secret_section(concat("secfile = ", path))).files),
                AllOf(testing::Contains("/no-such-secret"), testing::Not(testing::Contains("/")),
                      testing::Not(testing::Contains("//"))))
        << path;
  }
}

TEST_F(ClientsConfTest, SaysWhatKeepsAKeyIdFromBeingOne) {
  const auto told = [this](const std::string& text) {
    const auto found = load(concat("[foo]\nsecret = 0gEB\nkey_id = ", text, '\n')).problems;
    return found.size() == 1 ? found[0].substr(found[0].find(", expected ")) : "?";
  };
  EXPECT_EQ(told("12 ab"), ", expected 64 hexadecimal digits, not 4 characters");
  EXPECT_EQ(told('O' + std::string(63, '0')),
            ", expected 64 hexadecimal digits; character 1, \"O\", is none");
  EXPECT_EQ(told("00:11"), ", expected 64 hexadecimal digits; character 3, \":\", is none");
  EXPECT_EQ(told(concat('"', kKey, '"')),
            ", expected 64 hexadecimal digits; character 1, \"\\x22\", is none; quotes around a "
            "value are part of it");
}

TEST_F(ClientsConfTest, WarnsOfADenialThatNobodyIsAskedFor) {
  EXPECT_THAT(load(section("approved_by_default = no\n")).warnings,
              ElementsAre(testing::EndsWith(
                  ":4: [foo] approved_by_default: found no approval_delay for a client with it, "
                  "expected one: nobody is asked, and the client gets its secret at once")));
  EXPECT_THAT(load(section("approved_by_default = no\napproval_delay = PT1S\n")).warnings,
              IsEmpty());
  EXPECT_THAT(load(section("approved_by_default = yes\n")).warnings, IsEmpty());
}

TEST_F(ClientsConfTest, WarnsOfACheckThatAlwaysEndsAlike) {
  EXPECT_THAT(
      load(section("checker =\n")).warnings,
      ElementsAre(testing::EndsWith(":4: [foo] checker: found nothing, which always succeeds: "
                                    "a client that is gone would never be noticed")));
  for (const char* checker : {"", "checker = ping -c1 %%(host)s\n"}) {
    write("clients.conf", section(std::string(checker) + "host =\n"));
    EXPECT_THAT(load_clients(folder_).warnings,
                ElementsAre(testing::EndsWith(
                    ":1: [foo] host: found nothing, expected a name or an address, which the "
                    "checker is given: its checks would fail")));
  }
  for (const char* host : {"a.example, b.example", "a b", "10.0.0.1/24", "https://a.example/"}) {
    EXPECT_THAT(load(section(concat("host = ", host, '\n'))).warnings,
                ElementsAre(testing::EndsWith(concat(":4: [foo] host: found \"", host,
                                                     "\", expected a name or an address"))));
  }
  for (const char* host : {"a.example", "10.0.0.1", "fe80::1%%eth0", "a_b-c"}) {
    EXPECT_THAT(load(section(concat("host = ", host, '\n'))).warnings, IsEmpty()) << host;
  }
}

TEST_F(ClientsConfTest, RefusesSecretFilesThatOthersMayRead) {
  const auto path = write("secret", "x", 0644);
  EXPECT_THAT(load(secret_section("secfile = " + path)).problems,
              ElementsAre(AllOf(HasSubstr("clients.conf:3: [foo] secfile"), HasSubstr("0644"))));
}

TEST_F(ClientsConfTest, ASecretGoesBeforeASecretFile) {
  const auto loaded = load(section("secfile = /nowhere\n"));
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, ElementsAre(HasSubstr("[foo] secfile: ")));
  EXPECT_EQ(text_of(loaded.clients.at("foo").secret), "\xd2\1\1");
}

TEST_F(ClientsConfTest, NamesEveryProblemAtOnce) {
  const auto loaded = load(
      "[DEFAULT]\ntimeout = 5\n[a]\nsecret = 0gEB\nenabled = maybe\n[b]\nkey_id = 12\ninterval = "
      "PT0S\n"
      "checker = 100%\nhost = %(nowhere)s\n");
  EXPECT_THAT(
      loaded.problems,
      testing::UnorderedElementsAre(
          AllOf(HasSubstr("clients.conf:2: [DEFAULT] timeout: found \"5\", expected a duration")),
          HasSubstr("clients.conf:3: [a] key_id: found nothing, expected 64 hexadecimal digits"),
          HasSubstr("clients.conf:5: [a] enabled: found \"maybe\", expected 1, yes"),
          HasSubstr("clients.conf:6: [b] secret: found nothing, expected a secret or a secfile"),
          HasSubstr("clients.conf:7: [b] key_id: found \"12\", expected 64"),
          HasSubstr("clients.conf:8: [b] interval: found \"PT0S\", expected at least 1"),
          HasSubstr("clients.conf:9: [b] checker: found a \"%\""),
          HasSubstr("clients.conf:10: [b] host: found %(nowhere)s")));
}

TEST_F(ClientsConfTest, RefusesAnOptionThatCannotBeExpandedThoughItIsUnknown) {
  EXPECT_THAT(load(section("stray = 50%\n")).problems, ElementsAre(HasSubstr("[foo] stray: ")));
}

TEST_F(ClientsConfTest, AKeyIdHasSixtyFourDigits) {
  const std::string digits(kKey);
  const auto problems = [this](const std::string& key_id) {
    return load(concat("[foo]\nkey_id = ", key_id, "\nsecret = QUJD\n")).problems;
  };
  EXPECT_THAT(problems(digits), IsEmpty());
  for (const auto& wrong : {digits.substr(1), digits + '0', "g" + digits.substr(1)}) {
    EXPECT_THAT(problems(wrong), ElementsAre(HasSubstr("64 hexadecimal digits"))) << wrong;
  }
}

TEST_F(ClientsConfTest, AKeyIdBelongsToOneClient) {
  EXPECT_THAT(load(section("") + section("", "bar")).problems,
              ElementsAre(AllOf(HasSubstr("clients.conf:2: [foo] key_id"),
                                HasSubstr("clients.conf:5 [bar]"))));
}

TEST_F(ClientsConfTest, SkipsTheSectionThatHasAnError) {
  const auto good = concat("[good]\nkey_id = ", kOtherKey, "\nsecret = 0gEB\n");
  for (const std::string& bad :
       {std::string("[foo]\nsecret = 0gEB\n"), concat("[foo]\nkey_id = ", kKey, "\n"),
        std::string("[foo]\nkey_id = 12\nsecret = 0gEB\n"), std::string("[foo]\nhost = x\n"),
        section("timeout = soon\n"), section("stray = 50%\n"), section("enabeld = no\n"),
        section("a line\n"), section("= x\n"), section("host = a\nhost = a\n"),
        section("host = \xff\n"), section("# \xff\n"), section("") + section(""),
        section("", "a/b"), secret_section("secret = hUFCR\n"),
        secret_section("secfile = /nowhere\n")}) {
    // Before it and after it.
    for (const auto& content : {good + bad, bad + good}) {
      const auto loaded = load(content);
      EXPECT_THAT(loaded.problems, testing::Not(IsEmpty())) << content;
      EXPECT_EQ(loaded.clients.size(), 1U) << content;
      EXPECT_TRUE(loaded.clients.contains("good")) << content;
    }
  }
  write("clients.d/a.conf", "[good]\n");
  EXPECT_THAT(load(good + section("")).clients, ElementsAre(testing::Key("foo")));
}

TEST_F(ClientsConfTest, ServesNobodyIfTheErrorMayBeOneOfDefault) {
  for (const char* bad :
       {"[DEFAULT]\ntimeout = soon\n", "[DEFAULT]\nenabeld = no\n", "[DEFAULT]\na line\n",
        "[DEFAULT]\nenabled = no\nenabled = no\n", "[DEFAULT\nenabled = no\n",
        "[bar]\nhost = x\n[DEFAULT\nenabled = no\n", "enabled = no\n", "[default]\nenabled = no\n",
        "[DEFUALT]\nenabled = no\n", "[DEFAULT\xff]\nenabled = no\n",
        "[bar]\n[DEFAULT\xff]\nenabled = no\n"}) {
    const auto loaded = load(bad + section(""));
    EXPECT_THAT(loaded.problems, testing::Not(IsEmpty())) << bad;
    EXPECT_THAT(loaded.clients, IsEmpty()) << bad;
  }
  write("clients.d/a.conf", "[DEFAULT]\nenabled = no\n", 0644);
  EXPECT_THAT(load(section("")).clients, IsEmpty());
  std::filesystem::remove(folder_ + "/clients.d/a.conf");
  // Its own value is in force, and that of DEFAULT is not looked at.
  EXPECT_EQ(load("[DEFAULT]\ntimeout = soon\n" + section("timeout = 5m\n")).clients.size(), 1U);
}

TEST_F(ClientsConfTest, ServesNoneOfThoseThatShareAKey) {
  const auto third = concat("[third]\nkey_id = ", kOtherKey, "\nsecret = 0gEB\n");
  const auto loaded =
      load(section("") + section("enabled = no\n", "bar") + section("", "baz") + third);
  EXPECT_EQ(loaded.problems.size(), 2U);
  EXPECT_THAT(loaded.clients, ElementsAre(testing::Key("third")));
}

TEST_F(ClientsConfTest, WarnsOfWhatNeverMatches) {
  const std::string nothing = concat("key_id = ", kKeyIdOfNothing.text(), "\nsecret = 0gEB\n");
  const auto loaded =
      load("[a]\n" + nothing + "[b]\n" + nothing + "[c]\nfingerprint = 12\nsecret = 0gEB\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, ElementsAre(HasSubstr("[a] key_id: "), HasSubstr("[b] key_id: "),
                                           HasSubstr("[c] fingerprint: ")));
  EXPECT_EQ(loaded.clients.at("c").key_id, std::nullopt);
}

TEST_F(ClientsConfTest, WarnsOfACheckerThatCannotRun) {
  const auto loaded = load("[DEFAULT]\nchecker = c %%(nonsense)s\n" + section(""));
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings,
              ElementsAre(AllOf(HasSubstr(":2: [DEFAULT] checker: "), HasSubstr("nonsense"))));
  EXPECT_THAT(load(section("checker = c %%(dbus_object_path)s\n")).warnings, IsEmpty());
}

TEST_F(ClientsConfTest, ListsEachCheckerWithAPlace) {
  const auto listed = [this](const std::string& text) {
    std::vector<std::string> lines;
    for (const auto& [command, users] : load(text).checkers) {
      lines.push_back(concat(command, "; ", users.place, users.others));
    }
    return lines;
  };
  const auto bar = concat("[bar]\nkey_id = ", kOtherKey, "\nsecret = hUFC\n");
  EXPECT_THAT(listed(section("") + bar),
              ElementsAre(concat("fping -q -- %(host)s; ", folder_,
                                 "/clients.conf:4: [bar] checker: (preset) 1")));
  EXPECT_THAT(listed("[DEFAULT]\nchecker = a %%(host)s\n" + section("") + bar + "checker = b\n"),
              ElementsAre(concat("a %(host)s; ", folder_, "/clients.conf:2: [DEFAULT] checker: 0"),
                          concat("b; ", folder_, "/clients.conf:9: [bar] checker: 0")));
}

TEST_F(ClientsConfTest, WarnsOfATimeoutThatEndsBeforeTheNextCheck) {
  const auto says = [](const char* place) {
    return AllOf(HasSubstr(place), HasSubstr("s for a check: a client could be disabled"));
  };
  EXPECT_THAT(load(section("timeout = 1m\n")).warnings,
              ElementsAre(says("clients.conf:4: [foo] timeout: found a timeout of \"1m\", ")));
  EXPECT_THAT(load(section("interval = 5m\n")).warnings,
              ElementsAre(says("clients.conf:4: [foo] interval: found a timeout of \"PT5M\", ")));
  EXPECT_THAT(load("[DEFAULT]\ninterval = 6m\n" + section("")).warnings,
              ElementsAre(says("clients.conf:2: [DEFAULT] interval: ")));
  EXPECT_THAT(load("[DEFAULT]\ntimeout = 1m\n" + section("")).warnings,
              ElementsAre(says("clients.conf:2: [DEFAULT] timeout: found a timeout of \"1m\", ")));
  EXPECT_THAT(
      load(section("extended_timeout = 2s\n")).warnings,
      ElementsAre(
          says("clients.conf:4: [foo] extended_timeout: found an extended_timeout of \"2s\", ")));
  // A check may take 5 s.
  EXPECT_THAT(load(section("timeout = 124s\n")).warnings, SizeIs(1));
  EXPECT_THAT(load(section("timeout = 125s\n")).warnings, IsEmpty());
  EXPECT_THAT(load(section("interval = 296s\n")).warnings, SizeIs(1));
  EXPECT_THAT(load(section("interval = 295s\n")).warnings, IsEmpty());
  // What is no duration has been told, and the default stands.
  EXPECT_THAT(load(section("timeout = x\n")).warnings, IsEmpty());
  EXPECT_THAT(load(section("timeout = soon\ninterval = 1h\n")).warnings, IsEmpty());
  EXPECT_THAT(load(section("timeout = 1m\ninterval = soon\n")).warnings, IsEmpty());
}

TEST_F(ClientsConfTest, RefusesNamesThatNoFileCanHave) {
  for (const std::string& name :
       {std::string("a/b"), std::string(".."), std::string("."), std::string(201, 'x'),
        std::string("a\tb"), std::string("a\x7f")}) {
    EXPECT_THAT(load(section("", name)).problems, ElementsAre(HasSubstr("clients.conf:1: ")))
        << name;
  }
  EXPECT_THAT(load(section("", std::string(200, 'x'))).problems, IsEmpty());
}

TEST_F(ClientsConfTest, ReadsTheFolderInOrderOfName) {
  const auto other = concat("[second]\nkey_id = ", kOtherKey, "\nsecret = 0gEB\n");
  write("clients.conf", "[DEFAULT]\ninterval = 7s\n" + section(""));
  write("clients.d/20.conf", other + "host = %(town)s\n");
  write("clients.d/10.conf", "[DEFAULT]\ntown = here\n");
  write("clients.d/30.conf~", "junk");
  write("clients.d/.40.conf", "junk");
  write("clients.d/.web", "junk");
  write("clients.d/README", "junk");
  write("clients.d/web.conf.disabled", "junk");
  auto loaded = load();
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, IsEmpty());
  EXPECT_EQ(loaded.clients.size(), 2U);
  EXPECT_EQ(loaded.clients.at("second").interval, 7s);
  EXPECT_EQ(loaded.clients.at("second").host, "here");

  write("clients.d/web", "[web]\n");
  write("clients.d/mail.cfg", "[mail]\n");
  loaded = load();
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings,
              testing::UnorderedElementsAre(
                  HasSubstr("clients.d/web: not read, expected a name that ends in .conf"),
                  HasSubstr("clients.d/mail.cfg: not read")));

  write("clients.d/50.conf", section(""));
  write("clients.d/60.conf", "junk", 0604);
  EXPECT_THAT(load().problems, ElementsAre(AllOf(HasSubstr("clients.d/50.conf:1: [foo]"),
                                                 HasSubstr("clients.conf:3")),
                                           AllOf(HasSubstr("60.conf"), HasSubstr("0604"))));
}

TEST_F(ClientsConfTest, WantsAFileOfClients) {
  EXPECT_THAT(load().problems, ElementsAre(HasSubstr(folder_ + "/clients.conf")));
  write("clients.d/a.conf", section(""));
  EXPECT_THAT(load().problems, IsEmpty());
  chmod((folder_ + "/clients.d").c_str(), 0777);
  EXPECT_THAT(load().problems, testing::Contains(AllOf(HasSubstr("clients.d"), HasSubstr("0777"))));
}

TEST_F(ClientsConfTest, RefusesAFolderThatOthersMayWrite) {
  write("clients.conf", section(""));
  for (const mode_t mode : {0777U, 0775U, 01777U}) {
    chmod(folder_.c_str(), mode);
    const auto loaded = load();
    EXPECT_THAT(loaded.problems, ElementsAre(AllOf(testing::StartsWith(folder_ + ": found mode 07"),
                                                   HasSubstr("chmod go-w " + folder_))));
    EXPECT_THAT(loaded.clients, IsEmpty());
  }
  for (const mode_t mode : {0755U, 0711U, 0700U}) {
    chmod(folder_.c_str(), mode);
    EXPECT_THAT(load().problems, IsEmpty());
  }
}

TEST_F(ClientsConfTest, AnEmptySecfileIsNoFile) {
  EXPECT_THAT(load(secret_section("secfile =")).problems,
              ElementsAre(testing::EndsWith(
                  ":3: [foo] secfile: found nothing, expected the absolute path of a file")));
}

// Or their clients would be forgotten, and come back enabled when the links are repaired.
TEST_F(ClientsConfTest, ALinkThatLeadsNowhereIsAnError) {
  namespace fs = std::filesystem;
  const auto expect_refused = [this](const char* link) {
    fs::create_symlink(folder_ + "/away/x", folder_ + "/" + link);
    const auto loaded = load();
    EXPECT_THAT(loaded.problems, ElementsAre(AllOf(HasSubstr(link), HasSubstr("leads nowhere"))));
    EXPECT_THAT(loaded.clients, IsEmpty());
    fs::remove(folder_ + "/" + link);
  };
  write("clients.conf", section(""));
  expect_refused("clients.d");
  write("clients.d/a.conf", "[DEFAULT]\n");
  expect_refused("clients.d/b.conf");
  fs::rename(folder_ + "/clients.conf", folder_ + "/clients.d/c.conf");
  expect_refused("clients.conf");
  EXPECT_EQ(load().clients.size(), 1U);
  // An editor's lock is none of the files.
  fs::create_symlink("somebody@host", folder_ + "/clients.d/.#c.conf");
  EXPECT_THAT(load().problems, IsEmpty());
}

// A reload takes these, and no others, for its jail's doing.
TEST_F(ClientsConfTest, CountsWhatMayNotBeOpened) {
  jail::override_permissions(false);
  const auto denied = [this](std::size_t problems) {
    const auto loaded = load();
    EXPECT_EQ(loaded.problems.size(), problems);
    return loaded.denied;
  };
  write("clients.conf", section("host = %(town)s\n"));
  EXPECT_EQ(denied(1), 0U);
  // What the other file has is no error while it cannot be read.
  const auto other = write("clients.d/a.conf", "[DEFAULT]\ntown = here\n", 0);
  EXPECT_EQ(denied(1), 1U);
  chmod(other.c_str(), 0600);
  EXPECT_EQ(denied(0), 0U);
  chmod((folder_ + "/clients.d").c_str(), 0);
  EXPECT_EQ(denied(1), 1U);
  chmod((folder_ + "/clients.d").c_str(), 0700);
  // Of a file that all of them name it is said once.
  const auto secret = write("secret", "x", 0);
  write("clients.conf", concat("[DEFAULT]\nsecfile = ", secret, "\n[a]\nkey_id = ", kKey,
                               "\n[b]\nkey_id = ", kOtherKey, "\n"));
  EXPECT_EQ(denied(1), 1U);
  write("clients.conf", secret_section("secfile = " + secret) + "timeout = soon\n");
  EXPECT_EQ(denied(2), 1U);
  write("clients.conf", secret_section("secfile = " + secret + ".none"));
  EXPECT_EQ(denied(1), 0U);
  jail::override_permissions(true);
}

TEST_F(ClientsConfTest, StartsWithoutClients) {
  const auto loaded = load("[DEFAULT]\n;timeout = PT5M\n");
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.warnings, ElementsAre(HasSubstr("found no client, expected")));
}

TEST_F(ClientsConfTest, RefusesAFileThatOthersMayRead) {
  write("clients.conf", section(""), 0644);
  EXPECT_THAT(load().problems, ElementsAre(AllOf(HasSubstr("clients.conf"), HasSubstr("0644"))));
}

TEST_F(ClientsConfTest, ShowsNoSecret) {
  const auto loaded = load(
      "[foo]\nkey_id = x\nhQIOA6QdEjBs2LHEAf\nsecret = hQIOA6QdEjBs2LHEAfQ%\ntimeout = "
      "%(secret)s\n");
  EXPECT_GE(loaded.problems.size(), 3U);
  for (const auto& problem : loaded.problems)
    EXPECT_EQ(problem.find("QIOA"), problem.npos) << problem;
}

}  // namespace
}  // namespace mandos::monitor
