// SPDX-License-Identifier: GPL-3.0-or-later
// What crosses the networker's door to the monitor: messages, several in a datagram.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "networker.pb.h"

namespace mandos::test {

inline std::string datagram_of(const std::vector<door::networker::ToMonitor>& messages) {
  door::networker::Datagram datagram;
  for (const auto& message : messages) message.SerializeToString(datagram.add_messages());
  return datagram.SerializeAsString();
}

/// Nothing when it is no such datagram.
inline std::optional<std::vector<door::networker::ToMonitor>> messages_of(std::string_view bytes) {
  door::networker::Datagram datagram;
  std::vector<door::networker::ToMonitor> messages;
  if (!datagram.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return std::nullopt;
  for (const auto& message : datagram.messages()) {
    if (!messages.emplace_back().ParseFromString(message)) return std::nullopt;
  }
  return messages;
}

}  // namespace mandos::test
