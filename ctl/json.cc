// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/json.h"

#include <nlohmann/json.hpp>

#include <utility>
#include <variant>

namespace mandos::ctl {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string dump_json(const std::vector<Client>& clients) {
  Json all = Json::object();
  for (const auto& client : clients) {
    Json one = Json::object();
    for (const auto& property : all_properties()) {
      std::visit([&](const auto& value) { one[std::string(property.name)] = value; },
                 client.value(property.name));
    }
    all[client.name()] = std::move(one);
  }
  return all.dump(4, ' ', true) + "\n";
}

}  // namespace mandos::ctl
