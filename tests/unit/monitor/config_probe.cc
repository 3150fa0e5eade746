// SPDX-License-Identifier: GPL-3.0-or-later
// Answers config_differential_test.py: one question a line on standard input, one answer a line.
// Every text in either is in hexadecimal digits.
//   ini TEXT      -> "refused" or "ok" and " SECTION=OPTION=VALUE" for each option a section sees
//   duration TEXT -> "refused" or "ok MILLISECONDS"
//   clients PATH  -> "refused" or "ok" and for each client its name and settings, joined by '='
#include <cstddef>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>

#include "common/duration.h"
#include "monitor/clients_conf.h"
#include "monitor/ini.h"

namespace {

using namespace mandos::monitor;

std::string from_hex(std::string_view digits) {
  std::string out;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    out += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  }
  return out;
}

std::string hex(std::string_view bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return out;
}

std::string ini(std::string_view text) {
  Problems problems;
  Ini parsed;
  parsed.add_default("preset", "set %%before");
  parsed.read("file", SecretString(text, &secret_memory()), problems);
  if (!problems.empty()) return "refused";
  std::ostringstream out;
  out << "ok";
  for (auto& [name, section] : parsed.sections()) {
    for (const auto* options : {&section.options, &parsed.defaults().options}) {
      for (const auto& [option_name, option] : *options) {
        if (options != &section.options && section.options.contains(option_name)) continue;
        const auto value = parsed.expand(section, option);
        if (!value) return "refused";
        out << ' ' << hex(name) << '=' << hex(option_name) << '=' << hex(*value);
      }
    }
  }
  return out.str();
}

std::string duration(std::string_view text) {
  const auto parsed = mandos::parse_duration(text);
  return parsed ? "ok " + std::to_string(parsed->count()) : "refused";
}

std::string clients(const std::string& path) {
  const auto loaded = load_clients(path);
  if (!loaded.problems.empty()) return "refused " + hex(loaded.problems.front());
  std::ostringstream out;
  out << "ok";
  for (const auto& [name, client] : loaded.clients) {
    const auto secret = client.secret->bytes();
    out << ' ' << hex(name) << '=' << (client.key_id ? client.key_id->text() : "") << '='
        << hex(client.fingerprint) << '='
        << hex({reinterpret_cast<const char*>(secret.data()), secret.size()}) << '='
        << hex(client.host) << '=' << hex(client.checker) << '=' << client.enabled << '='
        << client.approved_by_default << '=' << client.timeout.count() << '='
        << client.extended_timeout.count() << '=' << client.interval.count() << '='
        << client.approval_delay.count() << '=' << client.approval_duration.count();
  }
  return out.str();
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto space = line.find(' ');
    const auto question = line.substr(0, space);
    const auto text = from_hex(line.substr(space + 1));
    std::cout << (question == "ini"        ? ini(text)
                  : question == "duration" ? duration(text)
                                           : clients(text))
              << std::endl;
  }
}
