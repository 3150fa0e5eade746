// SPDX-License-Identifier: GPL-3.0-or-later
// A folder of the process's own in memory, for code that reads files.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "common/unique_fd.h"
#include "tests/fuzz/input.h"

namespace mandos::fuzz {

class Folder {
 public:
  Folder() {
    const bool in_memory = access("/dev/shm", W_OK) == 0;
    path_ = in_memory ? "/dev/shm/mandos-fuzz-XXXXXX" : "/tmp/mandos-fuzz-XXXXXX";
    require(mkdtemp(path_.data()) != nullptr, "no temporary folder");
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  void put(std::string_view name, std::string_view content) const {
    const UniqueFd fd(
        open(file(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    require(fd && write(fd.get(), content.data(), content.size()) ==
                      static_cast<ssize_t>(content.size()),
            "a file cannot be written");
  }

 private:
  std::string path_;
};

}  // namespace mandos::fuzz
