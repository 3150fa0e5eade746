// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/checker_command.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string_view>
#include <type_traits>

#include "proto/checker_runner.h"
namespace mandos::monitor {
namespace {

/// One word for the POSIX shell (IEEE Std 1003.1, "Quoting"): in single quotes, where only the
/// single quote itself is special, unless every character is harmless.
std::string shell_word(std::string_view value) {
  constexpr std::string_view kHarmless =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_";
  if (!value.empty() && value.find_first_not_of(kHarmless) == value.npos) return std::string(value);
  std::string out = "'";
  for (const char character : value) {
    out += character == '\'' ? R"('"'"')" : std::string_view(&character, 1);
  }
  return out + '\'';
}

template <class... Arguments>
std::string formatted(const char* format, Arguments... arguments) {
  char buffer[64];
  return {buffer, static_cast<std::size_t>(snprintf(buffer, sizeof buffer, format, arguments...))};
}

std::string microseconds(std::int64_t count) {
  return count == 0 ? "" : formatted(".%06lld", static_cast<long long>(count));
}

std::string shown(std::string_view value) { return std::string(value); }
std::string shown(bool value) { return value ? "True" : "False"; }
std::string shown(const std::optional<KeyId>& value) { return value ? value->text() : ""; }

std::string shown(Milliseconds value) {
  const auto days = std::chrono::floor<std::chrono::days>(value);
  const std::chrono::hh_mm_ss time(std::chrono::microseconds(value - days));
  const auto number = static_cast<long long>(days.count());
  return (number == 0 ? "" : formatted(number == 1 ? "%lld day, " : "%lld days, ", number)) +
         formatted("%d:%02d:%02d", static_cast<int>(time.hours().count()),
                   static_cast<int>(time.minutes().count()),
                   static_cast<int>(time.seconds().count())) +
         microseconds(time.subseconds().count());
}

std::string shown(WallTime value) {
  const auto day = std::chrono::floor<std::chrono::days>(value);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(value - day);
  return formatted("%04d-%02u-%02u %02d:%02d:%02d", static_cast<int>(date.year()),
                   static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                   static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                   static_cast<int>(time.seconds().count())) +
         microseconds(time.subseconds().count());
}
std::string shown(const std::optional<WallTime>& value) { return value ? shown(*value) : "None"; }

template <auto Member>
std::string value(const Client& client) {
  if constexpr (std::is_invocable_v<decltype(Member), ClientSettings>) {
    return shown((*client.settings).*Member);
  } else {
    return shown(std::invoke(Member, client));
  }
}

constexpr Attribute kAttributes[] = {
    {"created", value<&Client::created>},
    {"dbus_object_path", value<&Client::object_path>},
    {"expires", value<&Client::expires_shown>},
    {"last_approval_request", value<&Client::last_approval_request>},
    {"last_checked_ok", value<&Client::last_checked_ok>},
    {"last_enabled", value<&Client::last_enabled>},
    {"name", value<&Client::name>},
#define ROW(type, name, property, preset, least, uses) \
  {#name, value<&ClientSettings::name>, uses, true},
#define STATE(type, name, property, preset, least, uses) {#name, value<&Client::name>, uses},
    MANDOS_CLIENT_SETTINGS(ROW, MANDOS_NO_ROW, ROW, STATE)
#undef ROW
#undef STATE
};

}  // namespace

std::span<const Attribute> attributes() { return kAttributes; }

std::string attribute(const Client& client, std::string_view name) {
  return std::ranges::find(kAttributes, name, &Attribute::name)->value(client);
}

std::string last_answer(const Client& client) {
  return client.last_checked_ok ? shown(*client.last_checked_ok).substr(0, 19) + 'Z' : "never";
}

Result<std::string> expand_checker(const Client& client) {
  const auto bad = [&](const auto&... why) {
    return Error{concat("checker \"", escaped(client.settings->checker), "\": ", why...)};
  };
  std::string out;
  std::string_view rest = client.settings->checker;
  while (true) {
    const std::size_t percent = rest.find('%');
    out += rest.substr(0, percent);
    if (percent == rest.npos) break;
    rest.remove_prefix(percent + 1);
    if (rest.starts_with('%')) {
      out += '%';
      rest.remove_prefix(1);
      continue;
    }
    const std::size_t end = rest.find(')');
    if (!rest.starts_with('(') || end == rest.npos || !rest.substr(end + 1).starts_with('s')) {
      return bad("found \"", escaped(rest.substr(0, 20)),
                 "\" after a percent sign, expected \"(NAME)s\" or another percent sign");
    }
    const std::string_view name = rest.substr(1, end - 1);
    const auto* attribute = std::ranges::find(kAttributes, name, &Attribute::name);
    if (attribute == std::end(kAttributes) || (attribute->uses & kForCheckers) == 0 ||
        (name == "dbus_object_path" && client.object_path.empty())) {
      return bad("there is no \"", escaped(name), "\" to put in");
    }
    out += shell_word(attribute->value(client));
    rest.remove_prefix(end + 2);
  }
  if (out.find('\0') != out.npos) return bad("holds a zero byte");
  if (out.size() >= door::checker_runner::kLongestCommand)
    return bad("longer than ", door::checker_runner::kLongestCommand, " bytes");
  return out;
}

}  // namespace mandos::monitor
