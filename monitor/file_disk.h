// SPDX-License-Identifier: GPL-3.0-or-later
// The saver's transactions as files of the state directory, in the order that survives the plug:
// temporary files are written, then synced; then they take their places, and files of removed
// clients go; then the directory is synced. The loop waits for no sync.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "monitor/async_sync.h"
#include "monitor/saver.h"
#include "monitor/state.h"

namespace mandos::monitor {

class FileDisk final : public Disk {
 public:
  /// Must be made before the jail is entered. `store` may be opened later, and must outlive this.
  FileDisk(EventLoop& loop, Log& log, const StateStore& store) : store_(store), sync_(loop, log) {}
  void begin(std::vector<Change> changes, Finished finished) override;

 private:
  struct Step {
    std::string client;
    bool removed;
    UniqueFd file;
  };
  void files_synced(std::span<const int> errors);
  void directory_synced(int error);

  const StateStore& store_;
  std::vector<Step> steps_;
  std::vector<Status> results_;
  Finished finished_;
  AsyncSync sync_;
};

}  // namespace mandos::monitor
