// SPDX-License-Identifier: GPL-3.0-or-later
// kill -9 at any moment loses nothing that was confirmed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "monitor/merge.h"
#include "monitor/state.h"

namespace mandos::monitor {
namespace {

constexpr int kRuns = 300;
constexpr std::size_t kClients = 3;

std::string name_of(std::size_t client) { return concat("client ", client); }

/// Changes one client after the other for ever; each change is told on `confirmations` once it is
/// on disk.
[[noreturn]] void change_for_ever(const std::string& directory, int confirmations,
                                  std::array<std::int64_t, kClients> values) {
  std::vector<std::string> warnings;
  const StateStore store(directory, warnings);
  for (std::size_t client = 0;; client = (client + 1) % kClients) {
    Client state;
    state.name = name_of(client);
    state.settings.timeout = Milliseconds(++values.at(client));
    state.settings.secret =
        std::make_shared<const Secret>(as_bytes(std::to_string(values[client])));
    const std::array saved{to_saved(state, ClientSettings{}, Moment::now())};
    if (!store.save(saved)) _exit(1);
    const std::array<std::int64_t, 2> confirmed{static_cast<std::int64_t>(client), values[client]};
    if (write(confirmations, confirmed.data(), sizeof confirmed) != sizeof confirmed) _exit(1);
  }
}

TEST(StateCrash, NothingThatWasConfirmedIsLost) {
  std::string directory = testing::TempDir() + "/mandos-crash-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  std::array<std::int64_t, kClients> confirmed{};
  std::mt19937 random(1);  // NOLINT: the same moments every time, as far as a scheduler allows
  std::int64_t changes = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    const pid_t pid = fork();
    if (pid == 0) change_for_ever(directory, ends[1], confirmed);
    close(ends[1]);
    usleep(static_cast<useconds_t>(random() % 40000));
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    std::array<std::int64_t, 2> change{};
    while (read(ends[0], change.data(), sizeof change) == sizeof change) {
      confirmed.at(static_cast<std::size_t>(change[0])) = change[1];
      ++changes;
    }
    close(ends[0]);

    std::vector<std::string> warnings;
    const StateStore store(directory, warnings);
    const auto kept = store.load(warnings);
    ASSERT_TRUE(warnings.empty()) << warnings.front();
    for (std::size_t client = 0; client < kClients; ++client) {
      if (confirmed[client] == 0) continue;
      const auto found = kept.find(name_of(client));
      ASSERT_NE(found, kept.end()) << "run " << run;
      const auto loaded = from_saved(found->second, ClientSettings{}, Moment::now());
      // One change that had reached the disk but not the pipe may be there too.
      EXPECT_GE(loaded.settings.timeout.count(), confirmed[client]) << "run " << run;
      EXPECT_LE(loaded.settings.timeout.count(), confirmed[client] + 1) << "run " << run;
      const auto value = std::to_string(loaded.settings.timeout.count());
      ASSERT_TRUE(loaded.settings.secret);
      EXPECT_TRUE(std::ranges::equal(loaded.settings.secret->bytes(), as_bytes(value)));
      confirmed[client] = loaded.settings.timeout.count();
    }
  }
  EXPECT_GT(changes, kRuns / 10) << "the disk is too slow for this to show anything";
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace mandos::monitor
