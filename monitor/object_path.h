// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <string>
#include <unordered_map>

namespace mandos::monitor {

/// The D-Bus object paths of clients. A name keeps its path as long as the process runs, and no two
/// names share one.
class ObjectPaths {
 public:
  /// "/clients/" and the name with '.' and '-' as '_', as administrators' scripts know it, and
  /// every other byte that a path may not hold (D-Bus specification, "Valid Object Paths") as
  /// "_XX", in hexadecimal. Where that is another name's already, everything but letters and digits
  /// is "_XX".
  std::string of(const std::string& name);

 private:
  std::unordered_map<std::string, std::string> names_;  // by path
};

}  // namespace mandos::monitor
