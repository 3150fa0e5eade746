// SPDX-License-Identifier: GPL-3.0-or-later
// What survives the plug: the order in which files are written, synced and renamed, and when that
// is confirmed. The functions that do it are watched on their way to the C library: this program's
// definitions of them come first.
#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "monitor/file_disk.h"

namespace {

namespace fs = std::filesystem;

std::vector<std::string> steps;
bool aio_is_missing = false;
int sync_error = 0;  // of the next file that is synced

std::string name_of(int fd) {
  std::error_code failed;
  return fs::read_symlink("/proc/self/fd/" + std::to_string(fd), failed).filename().native();
}

/// The C library's own.
template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  steps.push_back(std::string("rename ") + from + " " + to);
  return next<int(int, const char*, int, const char*)>("renameat")(from_folder, from, to_folder,
                                                                   to);
}

int unlinkat(int folder, const char* file, int flags) noexcept {
  const int result = next<int(int, const char*, int)>("unlinkat")(folder, file, flags);
  if (result == 0) steps.push_back(std::string("remove ") + file);
  return result;
}

int fsync(int fd) {
  steps.push_back("sync " + name_of(fd));
  steps.push_back("synced");
  return next<int(int)>("fsync")(fd);
}

// It takes six arguments of every caller, given or not.
__attribute__((no_sanitize("address"))) long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  if (number == SYS_io_submit) {
    if (aio_is_missing) return errno = EINVAL, -1;
    for (long i = 0; i < a[1]; ++i) {
      const auto* request = reinterpret_cast<iocb**>(a[2])[i];
      const bool sync = request->aio_lio_opcode == IOCB_CMD_FSYNC;
      steps.push_back((sync ? "sync " : "? ") + name_of(static_cast<int>(request->aio_fildes)));
    }
  }
  const long result = next<long(long, ...)>("syscall")(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (number == SYS_io_getevents) {
    auto* events = reinterpret_cast<io_event*>(a[3]);
    for (long i = 0; i < result; ++i) {
      steps.emplace_back("synced");
      if (sync_error != 0) events[i].res = -std::exchange(sync_error, 0);
    }
  }
  return result;
}
}

namespace mandos::monitor {
namespace {

using testing::ElementsAre;

class DurabilityTest : public testing::Test {
 protected:
  DurabilityTest() {
    std::string name = (fs::temp_directory_path() / "durability.XXXXXX").native();
    top_ = mkdtemp(name.data());
    store_ = *StateStore::open((top_ / "mandos").native(), true, warnings_);
    aio_is_missing = false;
    sync_error = 0;
    steps.clear();
  }
  ~DurabilityTest() override { fs::remove_all(top_); }

  /// Brings `changes` to disk; each result as text, empty if it is there.
  std::vector<std::string> bring(std::vector<Disk::Change> changes) {
    std::vector<std::string> results;
    bool finished = false;
    disk_.begin(std::move(changes), [&](std::span<const Status> all) {
      finished = true;
      steps.emplace_back("confirmed");
      for (const auto& each : all) results.push_back(each ? "" : each.error());
    });
    EXPECT_FALSE(finished) << "from within begin()";
    const Instant end = BootClock::now() + std::chrono::seconds(20);
    while (!finished && BootClock::now() < end) loop_.run_once(Milliseconds(10));
    EXPECT_TRUE(finished);
    return results;
  }
  static Disk::Change save(const std::string& name) {
    Disk::Change change{name, Saved()};
    change.saved->client.set_version(1);
    change.saved->client.set_name(name);
    return change;
  }

  fs::path top_;
  std::vector<std::string> warnings_;
  EventLoop loop_;
  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  StateStore store_{"not open yet"};
  FileDisk disk_{loop_, log_, store_};
};

TEST_F(DurabilityTest, AFileIsSyncedBeforeItTakesItsPlaceAndTheFolderBeforeThatIsConfirmed) {
  EXPECT_THAT(bring({save("one")}), ElementsAre(""));
  EXPECT_THAT(steps,
              ElementsAre("sync one.client.new", "synced", "rename one.client.new one.client",
                          "sync mandos", "synced", "confirmed"));
}

TEST_F(DurabilityTest, AllFilesOfATransactionAreSyncedBeforeTheFirstTakesItsPlace) {
  EXPECT_THAT(bring({save("one"), save("two")}), ElementsAre("", ""));
  EXPECT_THAT(steps,
              ElementsAre("sync one.client.new", "sync two.client.new", "synced", "synced",
                          "rename one.client.new one.client", "rename two.client.new two.client",
                          "sync mandos", "synced", "confirmed"));
}

TEST_F(DurabilityTest, ARemovalIsConfirmedWhenTheFolderIsSynced) {
  EXPECT_THAT(bring({save("one")}), ElementsAre(""));
  steps.clear();
  EXPECT_THAT(bring({{"one", std::nullopt}}), ElementsAre(""));
  EXPECT_THAT(steps, ElementsAre("remove one.client", "sync mandos", "synced", "confirmed"));
}

TEST_F(DurabilityTest, TheSameOrderWhereTheKernelHasNoAsynchronousSync) {
  aio_is_missing = true;
  EXPECT_THAT(bring({save("one")}), ElementsAre(""));
  EXPECT_THAT(steps,
              ElementsAre("sync one.client.new", "synced", "rename one.client.new one.client",
                          "sync mandos", "synced", "confirmed"));
}

TEST_F(DurabilityTest, AFileThatIsNotSyncedDoesNotTakeItsPlace) {
  EXPECT_THAT(bring({save("one")}), ElementsAre(""));
  steps.clear();
  sync_error = EIO;
  const auto results = bring({save("one")});
  ASSERT_EQ(results.size(), 1U);
  EXPECT_NE(results[0].find("Input/output error"), std::string::npos) << results[0];
  EXPECT_THAT(steps, testing::Not(testing::Contains(testing::StartsWith("rename"))));
  EXPECT_FALSE(fs::exists(top_ / "mandos/one.client.new"));
  EXPECT_TRUE(fs::exists(top_ / "mandos/one.client"));
}

TEST_F(DurabilityTest, WithoutTheFolderNothingIsConfirmed) {
  const auto results = [this] {
    std::vector<std::string> all;
    bool finished = false;
    disk_.begin({save("one")}, [&](std::span<const Status> statuses) {
      finished = true;
      for (const auto& each : statuses) all.push_back(each ? "" : each.error());
    });
    const Instant end = BootClock::now() + std::chrono::seconds(20);
    while (!finished && BootClock::now() < end) {
      if (!steps.empty() && steps.back().starts_with("sync mandos")) sync_error = EIO;
      loop_.run_once(Milliseconds(10));
    }
    return all;
  }();
  ASSERT_EQ(results.size(), 1U);
  EXPECT_NE(results[0].find("Input/output error"), std::string::npos) << results[0];
}

}  // namespace
}  // namespace mandos::monitor
