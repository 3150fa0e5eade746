// SPDX-License-Identifier: GPL-3.0-or-later
// Any bytes as a configuration file, and as mandos.conf. Each error names file and line; what was
// read without one is the same after it was written and read again; an expansion is a slow model's.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "monitor/ini.h"
#include "monitor/settings.h"
#include "tests/fuzz/config_checks.h"
#include "tests/fuzz/folder.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;
using monitor::Ini;
using monitor::SecretString;

constexpr std::size_t kMostSteps = 10000;

/// Nothing for a value that is wrong; no answer (`steps` too many) for one that takes too long.
std::optional<std::string> expand(const Ini::Section& section, const Ini::Section& defaults,
                                  std::string_view value, int depth, std::size_t& steps) {
  if (++steps > kMostSteps) return std::nullopt;
  if (depth > 10 && value.find('%') != value.npos) return std::nullopt;
  std::string out;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] != '%') {
      out += value[i];
    } else if (value.substr(i, 2) == "%%") {
      out += '%';
      ++i;
    } else {
      const auto end = value.find(')', i);
      if (value.substr(i, 2) != "%(" || end == value.npos || end == i + 2 ||
          value.substr(end + 1, 1) != "s") {
        return std::nullopt;
      }
      std::string name(value.substr(i + 2, end - i - 2));
      for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
      const auto own = section.options.find(name);
      const auto common = defaults.options.find(name);
      if (own == section.options.end() && common == defaults.options.end()) return std::nullopt;
      const auto inner =
          expand(section, defaults,
                 own != section.options.end() ? own->second.value : common->second.value, depth + 1,
                 steps);
      if (!inner) return std::nullopt;
      out += *inner;
      i = end + 1;
    }
  }
  return out;
}

std::string written(Ini& ini) {
  std::string out;
  const auto add = [&out](std::string_view name, const Ini::Section& section) {
    out += concat('[', name, "]\n");
    for (const auto& [option, value] : section.options) {
      out += concat(option, " = ", folded(value.value), '\n');
    }
  };
  add("DEFAULT", ini.defaults());
  for (const auto& [name, section] : ini.sections()) add(name, section);
  return out;
}

void fuzz_ini(std::string_view content) {
  monitor::Problems problems;
  Ini ini;
  ini.read("FILE", SecretString(content, &monitor::secret_memory()), problems);
  for (const auto& problem : problems) require_place(problem, "FILE", content);
  if (!problems.empty()) return;

  const std::string once = written(ini);
  Ini second;
  second.read("AGAIN", SecretString(once, &monitor::secret_memory()), problems);
  require(problems.empty(), "what was read can be read again",
          problems.empty() ? std::string_view() : problems.front());
  require(written(second) == once, "what was read again is the same");

  for (auto& [name, section] : ini.sections()) {
    for (auto& [option_name, option] : section.options) {
      std::size_t steps = 0;
      const auto expected = expand(section, ini.defaults(), option.value, 1, steps);
      if (steps > kMostSteps) continue;
      const auto found = ini.expand(section, option);
      require(static_cast<bool>(found) == expected.has_value(), "an expansion is good or not");
      require(!found || std::string_view(*found) == *expected, "an expansion is the model's");
      require(found || !found.error().empty(), "a wrong expansion is explained");
    }
  }
}

std::string written(const monitor::Settings& s) {
  const auto boolean = [](bool value) { return value ? "yes" : "no"; };
  const auto seconds = [](Milliseconds value) { return concat("PT", value.count() / 1000, "S"); };
  const auto text = [](std::string_view name, std::string_view value) {
    return concat(name, " = ", folded(value), '\n');
  };
  return concat("[DEFAULT]\n", text("interface", s.interface), text("address", s.address),
                text("priority", s.priority), text("servicename", s.servicename),
                text("statedir", s.statedir), "port = ", s.port, "\ndebug = ", boolean(s.debug),
                "\nforeground = ", boolean(s.foreground), "\nuse_dbus = ", boolean(s.use_dbus),
                "\nuse_ipv6 = ", boolean(s.use_ipv6), "\nrestore = ", boolean(s.restore),
                "\nzeroconf = ", boolean(s.zeroconf),
                s.socket < 0 ? "" : concat("\nsocket = ", s.socket),
                "\nmax_connections = ", s.max_connections,
                "\nmax_connections_per_source = ", s.max_per_source,
                "\nlogin_grace_time = ", seconds(s.login_grace),
                "\nsource_penalty_time = ", seconds(s.source_penalty),
                "\nsource_penalty_threshold = ", s.penalty_threshold, '\n',
                text("source_penalty_exempt", s.penalty_exempt), "networkers = ", s.networkers,
                "\ndebuglevel = ",
                s.level == LogLevel::kCritical  ? "critical"
                : s.level == LogLevel::kError   ? "error"
                : s.level == LogLevel::kWarning ? "warning"
                : s.level == LogLevel::kInfo    ? "info"
                                                : "debug",
                '\n');
}

void fuzz_settings(std::string_view content) {
  static const Folder folder;
  const auto file = folder.file("mandos.conf");
  const auto load = [&](std::string_view text) {
    folder.put("mandos.conf", text);
    monitor::CommandLine command_line;
    command_line.configdir = folder.path();
    return monitor::load_settings(command_line);
  };
  const auto loaded = load(content);
  for (const auto& each : loaded.warnings) require_place(each, file, content);
  for (const auto& each : loaded.problems) require_place(each, file, content);
  const auto& settings = loaded.settings;
  if (!loaded.problems.empty()) return;
  require(settings.max_connections >= 1 && settings.max_connections <= 65536 &&
              settings.max_per_source >= 1 && settings.max_per_source <= 65536 &&
              settings.networkers >= 1 && settings.networkers <= 16 && settings.socket >= -1 &&
              settings.penalty_threshold >= 1 && settings.penalty_threshold <= 10000,
          "numbers stay in their range");
  require(settings.login_grace >= std::chrono::seconds(1) &&
              settings.login_grace <= std::chrono::hours(1) &&
              settings.source_penalty >= Milliseconds(0) &&
              settings.source_penalty <= std::chrono::hours(24),
          "durations stay in their range");
  require(!settings.debug || settings.foreground, "debug implies the foreground");
  const std::string once = written(settings);
  const auto again = load(once);
  require(again.problems.empty(), "settings can be read again",
          again.problems.empty() ? std::string_view() : again.problems.front());
  require(written(again.settings) == once, "settings read again are the same", once);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 16384) return 0;
  fuzz_ini(text_of(data, size));
  fuzz_settings(text_of(data, size));
  return 0;
}
