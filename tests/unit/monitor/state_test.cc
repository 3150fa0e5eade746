// SPDX-License-Identifier: GPL-3.0-or-later
// The state directory, with a real one of its own for each test. Those of a disk that is full or
// read-only need root, for a mount name space.
#include "monitor/state.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/sanitized.h"
#include "tests/support/save_now.h"

namespace mandos::monitor {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uid_t kStranger = 12345;

SecretPtr secret(std::string_view bytes) { return std::make_shared<const Secret>(as_bytes(bytes)); }

Saved saved(const std::string& name, int status = 0, SecretPtr own = nullptr) {
  Saved made;
  made.client.set_version(1);
  made.client.set_name(name);
  made.client.set_last_checker_status(status);
  made.client.mutable_current()->set_host("host.example");
  made.client.set_own_secret(own != nullptr);
  made.secret = std::move(own);
  return made;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class State : public testing::Test {
 protected:
  State() {
    std::string name = (fs::temp_directory_path() / "state.XXXXXX").native();
    top_ = mkdtemp(name.data());
    path_ = top_ / "mandos";
    known_ = path_ / "%python-state-is-known.client";
  }
  ~State() override { fs::remove_all(top_); }

  /// As a new start finds it; warnings_ are its warnings, stops_ is why it does not go on.
  StateStore open(bool read = true) {
    warnings_.clear();
    stops_.clear();
    auto opened = StateStore::open(path_, read, warnings_);
    if (opened) return std::move(*opened);
    stops_ = opened.error();
    return StateStore(stops_);
  }
  std::map<std::string, Saved> load() {
    const auto store = open();
    return stops_.empty() ? load_more(store) : std::map<std::string, Saved>();
  }
  std::map<std::string, Saved> load(const StateStore& store) {
    warnings_.clear();
    return load_more(store);
  }
  std::map<std::string, Saved> load_more(const StateStore& store) {
    stops_.clear();
    damaged_.clear();
    auto loaded = store.load(warnings_);
    if (!loaded) {
      stops_ = loaded.error();
      return {};
    }
    damaged_ = loaded->damaged;
    return std::move(loaded->clients);
  }
  Status save(const Saved& one) { return test::save(open(), std::span(&one, 1)); }
  fs::path file(const std::string& client) const { return path_ / state_file_name(client); }
  fs::path aside(const std::string& client) const {
    return path_ / (state_file_name(client) + ".damaged");
  }

  /// `client`'s file was read and is damaged: it is set aside, its client is named at this start
  /// and, until it is saved again, at the next, and the file is in nobody's way.
  void expect_damaged(const std::string& client) {
    EXPECT_THAT(load(), IsEmpty());
    EXPECT_EQ(stops_, "");
    EXPECT_THAT(warnings_, ElementsAre(AllOf(HasSubstr(file(client).native()), HasSubstr("damaged"),
                                             HasSubstr("kept as"))));
    EXPECT_THAT(damaged_, ElementsAre(state_file_name(client)));
    EXPECT_TRUE(fs::exists(aside(client)));
    EXPECT_FALSE(fs::exists(file(client)));
    EXPECT_THAT(load(), IsEmpty());
    EXPECT_THAT(warnings_, IsEmpty());
    EXPECT_THAT(damaged_, ElementsAre(state_file_name(client)));
    EXPECT_TRUE(save(saved(client, 7)));
    EXPECT_EQ(load().at(client).client.last_checker_status(), 7);
    EXPECT_THAT(damaged_, IsEmpty());
  }
  /// `client`'s file is there and cannot be used: that stops the start, with the reason, as often
  /// as it is tried, and nothing is touched. A start without restoring sets it aside.
  void expect_stop(const std::string& client, const char* why) {
    for (int i = 0; i < 2; ++i) {
      EXPECT_THAT(load(), IsEmpty());
      EXPECT_THAT(stops_, AllOf(HasSubstr(file(client).native()), HasSubstr(why)));
      EXPECT_TRUE(fs::exists(fs::symlink_status(file(client))));
    }
    const auto store = open(false);
    EXPECT_EQ(stops_, "");
    EXPECT_TRUE(store.set_all_aside(warnings_));
    EXPECT_THAT(warnings_, testing::Contains(HasSubstr(".unrestored")));
    EXPECT_FALSE(fs::exists(fs::symlink_status(file(client))));
    EXPECT_TRUE(fs::exists(fs::symlink_status(file(client).native() + ".unrestored")));
    EXPECT_THAT(load(store), IsEmpty());
    EXPECT_EQ(stops_, "");
    fs::remove_all(file(client).native() + ".unrestored");
  }

  fs::path top_;
  fs::path path_;
  fs::path known_;  // says that the Python server's state was seen
  std::vector<std::string> warnings_;
  std::string stops_;
  std::set<std::string> damaged_;
};

TEST_F(State, ADirectoryIsMade) {
  EXPECT_THAT(load(), IsEmpty());
  EXPECT_THAT(warnings_, IsEmpty());
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, S_IFDIR | 0700U);
  EXPECT_EQ(status.st_uid, geteuid());
}

TEST_F(State, RoundTrip) {
  std::string binary("\0\x01\xff\n blob", 9);
  const std::string large(1 << 20, 's');
  ASSERT_TRUE(save(saved("plain", -2)));
  ASSERT_TRUE(save(saved("own", 3, secret(binary))));
  ASSERT_TRUE(save(saved("empty", 4, secret(""))));
  ASSERT_TRUE(save(saved("large", 5, secret(large))));
  auto loaded = load();
  EXPECT_THAT(warnings_, IsEmpty());
  ASSERT_EQ(loaded.size(), 4U);
  for (const auto& [name, status, own] :
       std::vector<std::tuple<std::string, int, std::optional<std::string>>>{
           {"plain", -2, std::nullopt},
           {"own", 3, binary},
           {"empty", 4, ""},
           {"large", 5, large}}) {
    const Saved& found = loaded.at(name);
    EXPECT_EQ(found.client.SerializeAsString(),
              saved(name, status, own ? secret(*own) : nullptr).client.SerializeAsString());
    ASSERT_EQ(found.secret != nullptr, own.has_value()) << name;
    if (own) {
      EXPECT_TRUE(std::ranges::equal(found.secret->bytes(), as_bytes(*own))) << name;
    }
    struct stat status_of {};
    ASSERT_EQ(stat(file(name).c_str(), &status_of), 0);
    EXPECT_EQ(status_of.st_mode, S_IFREG | 0600U);
  }
}

TEST_F(State, NewReplacesOldAndLeavesNothingElse) {
  for (int status = 0; status < 5; ++status) {
    ASSERT_TRUE(save(saved("one", status, status == 2 ? secret("longer for once") : nullptr)));
    EXPECT_EQ(load().at("one").client.last_checker_status(), status);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), {}), 1);
}

TEST_F(State, ManyAtOnce) {
  std::vector<Saved> many;
  for (int i = 0; i < 100; ++i) many.push_back(saved("client" + std::to_string(i), i));
  ASSERT_TRUE(test::save(open(), many));
  auto loaded = load();
  ASSERT_EQ(loaded.size(), 100U);
  EXPECT_EQ(loaded.at("client57").client.last_checker_status(), 57);
  EXPECT_TRUE(test::save(open(), std::span<const Saved>()));
}

TEST_F(State, Remove) {
  ASSERT_TRUE(save(saved("one")));
  ASSERT_TRUE(save(saved("two")));
  EXPECT_TRUE(test::remove(open(), "one"));
  EXPECT_TRUE(test::remove(open(), "never there"));
  EXPECT_EQ(load().size(), 1U);
  EXPECT_FALSE(fs::exists(file("one")));
}

TEST_F(State, EveryNameHasAFileOfItsOwn) {
  std::string all_bytes;
  for (int byte = 1; byte < 256; ++byte) all_bytes += static_cast<char>(byte);
  std::vector<std::string> names{"a",
                                 "A",
                                 "a.client",
                                 "a.client.new",
                                 "a.client.damaged",
                                 "%61",
                                 "%",
                                 "a%",
                                 ".",
                                 "..",
                                 "../a",
                                 "/etc/passwd",
                                 "",
                                 " ",
                                 "a b",
                                 "ä",
                                 "clients.pickle",
                                 "a\nb",
                                 all_bytes};
  // Names so long that they are cut, which differ where they are cut off.
  for (const char* last : {"x", "y"}) {
    names.push_back(std::string(200, 'n') + last);
    names.push_back(std::string(70, '\xe4') + last);
    names.push_back(last + std::string(5000, 'n'));
  }
  std::set<std::string> files;
  for (const auto& name : names) {
    const std::string made = state_file_name(name);
    EXPECT_TRUE(files.insert(made).second) << name;
    EXPECT_EQ(made.find('/'), std::string::npos) << name;
    EXPECT_LE((made + ".damaged").size(), 255U) << name;
    EXPECT_TRUE(made.ends_with(".client"));
    // Names of bytes that are no UTF-8 too.
    EXPECT_TRUE(save(saved(name))) << name;
  }
  const auto loaded = load();
  EXPECT_THAT(warnings_, IsEmpty());
  for (const auto& name : names) EXPECT_TRUE(loaded.contains(name)) << name;
  EXPECT_EQ(loaded.size(), names.size());
}

TEST_F(State, TornAtEveryLength) {
  ASSERT_TRUE(save(saved("one", 1, secret("some secret bytes"))));
  const std::string whole = read_file(file("one"));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    SCOPED_TRACE(length);
    write_file(file("one"), std::string_view(whole).substr(0, length));
    ASSERT_THAT(load(), IsEmpty());
    ASSERT_EQ(warnings_.size(), 1U);
    ASSERT_THAT(damaged_, ElementsAre("one.client"));
    fs::remove(aside("one"));
    // The same with the room for the rest, as some file systems leave it.
    write_file(file("one"), whole.substr(0, length) + std::string(whole.size() - length, '\0'));
    if (read_file(file("one")) != whole) {
      ASSERT_THAT(load(), IsEmpty());
    }
    fs::remove(aside("one"));
  }
  write_file(file("one"), whole + "x");
  expect_damaged("one");
}

TEST_F(State, EveryBitCounts) {
  ASSERT_TRUE(save(saved("one", 1, secret("secret"))));
  ASSERT_TRUE(save(saved("other", 2)));
  const std::string whole = read_file(file("one"));
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    write_file(file("one"), flipped);
    const auto loaded = load();
    ASSERT_EQ(loaded.size(), 1U) << bit;
    ASSERT_EQ(loaded.count("other"), 1U) << bit;
    ASSERT_EQ(warnings_.size(), 1U) << bit;
    ASSERT_THAT(damaged_, ElementsAre("one.client"));
    EXPECT_THAT(warnings_[0], testing::Not(HasSubstr("secret")));
  }
}

/// A file whose checksum is right.
std::string with_checksum(std::string content) {
  const auto digest = sha256({as_bytes(content)});
  return std::string(digest.begin(), digest.end()) + content;
}

TEST_F(State, RightChecksumOfWrongContent) {
  open();
  const std::string message = saved("one").client.SerializeAsString();
  const auto length = [](std::uint32_t value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const auto size = static_cast<std::uint32_t>(message.size());
  // It was not damaged: another version may have had another layout.
  for (const auto& content :
       {length(size + 1) + message, length(0xffffffff) + message, length(size - 1) + message,
        length(3) + "\xff\xff\xff", std::string("\1\0\0", 3), std::string()}) {
    write_file(file("one"), with_checksum(content));
    expect_stop("one", "written by another version");
  }
  for (const auto& [content, why] : std::vector<std::pair<std::string, const char*>>{
           {length(0), "version 0"},
           {length(2) + "\x08\x02", "version 2, expected 1"},
           {length(2) + "\x08\x01", "the state of client \"\""}}) {
    write_file(file("one"), with_checksum(content));
    expect_stop("one", why);
  }
  write_file(file("one"), with_checksum(length(size) + message));
  EXPECT_EQ(load().size(), 1U);
}

// The clock since boot says nothing of what another boot saved.
TEST_F(State, AnotherBoot) {
  Saved one = saved("one");
  one.client.set_saved_since_boot(5);
  ASSERT_TRUE(save(one));
  EXPECT_EQ(load().at("one").client.saved_since_boot(), 5);
  EXPECT_EQ(load().at("one").client.boot_id(), "");
  for (const char* boot : {"", "00000000-0000-4000-8000-000000000000"}) {
    one.client.set_boot_id(boot);
    const std::string message = one.client.SerializeAsString();
    const auto size = static_cast<std::uint32_t>(message.size());
    write_file(file("one"),
               with_checksum(std::string(reinterpret_cast<const char*>(&size), 4) + message));
    EXPECT_FALSE(load().at("one").client.has_saved_since_boot());
    EXPECT_EQ(load().at("one").client.boot_id(), "");
  }
}

TEST_F(State, AnotherClientsFile) {
  ASSERT_TRUE(save(saved("two")));
  fs::rename(file("two"), file("one"));
  expect_stop("one", "the state of client \"two\", whose file is two.client");
}

TEST_F(State, LinksAreNotFollowed) {
  ASSERT_TRUE(save(saved("one")));
  fs::rename(file("one"), top_ / "elsewhere");
  fs::create_symlink(top_ / "elsewhere", file("one"));
  expect_stop("one", "symbolic link");
  EXPECT_TRUE(fs::exists(top_ / "elsewhere"));
}

TEST_F(State, ALinkIsReplacedNotWrittenThrough) {
  const auto store = open();
  write_file(top_ / "victim", "mine");
  const auto temporary = fs::path(file("one").native() + ".new");
  for (const auto& place : {file("one"), temporary}) {
    fs::create_symlink(top_ / "victim", place);
    const std::array one{saved("one")};
    EXPECT_TRUE(test::save(store, one));
    fs::create_hard_link(top_ / "victim", temporary);
    EXPECT_TRUE(test::save(store, one));
    EXPECT_EQ(read_file(top_ / "victim"), "mine");
    EXPECT_EQ(load(store).size(), 1U);
    fs::remove(file("one"));
  }
}

TEST_F(State, APipeASocketAFolder) {
  open();
  ASSERT_EQ(mkfifo(file("one").c_str(), 0600), 0);
  expect_stop("one", "not a file");
  ASSERT_TRUE(fs::create_directory(file("one")));
  expect_stop("one", "not a file");

  const UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(file("one").native().size(), sizeof address.sun_path);
  std::ranges::copy(file("one").native(), address.sun_path);
  ASSERT_EQ(bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  expect_stop("one", "cannot be opened");
}

TEST_F(State, AFileThatOthersMayWrite) {
  ASSERT_TRUE(save(saved("one")));
  fs::permissions(file("one"), fs::perms(0620));
  expect_stop("one", "others than its owner may write it");
}

#ifndef MANDOS_SANITIZED  // which needs the memory
TEST_F(State, WithoutDescriptorsOrMemoryNothingIsDamaged) {
  ASSERT_TRUE(save(saved("one", 1, secret(std::string(4 << 20, 's')))));
  const auto store = open();
  for (const auto& [which, most, why] :
       {std::tuple(RLIMIT_NOFILE, rlim_t{0}, "Too many open files"),
        std::tuple(RLIMIT_AS, rlim_t{1 << 20}, "memory")}) {
    rlimit before{};
    ASSERT_EQ(getrlimit(which, &before), 0);
    rlimit limit = before;
    limit.rlim_cur = most;
    ASSERT_EQ(setrlimit(which, &limit), 0);
    const auto refused = store.load(warnings_);
    ASSERT_EQ(setrlimit(which, &before), 0);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error(), HasSubstr(why));
  }
  EXPECT_TRUE(fs::exists(file("one")));
  EXPECT_EQ(load(store).size(), 1U);
}
#endif

TEST_F(State, AProblemIsSaidWithTheNumberOfOthers) {
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(save(saved(name)));
    fs::permissions(file(name), fs::perms(0602));
  }
  EXPECT_THAT(load(), IsEmpty());
  EXPECT_THAT(stops_, HasSubstr("(and 2 more like it)"));
}

TEST_F(State, TooSmallAndTooLarge) {
  open();
  write_file(file("one"), "");
  expect_damaged("one");
  fs::remove(file("one"));
  fs::remove(aside("one"));
  write_file(file("one"), "");
  ASSERT_EQ(truncate(file("one").c_str(), off_t{1} << 40), 0);  // sparse
  expect_stop("one", "1099511627776 bytes, expected at most");
  auto large = saved("large");
  large.client.mutable_current()->set_checker(std::string(17 << 20, 'x'));
  const auto refused = save(large);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), HasSubstr("too large"));
  EXPECT_FALSE(load().contains("large"));
}

TEST_F(State, SetAsideTwice) {
  open();
  write_file(file("one"), std::string(100, 'a'));
  expect_damaged("one");
  write_file(file("one"), std::string(100, 'b'));
  expect_damaged("one");
  EXPECT_EQ(read_file(aside("one").native() + ".unrestored"), std::string(100, 'b'));
}

// A file that is deleted makes its client a new one, whatever happened to it before.
TEST_F(State, DamageIsForgottenOnceTheClientWasSavedAndRestored) {
  open();
  write_file(file("one"), "x");
  expect_damaged("one");
  EXPECT_EQ(load().size(), 1U);
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_EQ(read_file(aside("one").native() + ".unrestored"), "x") << "still kept";
  fs::remove(file("one"));
  EXPECT_THAT(load(), IsEmpty());
  EXPECT_THAT(damaged_, IsEmpty());
}

TEST_F(State, WhatCannotBeSetAsideIsLeft) {
  ASSERT_TRUE(save(saved("two")));
  write_file(file("one"), "x");
  ASSERT_TRUE(fs::create_directories(aside("one") / "full"));
  EXPECT_EQ(load().size(), 1U);
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("the file is left: ")));
  EXPECT_THAT(damaged_, ElementsAre("one.client"));
}

TEST_F(State, HalfWrittenFilesAreRemoved) {
  ASSERT_TRUE(save(saved("one")));
  write_file(file("one").native() + ".new", "half");
  write_file(file("two").native() + ".new", "half");
  EXPECT_EQ(load().size(), 1U);
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), {}), 1);
}

TEST_F(State, FilesOfOthersAreNamedAndLeft) {
  ASSERT_TRUE(save(saved("one")));
  write_file(path_ / "clients.pickle", "pickled");
  write_file(path_ / "notes\n", "mine");
  EXPECT_EQ(load().size(), 1U);
  EXPECT_THAT(warnings_, testing::UnorderedElementsAre(
                             AllOf(HasSubstr("clients.pickle"), HasSubstr("not read")),
                             AllOf(HasSubstr("notes\\x0a"), HasSubstr("left alone"))));
  EXPECT_EQ(read_file(path_ / "clients.pickle"), "pickled");
  EXPECT_EQ(read_file(path_ / "notes\n"), "mine");
  // Once: later starts know.
  warnings_.clear();
  EXPECT_EQ(load().size(), 1U);
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("notes\\x0a")));
  EXPECT_NE(known_.filename().native(), state_file_name(known_.stem().native())) << "no client's";
}

// Whoever owns the directory: the unit makes it root's before the server looks.
TEST_F(State, ThePythonServersStateAloneStopsTheStart) {
  fs::create_directory(path_);
  ASSERT_EQ(chmod(path_.c_str(), 0700), 0);
  write_file(path_ / "clients.pickle", "pickled");
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(load(), IsEmpty());
    EXPECT_THAT(stops_, AllOf(HasSubstr("clients.pickle"), HasSubstr("mandos-import-state")));
  }
  // What is carried over is state of ours.
  write_file(file("one"), "damaged");
  load();
  EXPECT_EQ(stops_, "");
  EXPECT_THAT(damaged_, ElementsAre("one.client"));
}

TEST_F(State, AStartThatWentOnWithoutThePythonServersStateIsRemembered) {
  fs::create_directory(path_);
  ASSERT_EQ(chmod(path_.c_str(), 0700), 0);
  EXPECT_TRUE(open(true).set_all_aside(warnings_));
  EXPECT_FALSE(fs::exists(known_)) << "there is none";
  write_file(path_ / "clients.pickle", "pickled");
  // Before anything is saved the monitor may die; and the last client may be removed.
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(open(false).set_all_aside(warnings_));
    EXPECT_THAT(warnings_, IsEmpty()) << "that start was told to";
    EXPECT_TRUE(fs::exists(known_));
    EXPECT_THAT(load(), IsEmpty());
    EXPECT_EQ(stops_, "");
    EXPECT_THAT(damaged_, IsEmpty());
    EXPECT_THAT(warnings_, IsEmpty()) << "it is known";
  }
  // There and back: whoever deletes our state has the next start look again.
  fs::remove(known_);
  load();
  EXPECT_THAT(stops_, HasSubstr("clients.pickle"));
  // A start with state of ours remembers it, too.
  ASSERT_TRUE(open(false).set_all_aside(warnings_));
  fs::remove(known_);
  write_file(file("one"), "damaged");
  load();
  EXPECT_TRUE(fs::exists(known_));
}

// What a fresh monitor needs, as one that serves sees it.
TEST_F(State, ALookFindsWhatWouldStopAStart) {
  const auto look = [](const StateStore& store) {
    const Status good = store.look();
    return good ? "" : good.error();
  };
  {
    const auto store = open();
    const std::array one{saved("one")};
    ASSERT_TRUE(test::save(store, one));
    write_file(file("two"), "damaged");
    write_file(path_ / "notes", "mine");
    write_file(file("three").native() + ".new", "half");
    EXPECT_EQ(look(store), "");
    EXPECT_EQ(std::distance(fs::directory_iterator(path_), {}), 4) << "nothing is changed";
    fs::create_symlink("one.client", file("link"));
    EXPECT_THAT(look(store), AllOf(HasSubstr(file("link").native()), HasSubstr("symbolic link")));
    fs::remove(file("link"));
    ASSERT_EQ(chmod(path_.c_str(), 0770), 0);
    EXPECT_THAT(look(store), HasSubstr("not the directory of this server any more"));
    ASSERT_EQ(chmod(path_.c_str(), 0700), 0);
    EXPECT_EQ(look(store), "");
    fs::rename(path_, top_ / "elsewhere");
    EXPECT_THAT(look(store), HasSubstr("not the directory of this server any more"));
    fs::create_symlink(top_ / "elsewhere", path_);
    EXPECT_THAT(look(store), HasSubstr("not the directory of this server any more"));
    fs::remove(path_);
    fs::create_directory(path_);
    EXPECT_THAT(look(store), HasSubstr("not the directory of this server any more"));
  }
  EXPECT_EQ(look(StateStore("started without")), "");
}

TEST_F(State, ADirectoryOpenToOthersIsClosed) {
  fs::create_directory(path_);
  for (const mode_t mode : {0775U, 0755U, 0711U}) {
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    open();
    struct stat status {};
    ASSERT_EQ(stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode, S_IFDIR | 0700U);
  }
}

TEST_F(State, ALookBeforeAStartMakesNothingOurs) {
  fs::create_directory(path_);
  for (const mode_t mode : {0770U, 0755U}) {
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    std::vector<std::string> warnings;
    EXPECT_TRUE(StateStore::open(path_, true, warnings, nullptr, true));
    struct stat status {};
    ASSERT_EQ(stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode, S_IFDIR | mode);
  }
}

// What others could write is not trusted, although the directory and the files are ours.
TEST_F(State, FilesInADirectoryThatOthersMayWriteStopTheStart) {
  ASSERT_TRUE(save(saved("one")));
  for (const mode_t mode : {0770U, 0702U, 01777U}) {
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    for (int i = 0; i < 2; ++i) {
      EXPECT_THAT(load(), IsEmpty());
      EXPECT_THAT(stops_, AllOf(HasSubstr(file("one").native()), HasSubstr("others may write")));
      struct stat status {};
      ASSERT_EQ(stat(path_.c_str(), &status), 0);
      EXPECT_EQ(status.st_mode, S_IFDIR | mode);
    }
  }
  const auto store = open(false);
  EXPECT_TRUE(store.set_all_aside(warnings_));
  EXPECT_THAT(load(store), IsEmpty());
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, S_IFDIR | 0700U);
}

TEST_F(State, WithoutADirectorySavingSaysWhy) {
  const std::array one{saved("one")};
  const auto expect_none = [&](const char* why) {
    const auto store = open();
    EXPECT_THAT(stops_, AllOf(HasSubstr(path_.native()), HasSubstr(why)));
    const auto refused = test::save(store, one);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error(), AllOf(HasSubstr(path_.native()), HasSubstr(why)));
    EXPECT_FALSE(test::remove(store, "one"));
  };
  path_ = top_ / "no" / "parent";
  expect_none("No such file");
  path_ = top_ / "file";
  write_file(path_, "x");
  expect_none("found a file, expected a directory");
  path_ = top_ / "link";
  fs::create_directory(top_ / "real");
  fs::create_symlink(top_ / "real", path_);
  expect_none("found a symbolic link, expected a directory");
  path_ = (top_ / "link").native() + "/";
  open();
  EXPECT_THAT(stops_, HasSubstr("symbolic link"));
  EXPECT_FALSE(test::save(StateStore("no directory"), one));
}

TEST_F(State, OneServerADirectory) {
  const auto store = open();
  const std::array one{saved("one")};
  const auto second = open();
  EXPECT_THAT(stops_, AllOf(HasSubstr("another server"), HasSubstr("--statedir")));
  EXPECT_FALSE(test::save(second, one));
  // Which is told from all else, since then nothing helps.
  bool in_use = false;
  EXPECT_FALSE(StateStore::open(path_, false, warnings_, &in_use));
  EXPECT_TRUE(in_use);
  in_use = false;
  EXPECT_FALSE(StateStore::open(top_ / "no" / "parent", false, warnings_, &in_use));
  EXPECT_FALSE(in_use);
  EXPECT_TRUE(test::save(store, one));
}

TEST_F(State, ADirectoryThatVanishes) {
  const auto store = open();
  fs::remove(path_);
  const std::array one{saved("one")};
  EXPECT_FALSE(test::save(store, one));
}

TEST_F(State, SavingOneCostsTheSameBesideTenThousand) {
  // Where fsync costs nothing, so that the directory's size would show.
  path_ = fs::path("/dev/shm") / top_.filename();
  if (!fs::is_directory(path_.parent_path())) GTEST_SKIP() << "no /dev/shm";
  const auto store = open();
  const std::array one{saved("one")};
  test::PatientDisk disk(store);
  const auto cost = [&] {
    // The least: whatever else the machine does can only add to it.
    auto least = std::chrono::steady_clock::duration::max();
    for (int i = 0; i < 601; ++i) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_TRUE(disk.save(one));
      least = std::min(least, std::chrono::steady_clock::now() - start);
    }
    return least;
  };
  const auto alone = cost();
  std::vector<Saved> many;
  for (int i = 0; i < 10000; ++i) many.push_back(saved("client" + std::to_string(i)));
  EXPECT_TRUE(test::save(store, many));
  const auto beside = cost();
  EXPECT_EQ(load(store).size(), 10001U);
  fs::remove_all(path_);
  EXPECT_LT(beside, alone * 3 / 2);
}

// A process that saves is killed at random moments: what it had confirmed is there.
TEST_F(State, KilledAtAnyMoment) {
  constexpr int kRuns = 100;
  std::mt19937 random(1);
  // Made here: the processes share the memory for secrets, so only one may allocate from it.
  const auto own = secret("own");
  int confirmed_runs = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::array<int, 2> pipe_fds{};
    ASSERT_EQ(pipe(pipe_fds.data()), 0);
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      const auto store = open();
      test::PatientDisk disk(store);
      for (int status = 1;; ++status) {
        std::vector<Saved> some;
        for (int i = 0; i < (status % 4 == 0 ? 10 : 1); ++i) {
          some.push_back(saved("client" + std::to_string(i), status, own));
        }
        if (!disk.save(some) || write(pipe_fds[1], &status, sizeof status) < 0) _exit(1);
      }
    }
    close(pipe_fds[1]);
    usleep(static_cast<useconds_t>(random() % 50000));
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    int confirmed = 0;
    for (int status = 0; read(pipe_fds[0], &status, sizeof status) > 0;) confirmed = status;
    close(pipe_fds[0]);
    const auto loaded = load();
    EXPECT_THAT(warnings_, IsEmpty());
    if (confirmed > 0) {
      ++confirmed_runs;
      const int found = loaded.at("client0").client.last_checker_status();
      EXPECT_TRUE(found == confirmed || found == confirmed + 1) << found << " " << confirmed;
    }
    fs::remove_all(path_);
  }
  EXPECT_GT(confirmed_runs, kRuns / 10);
}

class StateAsRoot : public State {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
  /// A small file system of our own at path_, in a mount name space of our own.
  void mount_small() {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "no mount name space";
    }
    fs::create_directory(path_);
    ASSERT_EQ(mount("none", path_.c_str(), "tmpfs", 0, "size=128k,mode=0700"), 0);
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) {
      EXPECT_EQ(umount(path_.c_str()), 0);
    }
  }
  bool mounted_ = false;
};

TEST_F(StateAsRoot, TakenOverFromTheOriginal) {
  fs::create_directory(path_);
  write_file(path_ / "clients.pickle", "pickled");
  ASSERT_EQ(chown(path_.c_str(), kStranger, kStranger), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0750), 0);
  EXPECT_THAT(load(), IsEmpty());
  EXPECT_THAT(stops_, AllOf(HasSubstr("clients.pickle"), HasSubstr("mandos-import-state")));
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kStranger) << "left as it was";
  // Without the saved state, or once there is none of the original's.
  open(false);
  EXPECT_EQ(stops_, "");
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("taken over from user 12345")));
  ASSERT_EQ(chown(path_.c_str(), kStranger, kStranger), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0750), 0);
  fs::remove(path_ / "clients.pickle");
  fs::remove(known_);
  EXPECT_THAT(load(), IsEmpty());
  EXPECT_EQ(stops_, "");
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, S_IFDIR | 0700U);
  EXPECT_EQ(status.st_uid, 0U);
  EXPECT_EQ(status.st_gid, 0U);
  EXPECT_TRUE(save(saved("one")));
  EXPECT_EQ(load().size(), 1U);
}

// What a checker of the original could have planted, whoever it belongs to now.
TEST_F(StateAsRoot, ClientsFilesInAStrangersDirectoryStopTheStart) {
  ASSERT_TRUE(save(saved("one")));
  write_file(path_ / "clients.pickle", "pickled");
  ASSERT_EQ(chown(path_.c_str(), kStranger, kStranger), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(load(), IsEmpty());
    EXPECT_THAT(stops_, AllOf(HasSubstr(file("one").native()), HasSubstr("user 12345"),
                              HasSubstr("remove it, or chown")));
    struct stat status {};
    ASSERT_EQ(stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, kStranger);
  }
  const auto store = open(false);
  EXPECT_EQ(stops_, "");
  EXPECT_TRUE(store.set_all_aside(warnings_));
  EXPECT_THAT(load(store), IsEmpty());
  EXPECT_FALSE(fs::exists(file("one")));
}

// If the start fails for another reason, the next one must not take the directory for ours.
TEST_F(StateAsRoot, AStrangersDirectoryThatCannotBeListedStaysTheirs) {
  fs::create_directory(path_);
  ASSERT_EQ(chown(path_.c_str(), kStranger, kStranger), 0);
  // Opening the directory takes the last descriptor that there may be.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = static_cast<rlim_t>(UniqueFd(dup(0)).get()) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  open();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(stops_, HasSubstr("cannot be listed: Too many open files"));
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kStranger);
}

TEST_F(StateAsRoot, FilesOfAStrangerAreNotRead) {
  ASSERT_TRUE(save(saved("one")));
  ASSERT_EQ(chown(file("one").c_str(), kStranger, kStranger), 0);
  expect_stop("one", "belongs to user 12345");
}

TEST_F(StateAsRoot, AStrangersDirectoryThatCannotBeTakenOver) {
  fs::create_directory(path_);
  ASSERT_EQ(chown(path_.c_str(), kStranger, kStranger), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0755), 0);
  ASSERT_EQ(chmod(top_.c_str(), 0755), 0);
  ASSERT_EQ(seteuid(kStranger + 1), 0);
  open();
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_THAT(stops_, HasSubstr("cannot be taken over"));
  EXPECT_TRUE(fs::is_empty(path_));
}

TEST_F(StateAsRoot, FullDisk) {
  mount_small();
  if (!mounted_) return;
  const auto store = open();
  std::vector<Saved> before{saved("one", 1), saved("two", 1)};
  ASSERT_TRUE(test::save(store, before));
  {
    std::ofstream filler(path_ / "filler");
    while (filler.put('x').flush()) {
    }
  }
  for (const std::size_t count : {1U, 6U}) {
    std::vector<Saved> changed{saved("one", 2), saved("two", 2)};
    for (std::size_t i = 0; i < count; ++i) changed.push_back(saved("more" + std::to_string(i)));
    const auto refused = test::save(store, changed);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error(), HasSubstr("No space left"));
    const auto loaded = load(store);
    ASSERT_EQ(loaded.size(), 2U);
    EXPECT_EQ(loaded.at("one").client.last_checker_status(), 1);
  }
  fs::remove(path_ / "filler");
  const std::array one{saved("one", 3)};
  EXPECT_TRUE(test::save(store, one));
  EXPECT_EQ(load(store).at("one").client.last_checker_status(), 3);
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), {}), 2);
}

TEST_F(StateAsRoot, AlmostFullDiskKeepsWhatFits) {
  mount_small();
  if (!mounted_) return;
  const auto store = open();
  std::vector<Saved> many;
  for (int i = 0; i < 20; ++i)
    many.push_back(saved("client" + std::to_string(i), i, secret(std::string(9000, 'x'))));
  EXPECT_FALSE(test::save(store, many));
  const auto loaded = load(store);
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_GT(loaded.size(), 0U);
  EXPECT_LT(loaded.size(), 20U);
}

TEST_F(StateAsRoot, ReadOnlyDisk) {
  mount_small();
  if (!mounted_) return;
  const std::array one{saved("one", 1)};
  const auto store = open();
  ASSERT_TRUE(test::save(store, one));
  write_file(file("bad"), "x");
  write_file(file("two").native() + ".new", "x");
  ASSERT_EQ(mount("none", path_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const auto refused = test::save(store, one);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), HasSubstr("Read-only file system"));
  EXPECT_FALSE(test::remove(store, "one"));
  EXPECT_EQ(load(store).size(), 1U);
  EXPECT_THAT(warnings_,
              testing::UnorderedElementsAre(HasSubstr("bad.client"), HasSubstr("two.client.new")));
  ASSERT_EQ(mount("none", path_.c_str(), nullptr, MS_REMOUNT, "size=128k"), 0);
  EXPECT_TRUE(test::save(store, one));
}

}  // namespace
}  // namespace mandos::monitor
