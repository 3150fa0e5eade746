// SPDX-License-Identifier: GPL-3.0-or-later
// What the monitor has told of the clients: every read on the bus is answered from it.
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
  /// The new client, or nothing when its name or its path is taken or empty.
  std::optional<Client> add(const Client& client);
  /// The client after the change, or nothing when there is none of that name.
  std::optional<Client> change(const Client& change);
  /// The client that was there, or nothing.
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
  // Serialized, which takes half the memory.
  std::unordered_map<std::string, std::string> by_name_;
  // By the hash of its path, the name of each; it lies in the table above.
  std::unordered_multimap<std::size_t, std::string_view> by_path_;
};

}  // namespace mandos::bus_agent
