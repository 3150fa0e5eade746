// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/mirror.h"

#include <functional>
#include <iterator>
#include <utility>

namespace mandos::bus_agent {
namespace {

// Spare room for numbers that grow during a client's life.
constexpr std::size_t kRoom = 64;

std::size_t hash_of(std::string_view path) { return std::hash<std::string_view>()(path); }

/// Reuses the memory if it is large enough: when all clients change, their updates lie between new
/// blocks, which could then not be returned.
void pack(const Client& client, std::string& packed) {
  const std::size_t size = client.ByteSizeLong();
  if (size > packed.capacity()) {
    std::string().swap(packed);
    packed.reserve(size + kRoom);
  }
  packed.resize(size);
  client.SerializeToArray(packed.data(), static_cast<int>(size));
}

}  // namespace

std::optional<Client> Mirror::add(const Client& client) {
  if (client.name().empty() || client.path().empty() || by_name_.contains(client.name()) ||
      by_path(client.path())) {
    return std::nullopt;
  }
  const auto added = by_name_.try_emplace(client.name()).first;
  pack(client, added->second);
  by_path_.emplace(hash_of(client.path()), added->first);
  return client;
}

std::optional<Client> Mirror::change(const Client& change) {
  auto client = by_name(change.name());
  if (!client) return std::nullopt;
  // The name and the path do not change, because they are keys of the tables.
  Client fields = change;
  fields.clear_name();
  fields.clear_path();
  fields.clear_secret();
  client->MergeFrom(fields);
  pack(*client, by_name_.at(client->name()));
  return client;
}

std::optional<Client> Mirror::remove(const std::string& name) {
  auto client = by_name(name);
  if (!client) return std::nullopt;
  const auto [first, last] = by_path_.equal_range(hash_of(client->path()));
  for (auto at = first; at != last;) at = at->second == name ? by_path_.erase(at) : std::next(at);
  by_name_.erase(name);
  return client;
}

std::optional<Client> Mirror::by_name(const std::string& name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return std::nullopt;
  std::optional<Client> client(std::in_place);
  client->ParseFromString(found->second);
  return client;
}

std::optional<Client> Mirror::by_path(std::string_view path) const {
  const auto [first, last] = by_path_.equal_range(hash_of(path));
  for (auto at = first; at != last; ++at) {
    if (auto client = by_name(std::string(at->second)); client->path() == path) return client;
  }
  return std::nullopt;
}

}  // namespace mandos::bus_agent
