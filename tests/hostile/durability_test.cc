// SPDX-License-Identifier: GPL-3.0-or-later
// The plug is pulled after every single step of a transaction: what was confirmed is there, and
// nothing is damaged. The system calls of the real FileDisk are watched. Beside the file system
// stands a model of the medium, which loses whatever was not synced: the content of a file, and
// each change of the directory by itself.
#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "monitor/merge.h"
#include "tests/support/client_settings.h"
#include "tests/support/save_now.h"

namespace mandos::monitor::test {
namespace {

namespace fs = std::filesystem;

/// Content by name; nothing: the file is there, and what it holds is lost.
using Files = std::map<std::string, std::optional<std::string>>;

/// What a medium holds if only what was synced survives, and what else it may hold.
class Medium {
 public:
  struct Inode {
    std::string content;
    bool synced = false;
  };
  using InodePtr = std::shared_ptr<Inode>;
  using Names = std::map<std::string, InodePtr>;

  InodePtr create(const std::string& name) {
    auto inode = std::make_shared<Inode>();
    change([=](Names& names) { names[name] = inode; });
    return inode;
  }
  void rename(const std::string& from, const std::string& to) {
    const InodePtr inode = now_.at(from);
    change([=](Names& names) {
      names.erase(from);
      names[to] = inode;
    });
  }
  void remove(const std::string& name) {
    if (!now_.contains(name)) return;
    change([=](Names& names) { names.erase(name); });
  }
  void sync_directory() {
    durable_ = now_;
    pending_.clear();
  }

  /// What may be found after the plug is pulled now. The directory's changes since it was synced:
  /// each prefix of them, and each alone, since a file system may write them in another order.
  std::vector<Files> after_the_plug() const {
    std::vector<Files> outcomes;
    for (std::size_t count = 0; count <= pending_.size(); ++count) {
      Names names = durable_;
      for (std::size_t i = 0; i < count; ++i) pending_[i](names);
      outcomes.push_back(files(names));
    }
    for (const auto& alone : pending_) {
      Names names = durable_;
      alone(names);
      outcomes.push_back(files(names));
    }
    return outcomes;
  }

 private:
  void change(std::function<void(Names&)> what) {
    what(now_);
    pending_.push_back(std::move(what));
  }
  static Files files(const Names& names) {
    Files found;
    for (const auto& [name, inode] : names)
      found[name] = inode->synced ? std::optional(inode->content) : std::nullopt;
    return found;
  }
  Names now_, durable_;
  std::vector<std::function<void(Names&)>> pending_;
};

/// Watches one directory, while there is one.
struct Watcher {
  Medium medium;
  int directory = -1;
  std::map<int, Medium::InodePtr> open;
  std::vector<std::string> steps;
  std::function<void()> after_step;

  void step(std::string what) {
    steps.push_back(std::move(what));
    if (after_step) after_step();
  }
  void synced(int fd) {
    if (fd == directory) {
      medium.sync_directory();
      step("sync directory");
    } else if (const auto found = open.find(fd); found != open.end()) {
      found->second->synced = true;
      step("sync file");
    }
  }
};
Watcher* watcher = nullptr;

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace mandos::monitor::test

// In place of the C library's: the monitor's calls come here first.
extern "C" {
using mandos::monitor::test::real;
using mandos::monitor::test::watcher;

int openat(int directory, const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  static const auto original = real<int (*)(int, const char*, int, mode_t)>("openat");
  const int fd = original(directory, name, flags, mode);
  if (watcher != nullptr && directory == watcher->directory && (flags & O_CREAT) != 0 && fd >= 0) {
    watcher->open[fd] = watcher->medium.create(name);
    watcher->step(std::string("create ") + name);
  }
  return fd;
}

ssize_t writev(int fd, const iovec* parts, int count) {
  static const auto original = real<ssize_t (*)(int, const iovec*, int)>("writev");
  const ssize_t written = original(fd, parts, count);
  if (watcher != nullptr && watcher->open.contains(fd)) {
    auto& inode = *watcher->open[fd];
    inode.synced = false;
    for (int i = 0; i < count; ++i) {
      inode.content.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
    }
    watcher->step("write");
  }
  return written;
}

int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  static const auto original = real<int (*)(int, const char*, int, const char*)>("renameat");
  const int result = original(from_directory, from, to_directory, to);
  if (watcher != nullptr && from_directory == watcher->directory && result == 0) {
    watcher->medium.rename(from, to);
    watcher->step(std::string("rename to ") + to);
  }
  return result;
}

int unlinkat(int directory, const char* name, int flags) {
  static const auto original = real<int (*)(int, const char*, int)>("unlinkat");
  const int result = original(directory, name, flags);
  if (watcher != nullptr && directory == watcher->directory && result == 0) {
    watcher->medium.remove(name);
    watcher->step(std::string("remove ") + name);
  }
  return result;
}

int fsync(int fd) {
  static const auto original = real<int (*)(int)>("fsync");
  const int result = original(fd);
  if (watcher != nullptr && result == 0) watcher->synced(fd);
  return result;
}

int close(int fd) {
  static const auto original = real<int (*)(int)>("close");
  if (watcher != nullptr) watcher->open.erase(fd);
  return original(fd);
}

// A sync counts as done when the kernel has reported it.
// It takes six arguments of every caller, given or not.
__attribute__((no_sanitize("address"))) long syscall(long number, ...) noexcept {
  va_list arguments;
  va_start(arguments, number);
  long a[6];
  for (long& each : a) each = va_arg(arguments, long);
  va_end(arguments);
  static const auto original = real<long (*)(long, ...)>("syscall");
  const long result = original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  static std::map<std::uint64_t, std::uint32_t> submitted;  // request: its descriptor
  if (watcher == nullptr) return result;
  if (number == SYS_io_submit) {
    for (long i = 0; i < result; ++i) {
      const iocb* request = reinterpret_cast<iocb**>(a[2])[i];
      if (request->aio_lio_opcode == IOCB_CMD_FSYNC) {
        submitted[reinterpret_cast<std::uint64_t>(request)] = request->aio_fildes;
      }
    }
  } else if (number == SYS_io_getevents) {
    for (long i = 0; i < result; ++i) {
      const auto& event = reinterpret_cast<const io_event*>(a[3])[i];
      if (event.res == 0 && submitted.contains(event.obj)) {
        watcher->synced(static_cast<int>(submitted[event.obj]));
      }
    }
  }
  return result;
}
}  // extern "C"

namespace mandos::monitor::test {
namespace {

class Durability : public testing::Test {
 protected:
  Durability() {
    std::string name = (fs::temp_directory_path() / "durability.XXXXXX").native();
    top_ = mkdtemp(name.data());
    store_ = std::make_unique<StateStore>(
        std::move(*StateStore::open((top_ / "state").native(), true, warnings_)));
    disk_ = std::make_unique<FileDisk>(loop_, log_, *store_);
    watcher_.directory = store_->directory();
    watcher_.after_step = [this] { pull_the_plug(); };
    watcher = &watcher_;
  }
  ~Durability() override {
    watcher = nullptr;
    fs::remove_all(top_);
  }

  static Disk::Change set(const std::string& client, int value) {
    Client made;
    made.name = client;
    made.last_checker_status = static_cast<std::int16_t>(value);
    test::own(made).secret = std::make_shared<const Secret>(as_bytes(std::to_string(value)));
    return {client, to_saved(made, ClientSettings{}, Moment::now())};
  }
  static Disk::Change gone(const std::string& client) { return {client, std::nullopt}; }

  void transact(std::vector<Disk::Change> changes) {
    for (const auto& [client, saved] : changes) {
      wanted_[client] = saved ? saved->client.last_checker_status() : kGone;
    }
    bool done = false;
    disk_->begin(std::move(changes), [this, &done](std::span<const Status> results) {
      for (const auto& result : results) EXPECT_TRUE(result) << result.error();
      done = true;
      confirmed_ = wanted_;
      pull_the_plug();
    });
    while (!done) loop_.run_once(Milliseconds(-1));
  }

  /// Whatever the medium may hold now is what was confirmed, or, client by client, what is on its
  /// way.
  void pull_the_plug() {
    Watcher* const watching = std::exchange(watcher, nullptr);
    for (const Files& files : watching->medium.after_the_plug()) {
      ++plugs_;
      const fs::path place = top_ / "after";
      fs::create_directory(place);
      fs::permissions(place, fs::perms::owner_all);
      for (const auto& [name, content] : files) {
        std::ofstream(place / name, std::ios::binary) << content.value_or("");
        fs::permissions(place / name, fs::perms(0600));
      }
      std::vector<std::string> warnings;
      const auto store = StateStore::open(place.native(), true, warnings);
      ASSERT_TRUE(store);
      const auto loaded = store->load(warnings);
      ASSERT_TRUE(loaded) << loaded.error();
      EXPECT_THAT(loaded->damaged, testing::IsEmpty()) << told();
      for (const auto& [client, wanted] : wanted_) {
        const auto found = loaded->clients.find(client);
        const int value =
            found == loaded->clients.end() ? kGone : found->second.client.last_checker_status();
        const auto before = confirmed_.find(client);
        EXPECT_TRUE(value == wanted ||
                    value == (before == confirmed_.end() ? kGone : before->second))
            << client << " is " << value << told();
      }
      fs::remove_all(place);
    }
    watcher = watching;
  }
  std::string told() const {
    std::string all = " after:";
    for (const auto& step : watcher_.steps) all += " " + step + ",";
    return all;
  }

  static constexpr int kGone = -1;
  fs::path top_;
  std::vector<std::string> warnings_;
  EventLoop loop_;
  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  Watcher watcher_;
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<FileDisk> disk_;
  std::map<std::string, int> wanted_, confirmed_;
  int plugs_ = 0;
};

TEST_F(Durability, ThePlugAfterEveryStep) {
  transact({set("one", 1), set("two", 1)});
  transact({set("one", 2), set("three", 2), gone("two")});
  transact({gone("one")});
  transact({set("one", 3), gone("three"), gone("never there")});
  EXPECT_EQ(std::ranges::count(watcher_.steps, "sync directory"), 4);
  EXPECT_EQ(std::ranges::count(watcher_.steps, "sync file"), 5);
  EXPECT_GT(plugs_, 100);
}

TEST_F(Durability, OneTransactionSyncsTheDirectoryOnce) {
  std::vector<Disk::Change> changes;
  for (std::size_t i = 0; i < Saver::kMost; ++i) changes.push_back(gone(std::to_string(i)));
  transact(std::move(changes));
  EXPECT_EQ(std::ranges::count(watcher_.steps, "sync directory"), 1);
}

}  // namespace
}  // namespace mandos::monitor::test
