// SPDX-License-Identifier: GPL-3.0-or-later
// A log whose lines a test can read.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "common/channel.h"
#include "common/log.h"

namespace mandos::test {

class LogLines {
 public:
  Log& log() { return log_; }
  /// Those since the last call, each with the digit of its level in front.
  std::vector<std::string> take() {
    std::vector<std::string> lines;
    std::array<char, 4096> line{};
    for (;;) {
      const ssize_t size = recv(sockets_.second.get(), line.data(), line.size(), MSG_DONTWAIT);
      if (size <= 0) return lines;
      lines.emplace_back(line.data(), static_cast<std::size_t>(size));
    }
  }

 private:
  DoorPair sockets_ = *make_door();
  Log log_ = Log::to_socket(sockets_.first.get(), LogLevel::kWarning);
};

}  // namespace mandos::test
