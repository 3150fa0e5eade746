// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/accounts.h"

#include <cstdio>
#include <memory>

namespace mandos::monitor {

std::optional<std::string> find_account(char* passwd::*field,
                                        const std::function<bool(const passwd&)>& matches) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/etc/passwd", "re"), &std::fclose);
  while (const passwd* entry = file == nullptr ? nullptr : fgetpwent(file.get())) {
    if (matches(*entry)) return entry->*field;
  }
  return std::nullopt;
}

std::string user_name(uid_t user) {
  return find_account(&passwd::pw_name,
                      [user](const passwd& entry) { return entry.pw_uid == user; })
      .value_or(std::to_string(user));
}

}  // namespace mandos::monitor
