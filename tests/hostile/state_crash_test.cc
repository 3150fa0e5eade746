// SPDX-License-Identifier: GPL-3.0-or-later
// kill -9 at any moment loses nothing that was confirmed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "monitor/merge.h"
#include "monitor/state.h"
#include "tests/support/client_settings.h"
#include "tests/support/save_now.h"

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
  const StateStore store = *StateStore::open(directory, true, warnings);
  test::PatientDisk disk(store);
  for (std::size_t client = 0;; client = (client + 1) % kClients) {
    Client state;
    state.name = name_of(client);
    auto& settings = test::own(state);
    settings.timeout = Milliseconds(++values.at(client));
    settings.secret = std::make_shared<const Secret>(as_bytes(std::to_string(values[client])));
    const std::array saved{to_saved(state, ClientSettings{}, Moment::now())};
    if (!disk.save(saved)) _exit(1);
    const std::array<std::int64_t, 2> confirmed{static_cast<std::int64_t>(client), values[client]};
    if (write(confirmations, confirmed.data(), sizeof confirmed) != sizeof confirmed) _exit(1);
  }
}

/// Writes the timeout that is kept of each client, 0 for none; nothing if anything is damaged.
[[noreturn]] void tell_what_is_kept(const std::string& directory, int answer) {
  std::vector<std::string> warnings;
  const StateStore store = *StateStore::open(directory, true, warnings);
  const auto all = store.load(warnings);
  if (!all) _exit(1);
  const auto& kept = all->clients;
  std::array<std::int64_t, kClients> values{};
  for (std::size_t client = 0; client < kClients; ++client) {
    const auto found = kept.find(name_of(client));
    if (found == kept.end()) continue;
    const auto loaded = from_saved(found->second, ClientSettings{}, Moment::now());
    values.at(client) = loaded.settings->timeout.count();
    const auto secret = std::to_string(values.at(client));
    if (!loaded.settings->secret ||
        !std::ranges::equal(loaded.settings->secret->bytes(), as_bytes(secret))) {
      _exit(1);
    }
  }
  if (!warnings.empty()) _exit(1);
  _exit(write(answer, values.data(), sizeof values) == sizeof values ? 0 : 1);
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

    // Read by a process of its own: secret memory is shared with whoever is forked later.
    ASSERT_EQ(pipe(ends.data()), 0);
    const pid_t reader = fork();
    if (reader == 0) tell_what_is_kept(directory, ends[1]);
    close(ends[1]);
    std::array<std::int64_t, kClients> kept{};
    ASSERT_EQ(read(ends[0], kept.data(), sizeof kept), static_cast<ssize_t>(sizeof kept))
        << "something is damaged after run " << run;
    close(ends[0]);
    ASSERT_EQ(waitpid(reader, &status, 0), reader);
    for (std::size_t client = 0; client < kClients; ++client) {
      // One change that had reached the disk but not the pipe may be there too.
      EXPECT_GE(kept[client], confirmed[client]) << "run " << run;
      EXPECT_LE(kept[client], confirmed[client] + 1) << "run " << run;
    }
    confirmed = kept;
  }
  EXPECT_GT(changes, kRuns / 10) << "the disk is too slow for this to show anything";
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace mandos::monitor
