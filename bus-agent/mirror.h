// SPDX-License-Identifier: GPL-3.0-or-later
// What the monitor has told of the clients: every read on the bus is answered from it.
#pragma once

#include <bus_agent.pb.h>

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace mandos::bus_agent {

using door::bus_agent::Client;

class Mirror {
 public:
  /// The new client, or null when its name or its path is taken or empty.
  const Client* add(const Client& client);
  /// The client after the change, or null when there is none of that name.
  const Client* change(const Client& change);
  /// The client that was there, or null.
  std::unique_ptr<Client> remove(const std::string& name);

  const Client* by_name(const std::string& name) const;
  const Client* by_path(std::string_view path) const;
  std::size_t size() const { return by_name_.size(); }
  template <class Visitor>
  void for_each(Visitor&& visit) const {
    for (const auto& [name, client] : by_name_) visit(*client);
  }

 private:
  std::unordered_map<std::string_view, std::unique_ptr<Client>> by_name_;  // keys lie in the client
  std::unordered_map<std::string_view, const Client*> by_path_;
};

}  // namespace mandos::bus_agent
