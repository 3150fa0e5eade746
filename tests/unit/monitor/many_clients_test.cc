// SPDX-License-Identifier: GPL-3.0-or-later
// Ten thousand clients that go at once: how long the loop serves nobody.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "monitor/file_disk.h"
#include "monitor/merge.h"
#include "monitor/registry.h"
#include "tests/support/client_settings.h"
#include "tests/support/sanitized.h"

namespace mandos::monitor {
namespace {

#ifdef MANDOS_SANITIZED
constexpr int kSlow = 4;
#else
constexpr int kSlow = 1;
#endif

constexpr int kClients = 10000;

/// What one call costs in milliseconds: by the clock, and of the processor.
struct Cost {
  double wall = 0;
  double cpu = 0;
};
double milliseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}
template <class Function>
Cost cost(Function&& function) {
  const double wall = milliseconds(CLOCK_MONOTONIC);
  const double cpu = milliseconds(CLOCK_THREAD_CPUTIME_ID);
  function();
  return {milliseconds(CLOCK_MONOTONIC) - wall, milliseconds(CLOCK_THREAD_CPUTIME_ID) - cpu};
}

TEST(ManyClients, ThatAreRemovedStopTheLoopForMillisecondsOnly) {
  namespace fs = std::filesystem;
  // In memory, so that what the loop does itself shows, and not what the disk does.
  std::string top = "/dev/shm/many.XXXXXX";
  ASSERT_NE(mkdtemp(top.data()), nullptr);
  // However this test ends.
  const std::shared_ptr<void> removed(nullptr, [&](void*) { fs::remove_all(top); });
  std::vector<std::string> warnings;
  const StateStore store = *StateStore::open(top + "/state", true, warnings);
  EventLoop loop;
  Log log = Log::to_socket(-1, LogLevel::kCritical);
  FileDisk disk(loop, log, store);
  Registry registry(loop, log, disk,
                    {.start_checker = [](CheckerId, const std::string&) {},
                     .kill_checker = [](CheckerId) {},
                     .waiting = [](ConnectionId) -> const Proven* { return nullptr; },
                     .grant = [](ConnectionId, const SecretPtr&) {},
                     .refuse = [](ConnectionId) {}});
  for (int i = 0; i < kClients; ++i) {
    Registry::Entry entry;
    entry.client.name = "client" + std::to_string(i);
    auto& settings = test::own(entry.client);
    settings.key_id = KeyId{sha256({as_bytes(entry.client.name)})};
    settings.interval = settings.timeout = std::chrono::hours(24);
    registry.add(std::move(entry));
  }
  Cost slowest;
  int rounds = 0;
  const auto until_saved = [&] {
    bool saved = false;
    slowest = {};
    rounds = 0;
    registry.saver().flush([&saved](const Status& done) {
      EXPECT_TRUE(done) << done.error();
      saved = true;
    });
    while (!saved) {
      // Polled, so that waiting for the disk does not count.
      const Cost round = cost([&] { loop.run_once(Milliseconds(0)); });
      slowest.wall = std::max(slowest.wall, round.wall);
      slowest.cpu = std::max(slowest.cpu, round.cpu);
      ++rounds;
    }
  };
  const auto files = [&] { return std::distance(fs::directory_iterator(top + "/state"), {}); };

  const Cost start = cost([&] { registry.start(); });
  until_saved();
  std::printf("start %.1f ms; saving: the longest round %.1f ms (%.1f of the processor)\n",
              start.wall, slowest.wall, slowest.cpu);
  EXPECT_EQ(files(), kClients);
  EXPECT_LT(slowest.cpu, kSlow * 100);

  const Cost reload = cost([&] { registry.reload({}, merge); });
  until_saved();
  std::printf("removal by reload %.1f ms (%.1f); on disk: the longest round %.1f ms (%.1f)\n",
              reload.wall, reload.cpu, slowest.wall, slowest.cpu);
  EXPECT_EQ(files(), 0);
  EXPECT_GT(rounds, kClients / static_cast<int>(Saver::kMost));
  EXPECT_LT(slowest.cpu, kSlow * 100);
  EXPECT_LT(reload.cpu, kSlow * 500);
}

}  // namespace
}  // namespace mandos::monitor
