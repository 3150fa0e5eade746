// SPDX-License-Identifier: GPL-3.0-or-later
// The clients as reported by the monitor: every read on the bus is answered from here.
#pragma once

#include <bus_agent.pb.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace mandos::bus_agent {

using door::bus_agent::Client;

class Mirror {
 public:
  /// Returns the new client, or nothing if its name or path is empty or taken.
  std::optional<Client> add(const Client& client);
  /// Returns the client after the change, or nothing if there is no such client.
  std::optional<Client> change(const Client& change);
  /// Returns the removed client, or nothing.
  std::optional<Client> remove(const std::string& name);

  std::optional<Client> by_name(const std::string& name) const;
  std::optional<Client> by_path(std::string_view path) const;
  std::size_t size() const { return by_name_.size(); }
  template <class Visitor>
  void for_each(Visitor&& visit) const {
    Client client;
    for (const auto& [name, packed] : by_name_) {
      client.ParseFromString(packed);
      visit(client);
    }
  }

 private:
  // Serialized, which halves the memory.
  std::unordered_map<std::string, std::string> by_name_;
  // Hash of each path to the client's name, which is in the table above.
  std::unordered_multimap<std::size_t, std::string_view> by_path_;
};

}  // namespace mandos::bus_agent
