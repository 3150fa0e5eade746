// SPDX-License-Identifier: GPL-3.0-or-later
// Files and folders that only root may have written: the configuration, and the secrets that it
// names.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "common/result.h"
#include "monitor/secret.h"

namespace mandos::monitor {

/// Checked before a file or folder is used: its type, that its owner is root or this process's
/// user, that no one else may write it and, with `is_private`, that no one else may read it.
struct FileRules {
  bool is_private = false;
  bool is_folder = false;
  bool must_exist = false;
  std::size_t limit = 64 << 20;  // bytes
};
/// The content of a file (of a folder: nothing), or no value if it does not exist and need not. A
/// dangling link is an error. `denied`, unless null, is set if we may not open the file; our jail
/// may be the reason.
Result<std::optional<SecretString>> read_file(const std::string& path, const FileRules& rules,
                                              bool* denied = nullptr);

}  // namespace mandos::monitor
