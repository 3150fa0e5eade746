// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/statistics.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "common/text.h"
#include "ctl/bus.h"
#include "ctl/times.h"

namespace mandos::ctl {
namespace {

constexpr char kProperties[] = "org.freedesktop.DBus.Properties";
constexpr char kInterface[] = "se.recompile.Mandos.Statistics";
constexpr char kSecretInterface[] = "se.recompile.Mandos.Client.Secret";
constexpr char kNumbers[] = "a{st}";

using Numbers = std::map<std::string, std::uint64_t>;
using Member = std::variant<std::uint64_t Statistics::*, Numbers Statistics::*,
                            std::string Statistics::*, std::int64_t Statistics::*>;
struct Row {
  std::string_view property;
  Member member;
};
const Row kTable[] = {
    {"StartTime", &Statistics::start},
    {"Grants", &Statistics::grants},
    {"Refusals", &Statistics::refusals},
    {"ChecksPassed", &Statistics::checks_passed},
    {"ChecksFailed", &Statistics::checks_failed},
    {"UnknownKeys", &Statistics::unknown_keys},
    {"Restarts", &Statistics::restarts},
    {"ServiceName", &Statistics::service},
};

bool read_text(sd_bus_message* message, std::string& text) {
  const char* found = nullptr;
  if (sd_bus_message_read_basic(message, 's', &found) <= 0) return false;
  text = found;
  return true;
}

/// Reads a value of that type from the variant that comes next. False: the type differs.
bool read(sd_bus_message* message, const char* type, auto&& inside) {
  return sd_bus_message_enter_container(message, 'v', type) > 0 && inside() &&
         sd_bus_message_exit_container(message) >= 0;
}

bool read_member(sd_bus_message* message, std::uint64_t& number) {
  return read(message, "t", [&] { return sd_bus_message_read_basic(message, 't', &number) > 0; });
}

bool read_member(sd_bus_message* message, std::string& text) {
  return read(message, "s", [&] { return read_text(message, text); });
}

bool read_member(sd_bus_message* message, std::int64_t& time) {
  std::string text;
  if (!read_member(message, text)) return false;
  const auto found = parse_time(text);
  time = found.value_or(0);
  return found.has_value();
}

bool read_member(sd_bus_message* message, Numbers& numbers) {
  return read(message, kNumbers, [&] {
    if (sd_bus_message_enter_container(message, 'a', "{st}") <= 0) return false;
    while (sd_bus_message_enter_container(message, 'e', "st") > 0) {
      std::string key;
      std::uint64_t number = 0;
      if (!read_text(message, key) || sd_bus_message_read_basic(message, 't', &number) <= 0 ||
          sd_bus_message_exit_container(message) < 0) {
        return false;
      }
      numbers.insert_or_assign(std::move(key), number);
    }
    return sd_bus_message_exit_container(message) >= 0;
  });
}

Error nonsense(std::string_view what) {
  return Error{concat("the server answers nonsense: ", what)};
}

}  // namespace

Result<std::optional<Statistics>> Bus::statistics() {
  auto call = new_call("/", kProperties, "GetAll");
  if (!call) return Error{call.error()};
  sd_bus_message_append(call->get(), "s", kInterface);
  const auto reply = send(std::move(*call), kInterface);
  // The original's server has its own error for an unknown call.
  if (!reply && trouble_ == Trouble::kOther) return std::optional<Statistics>();
  if (!reply) return Error{reply.error()};
  sd_bus_message* const message = reply->get();
  Statistics found;
  std::size_t rows = 0;
  if (sd_bus_message_enter_container(message, 'a', "{sv}") <= 0) {
    return failed(Trouble::kNonsense, nonsense("its statistics are no properties").text);
  }
  while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
    std::string name;
    bool right = read_text(message, name);
    const auto* const row = std::ranges::find(kTable, name, &Row::property);
    if (row == std::end(kTable)) {
      right = right && sd_bus_message_skip(message, "v") >= 0;
    } else {
      ++rows;
      right = right && std::visit([&](auto member) { return read_member(message, found.*member); },
                                  row->member);
    }
    if (!right || sd_bus_message_exit_container(message) < 0) {
      return failed(
          Trouble::kNonsense,
          nonsense(concat(printable(name), " of its statistics has the wrong type")).text);
    }
  }
  // A server without this interface may report that it has no properties.
  if (rows == 0) return std::optional<Statistics>();
  if (rows < std::size(kTable)) {
    return failed(Trouble::kNonsense, nonsense("its statistics are incomplete").text);
  }
  return std::optional(std::move(found));
}

Result<std::optional<std::string>> Bus::secret_form(const std::string& path) {
  auto call = new_call(path, kProperties, "Get");
  if (!call) return Error{call.error()};
  sd_bus_message_append(call->get(), "ss", kSecretInterface, "Form");
  const auto reply = send(std::move(*call), concat(kSecretInterface, ".Form"));
  if (!reply && trouble_ == Trouble::kOther) return std::optional<std::string>();
  if (!reply) return Error{reply.error()};
  std::string form;
  if (!read_member(reply->get(), form)) {
    return failed(Trouble::kNonsense, nonsense("Form of a secret has the wrong type").text);
  }
  return std::optional(std::move(form));
}

}  // namespace mandos::ctl
