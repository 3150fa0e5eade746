// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/json.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "common/text.h"

namespace mandos::ctl {
namespace {

using Json = nlohmann::ordered_json;

std::optional<Value> value_of(const Json& json, Kind kind) {
  if (kind == Kind::kText && json.is_string()) return json.get<std::string>();
  if (kind == Kind::kBoolean && json.is_boolean()) return json.get<bool>();
  if (kind == Kind::kDuration && json.is_number_unsigned()) return json.get<std::uint64_t>();
  if (kind == Kind::kNumber && json.is_number_integer()) return json.get<std::int64_t>();
  return std::nullopt;
}

}  // namespace

std::string dump_json(const std::vector<Client>& clients) {
  Json all = Json::object();
  auto& members = all.get_ref<Json::object_t&>();
  for (const auto& client : clients) {
    Json one = Json::object();
    for (const auto& property : all_properties()) {
      std::visit([&](const auto& value) { one[std::string(property.name)] = value; },
                 client.value(property.name));
    }
    members.emplace_back(client.name(), std::move(one));  // all[] would search every name
  }
  return all.dump(4, ' ', true) + "\n";
}

Result<std::vector<Client>> read_dump(std::string_view text) {
  const Json all = Json::parse(text, nullptr, false);
  if (all.is_discarded()) return Error{"this is not JSON"};
  if (!all.is_object())
    return Error{"found JSON that is not an object, expected what --dump-json writes"};
  std::vector<Client> clients;
  for (const auto& [name, members] : all.items()) {
    if (!members.is_object()) {
      return Error{concat("client \"", printable(name), "\" is not an object")};
    }
    Client client;
    for (const auto& property : all_properties()) {
      const auto found = members.find(property.name);
      if (found == members.end()) continue;
      auto value = value_of(*found, property.kind);
      if (!value) {
        return Error{
            concat("client \"", printable(name), "\": ", property.name, " has the wrong type")};
      }
      // The bus cannot carry one, and would truncate the text there.
      if (const auto* given = std::get_if<std::string>(&*value);
          given != nullptr && given->find('\0') != std::string::npos) {
        return Error{
            concat("client \"", printable(name), "\": ", property.name, " has a null character")};
      }
      client.properties.emplace(property.name, std::move(*value));
    }
    // Settings alone, or other JSON, must not be mistaken for what keeps clients disabled.
    if (!client.properties.contains("Enabled")) {
      return Error{concat("client \"", printable(name),
                          "\": found no Enabled, expected what --dump-json writes")};
    }
    client.properties.insert_or_assign("Name", name);
    clients.push_back(std::move(client));
  }
  return clients;
}

std::string json_line(const std::vector<std::pair<std::string, Value>>& members) {
  Json line = Json::object();
  for (const auto& [name, value] : members) {
    std::visit([&line, &key = name](const auto& inner) { line[key] = inner; }, value);
  }
  return line.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
}

}  // namespace mandos::ctl
