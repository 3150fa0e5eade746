// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/object_path.h"

#include <string_view>

#include "common/text.h"

namespace mandos::monitor {
namespace {

bool letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

std::string path(std::string_view name, std::string_view as_underscore) {
  std::string out = "/clients/";
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (letter_or_digit(c)) {
      out += c;
    } else if (as_underscore.find(c) != std::string_view::npos) {
      out += '_';
    } else {
      out += {'_', kLowerHex[byte >> 4], kLowerHex[byte & 15]};
    }
  }
  return out;
}

}  // namespace

std::string ObjectPaths::of(const std::string& name) {
  // Paths are never released, so a name with a path gets the same one again.
  const auto is_ours = [this, &name](const std::string& path) {
    return names_.try_emplace(path, name).first->second == name;
  };
  std::string chosen = path(name, "_.-");
  if (!is_ours(chosen)) chosen = path(name, "");
  // The path that another name produces by chance.
  while (!is_ours(chosen)) chosen += '_';
  return chosen;
}

}  // namespace mandos::monitor
