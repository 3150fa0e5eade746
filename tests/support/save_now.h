// SPDX-License-Identifier: GPL-3.0-or-later
// The state directory's transactions, for tests that can wait for the disk.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "monitor/file_disk.h"

namespace mandos::monitor::test {

class PatientDisk {
 public:
  explicit PatientDisk(const StateStore& store) : disk_(loop_, log_, store) {}

  /// Returns when the disk is done; the first failure, if any.
  Status apply(std::vector<Disk::Change> changes) {
    Status outcome = Ok{};
    bool done = false;
    disk_.begin(std::move(changes), [&](std::span<const Status> results) {
      for (const auto& result : results)
        if (!result && outcome) outcome = result;
      done = true;
    });
    while (!done) loop_.run_once(Milliseconds(-1));
    return outcome;
  }

  /// As many transactions as that takes.
  Status save(std::span<const Saved> clients) {
    Status outcome = Ok{};
    while (!clients.empty()) {
      const auto some = clients.first(std::min(clients.size(), Saver::kMost));
      clients = clients.subspan(some.size());
      std::vector<Disk::Change> changes;
      for (const auto& saved : some) changes.push_back({saved.client.name(), saved});
      if (auto done = apply(std::move(changes)); !done) outcome = std::move(done);
    }
    return outcome;
  }

 private:
  EventLoop loop_;
  Log log_ = Log::to_socket(-1, LogLevel::kCritical);
  FileDisk disk_;
};

inline Status save(const StateStore& store, std::span<const Saved> clients) {
  return PatientDisk(store).save(clients);
}
inline Status remove(const StateStore& store, const std::string& client) {
  return PatientDisk(store).apply({{client, std::nullopt}});
}

}  // namespace mandos::monitor::test
