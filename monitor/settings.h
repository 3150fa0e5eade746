// SPDX-License-Identifier: GPL-3.0-or-later
// The server's own settings (mandos(8), mandos.conf(5)). The command line overrides mandos.conf,
// which overrides the defaults.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/log.h"
#include "common/result.h"
#include "config.h"

namespace mandos::monitor {

struct Settings {
  std::string interface;   // empty: all
  std::string address;     // a literal, perhaps with "%scope"; empty: all
  std::uint16_t port = 0;  // 0: any
  std::string priority =
      "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA";
  std::string servicename = "Mandos";
  bool debug = false;
  bool tls_debug = false;   // --debug twice
  bool foreground = false;  // true with debug
  bool use_dbus = true;
  bool use_ipv6 = true;
  bool restore = true;
  bool zeroconf = true;
  int socket = -1;                      // -1: none
  LogLevel level = LogLevel::kWarning;  // kDebug with debug
  std::string configdir = MANDOS_CONFIG_DIR;
  std::string statedir = MANDOS_STATE_DIR;
  // In mandos.conf only.
  unsigned max_connections = 6144;
  unsigned max_per_source = 64;
  Milliseconds login_grace = std::chrono::seconds(15);
  Milliseconds source_penalty = std::chrono::seconds(10);
  unsigned penalty_threshold = 20;
  std::string penalty_exempt;  // networks, as the networker reads them
  unsigned networkers = 1;
  /// Where each setting that was given is, in mandos.conf or on the command line, for messages.
  std::map<std::string_view, std::string> places;
  std::string place(std::string_view name) const {
    return places.contains(name) ? places.at(name) : std::string();
  }
};

enum class Action { kRun, kHelp, kVersion, kCheck, kReload };

struct CommandLine {
  Action action = Action::kRun;
  std::string configdir = MANDOS_CONFIG_DIR;
  /// Setting and value, each valid by itself, in the order given.
  std::vector<std::pair<std::string_view, std::string>> overrides;
};

/// What --help and --version print, with the final newline.
std::string help_text();
inline std::string version_text() { return "mandos " MANDOS_VERSION "\n"; }
/// What a usage error prints (exit status 2), with the final newline.
std::string usage_error_text(std::string_view error);

/// Reads the arguments by getopt_long(3): long options may be abbreviated. The Error is one for
/// usage_error_text().
Result<CommandLine> parse_command_line(int argc, char* const argv[]);

struct LoadedSettings {
  Settings settings;
  /// If there are any, the settings must not be used. Each names file, line, section and option,
  /// what was found and what was expected.
  std::vector<std::string> problems;
  std::vector<std::string> warnings;
  /// The settings contradict each other in a way that is a usage error; empty: they do not.
  std::string usage_error;
  /// Of mandos.conf; empty: there is none.
  std::string text;
};

/// Reads CONFIGDIR/mandos.conf, which may be absent, and applies the command line's overrides. If
/// `kept` has a value, it is the text that was read before, and is used instead of the file.
LoadedSettings load_settings(const CommandLine& command_line,
                             const std::optional<std::string>& kept = std::nullopt);

}  // namespace mandos::monitor
