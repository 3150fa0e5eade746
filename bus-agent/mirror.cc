// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/mirror.h"

namespace mandos::bus_agent {

const Client* Mirror::add(const Client& client) {
  if (client.name().empty() || client.path().empty() || by_name_.contains(client.name()) ||
      by_path_.contains(client.path())) {
    return nullptr;
  }
  auto added = std::make_unique<Client>(client);
  const Client* result = added.get();
  by_path_[result->path()] = result;
  by_name_[result->name()] = std::move(added);
  return result;
}

const Client* Mirror::change(const Client& change) {
  const auto found = by_name_.find(change.name());
  if (found == by_name_.end()) return nullptr;
  Client& client = *found->second;
  // Its own name and path stay where they are: the tables point there.
  Client fields = change;
  fields.clear_name();
  fields.clear_path();
  fields.clear_secret();
  client.MergeFrom(fields);
  return &client;
}

std::unique_ptr<Client> Mirror::remove(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  by_path_.erase(found->second->path());
  auto removed = std::move(found->second);
  by_name_.erase(found);
  return removed;
}

const Client* Mirror::by_name(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second.get();
}

const Client* Mirror::by_path(std::string_view path) const {
  const auto found = by_path_.find(path);
  return found == by_path_.end() ? nullptr : found->second;
}

}  // namespace mandos::bus_agent
