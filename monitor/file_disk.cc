// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/file_disk.h"

#include <cstddef>
#include <utility>

namespace mandos::monitor {

void FileDisk::begin(std::vector<Change> changes, Finished finished) {
  finished_ = std::move(finished);
  results_.assign(changes.size(), Ok{});
  steps_.clear();
  std::vector<int> files;
  for (auto& [client, saved] : changes) {
    Step step{.client = std::move(client), .removed = !saved, .file = {}};
    if (saved) {
      auto file = store_.write(*saved);
      if (file) {
        files.push_back(file->get());
        step.file = std::move(*file);
      } else {
        results_[steps_.size()] = Error{file.error()};
      }
    }
    steps_.push_back(std::move(step));
  }
  sync_.sync(std::move(files), [this](std::span<const int> errors) { files_synced(errors); });
}

void FileDisk::files_synced(std::span<const int> errors) {
  std::size_t synced = 0;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    auto& [client, removed, file] = steps_[i];
    if (removed) {
      results_[i] = store_.remove(client);
    } else if (file) {
      file.reset();
      if (const int error = errors[synced++]; error == 0) {
        results_[i] = store_.put(client);
      } else {
        results_[i] = store_.error(error, client);
        store_.discard(client);
      }
    }
  }
  if (store_.directory() < 0) return directory_synced(0);
  sync_.sync({store_.directory()}, [this](auto directory) { directory_synced(directory[0]); });
}

void FileDisk::directory_synced(int error) {
  for (std::size_t i = 0; error != 0 && i < steps_.size(); ++i) {
    if (results_[i]) results_[i] = store_.error(error, steps_[i].client);
  }
  const auto finished = std::exchange(finished_, nullptr);
  finished(std::exchange(results_, {}));
}

}  // namespace mandos::monitor
