// SPDX-License-Identifier: GPL-3.0-or-later
#include "supervisor/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "common/text.h"
#include "common/unique_fd.h"

namespace mandos::supervisor {
namespace {

std::string taken_from_environment(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

}  // namespace

Notify::Notify() : path_(taken_from_environment("NOTIFY_SOCKET")) {
  const std::string microseconds = taken_from_environment("WATCHDOG_USEC");
  const std::string pid = taken_from_environment("WATCHDOG_PID");
  std::int64_t period = 0;
  if (parse_number(microseconds, period) && period > 0 &&
      (pid.empty() || pid == std::to_string(getpid()))) {
    watchdog_ = Milliseconds(period / 1000);
  }
  // '@' stands for the abstract namespace.
  if (path_.size() < 2 || path_.size() >= sizeof(sockaddr_un::sun_path) ||
      (path_[0] != '/' && path_[0] != '@')) {
    path_.clear();
  }
  if (path_.starts_with('@')) path_[0] = '\0';
}

void Notify::send(std::string_view state) const {
  if (path_.empty()) return;
  // Not kept open: everything above standard error is closed once after this is created.
  const UniqueFd notifier(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::memcpy(address.sun_path, path_.data(), path_.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
  static_cast<void>(sendto(notifier.get(), state.data(), state.size(), MSG_NOSIGNAL,
                           reinterpret_cast<const sockaddr*>(&address), size));
}

}  // namespace mandos::supervisor
