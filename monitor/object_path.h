// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <string>
#include <unordered_map>

namespace mandos::monitor {

/// The D-Bus object paths of clients. A name keeps its path as long as the process runs, and no two
/// names share one.
class ObjectPaths {
 public:
  /// "/clients/" and the name, in which '.' and '-' become '_', as administrators' scripts expect.
  /// Every other byte that a path may not hold (D-Bus specification, "Valid Object Paths") becomes
  /// "_XX", in hexadecimal. If another name already has that path, everything except letters and
  /// digits becomes "_XX".
  std::string of(const std::string& name);

 private:
  std::unordered_map<std::string, std::string> names_;  // by path
};

}  // namespace mandos::monitor
