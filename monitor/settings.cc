// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/settings.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <net/if.h>
#include <strings.h>

#include <algorithm>
#include <climits>
#include <new>

#include "monitor/duration.h"
#include "monitor/ini.h"

namespace mandos::monitor {
namespace {

// Each sets one member from text, or its Error says what was expected.

template <auto Member>
Status text(Settings& settings, std::string_view value) {
  settings.*Member = value;
  return Ok{};
}

template <auto Member>
Status boolean(Settings& settings, std::string_view value) {
  const auto truth = parse_boolean(value);
  if (!truth) return Error{kBooleans};
  settings.*Member = *truth;
  return Ok{};
}

/// An empty value leaves the default.
template <auto Member, int Least, int Most>
Status number(Settings& settings, std::string_view value) {
  int parsed = 0;
  if (value.empty()) return Ok{};
  if (!parse_number(value, parsed) || parsed < Least || parsed > Most) {
    return Error{concat("a whole number from ", Least, " to ", Most)};
  }
  settings.*Member = static_cast<std::remove_reference_t<decltype(settings.*Member)>>(parsed);
  return Ok{};
}

template <auto Member, int Least, int Most>
Status duration(Settings& settings, std::string_view value) {
  auto parsed = parse_duration(value);
  if (!parsed) return Error{parsed.error()};
  if (*parsed < std::chrono::seconds(Least) || *parsed > std::chrono::seconds(Most)) {
    return Error{concat(Least, " to ", Most, " seconds")};
  }
  settings.*Member = *parsed;
  return Ok{};
}

Status interface(Settings& settings, std::string_view value) {
  if (value.size() >= IFNAMSIZ || value.find_first_of("/: \t") != value.npos) {
    return Error{concat("the name of a network interface, of at most ", IFNAMSIZ - 1, " bytes")};
  }
  return text<&Settings::interface>(settings, value);
}

Status statedir(Settings& settings, std::string_view value) {
  if (value.empty()) return Error{"a folder"};
  return text<&Settings::statedir>(settings, value);
}

Status servicename(Settings& settings, std::string_view value) {
  if (value.empty() || value.size() > 63 || !is_text(value)) {  // RFC 6763 section 4.1.1
    return Error{"1 to 63 bytes of UTF-8"};
  }
  return text<&Settings::servicename>(settings, value);
}

Status level(Settings& settings, std::string_view value) {
  static constexpr std::pair<const char*, LogLevel> kLevels[] = {
      {"", LogLevel::kWarning},    {"CRITICAL", LogLevel::kCritical},
      {"ERROR", LogLevel::kError}, {"WARNING", LogLevel::kWarning},
      {"INFO", LogLevel::kInfo},   {"DEBUG", LogLevel::kDebug}};
  const std::string name(value);
  for (const auto& [known, meaning] : kLevels) {
    if (strcasecmp(known, name.c_str()) == 0) {
      settings.level = meaning;
      return Ok{};
    }
  }
  return Error{"CRITICAL, ERROR, WARNING, INFO or DEBUG"};
}

struct Setting {
  std::string_view name;
  /// Whether %(name)s is expanded: not in texts, where "%PROFILE_ULTRA" must stand.
  bool expanded;
  Status (*set)(Settings&, std::string_view);
};
constexpr Setting kSettings[] = {
    {"interface", false, interface},
    {"address", false, text<&Settings::address>},
    {"port", true, number<&Settings::port, 0, 65535>},
    {"debug", true, boolean<&Settings::debug>},
    {"debuglevel", false, level},
    {"priority", false, text<&Settings::priority>},
    {"servicename", false, servicename},
    {"use_dbus", true, boolean<&Settings::use_dbus>},
    {"use_ipv6", true, boolean<&Settings::use_ipv6>},
    {"restore", true, boolean<&Settings::restore>},
    {"statedir", false, statedir},
    {"socket", true, number<&Settings::socket, 0, INT_MAX>},
    {"foreground", true, boolean<&Settings::foreground>},
    {"zeroconf", true, boolean<&Settings::zeroconf>},
    {"max_connections", true, number<&Settings::max_connections, 1, 1 << 16>},
    {"max_connections_per_source", true, number<&Settings::max_per_source, 1, 1 << 16>},
    {"login_grace_time", true, duration<&Settings::login_grace, 1, 3600>},
    {"source_penalty_time", true, duration<&Settings::source_penalty, 0, 86400>},
    {"networkers", true, number<&Settings::networkers, 1, 16>},
};

const Setting* find_setting(std::string_view name) {
  const auto* found = std::find_if(std::begin(kSettings), std::end(kSettings),
                                   [&](const Setting& each) { return each.name == name; });
  return found == std::end(kSettings) ? nullptr : found;
}

struct Argument {
  const char* name;
  char letter;          // 0: none
  const char* operand;  // null: takes none, and means `value`
  std::string_view setting;
  const char* value;
  const char* help;
};
constexpr Argument kArguments[] = {
    {"help", 'h', nullptr, "", "", "print this text and exit"},
    {"version", 'v', nullptr, "", "", "print the version and exit"},
    {"check", 0, nullptr, "", "", "run the self-tests, judge the configuration and exit"},
    {"interface", 'i', "IF", "interface", "", "listen and announce on this interface only"},
    {"address", 'a', "ADDRESS", "address", "", "listen on this address only"},
    {"port", 'p', "PORT", "port", "", "listen on this port instead of an arbitrary one"},
    {"socket", 0, "FD", "socket", "", "listen on this inherited socket"},
    {"debug", 0, nullptr, "debug", "True", "stay in the foreground and log everything there too"},
    {"debuglevel", 0, "LEVEL", "debuglevel", "", "CRITICAL, ERROR, WARNING, INFO or DEBUG"},
    {"foreground", 0, nullptr, "foreground", "True", "stay in the foreground, write no PID file"},
    {"priority", 0, "STRING", "priority", "", "GnuTLS priority string of the handshake"},
    {"servicename", 0, "NAME", "servicename", "", "name of the announced service"},
    {"configdir", 0, "DIR", "configdir", "", "folder of mandos.conf and clients.conf"},
    {"statedir", 0, "DIR", "statedir", "", "folder of the saved state"},
    {"no-restore", 0, nullptr, "restore", "False", "start without the saved state"},
    {"no-dbus", 0, nullptr, "use_dbus", "False", "serve no D-Bus interface"},
    {"no-ipv6", 0, nullptr, "use_ipv6", "False", "use IPv4 only"},
    {"no-zeroconf", 0, nullptr, "zeroconf", "False", "announce nothing; needs a port or socket"},
};

bool is_address(const Settings& settings) {
  unsigned char binary[sizeof(in6_addr)];
  const auto percent = settings.address.find('%');
  const auto literal = settings.address.substr(0, percent);
  if (!settings.use_ipv6) return inet_pton(AF_INET, settings.address.c_str(), binary) == 1;
  const auto scope = settings.address.size() - std::min(percent, settings.address.size());
  return inet_pton(AF_INET6, literal.c_str(), binary) == 1 && scope != 1 && scope <= IFNAMSIZ;
}

}  // namespace

std::string help_text() {
  std::string out = "usage: mandos [OPTION]...\n\n";
  for (const auto& each : kArguments) {
    const std::string operand = each.operand != nullptr ? concat(" ", each.operand) : "";
    std::string left = each.letter != 0 ? concat("  -", each.letter, ", --") : "      --";
    left += concat(each.name, operand);
    left.resize(std::max<std::size_t>(left.size() + 1, 28), ' ');
    out += concat(left, each.help, '\n');
  }
  return out;
}

std::string version_text() { return "mandos " MANDOS_VERSION "\n"; }

std::string usage_error_text(std::string_view error) {
  return concat("usage: mandos [OPTION]... (see mandos --help)\nmandos: error: ", error, '\n');
}

Result<CommandLine> parse_command_line(int argc, char* const argv[]) {
  std::string letters = ":";
  std::vector<option> options;
  for (const auto& each : kArguments) {
    const bool operand = each.operand != nullptr;
    options.push_back({each.name, operand ? required_argument : no_argument, nullptr,
                       static_cast<int>(256 + options.size())});
    if (each.letter != 0) letters += concat(each.letter, operand ? ":" : "");
  }
  options.push_back({});
  CommandLine out;
  Settings scratch;
  optind = 0;  // getopt_long(3): start afresh
  opterr = 0;
  for (;;) {
    const int found = getopt_long(argc, argv, letters.c_str(), options.data(), nullptr);
    if (found == -1) break;
    const auto* argument =
        std::find_if(std::begin(kArguments), std::end(kArguments), [&](const Argument& each) {
          return each.letter == found || &each - kArguments == found - 256;
        });
    if (argument == std::end(kArguments)) {
      const bool is_letter = optopt > 0 && optopt < 256;
      return Error{
          concat(found == ':' ? "missing value: " : "unknown, ambiguous or misused option: ",
                 is_letter ? concat('-', static_cast<char>(optopt)) : escaped(argv[optind - 1]))};
    }
    const std::string_view name = argument->name;
    if (name == "help" || name == "version") {
      out.action = name == "help" ? Action::kHelp : Action::kVersion;
      return out;
    }
    const std::string value = argument->operand != nullptr ? optarg : argument->value;
    if (name == "check") {
      out.action = Action::kCheck;
    } else if (name == "configdir") {
      out.configdir = value;
    } else if (auto set = find_setting(argument->setting)->set(scratch, value); !set) {
      return Error{concat("--", name, ": found ", quoted(value), ", expected ", set.error())};
    } else {
      out.overrides.emplace_back(argument->setting, value);
    }
  }
  if (optind < argc) return Error{concat("unexpected argument: ", escaped(argv[optind]))};
  return out;
}

LoadedSettings load_settings(const CommandLine& command_line) try {
  LoadedSettings out;
  Settings& settings = out.settings;
  settings.configdir = command_line.configdir;
  const std::string path = settings.configdir + "/mandos.conf";
  Ini ini;
  auto content = read_file(path, {});
  if (!content) {
    out.problems.push_back(content.error());
  } else if (*content) {
    ini.read(path, std::move(**content), out.problems);
  }
  for (auto& [name, section] : ini.sections()) {
    out.warnings.push_back(concat(section.place.text(), ": [", escaped(name),
                                  "] is ignored: only [DEFAULT] has a meaning here"));
  }
  std::string address_place;
  for (auto& [name, option] : ini.defaults().options) {
    const auto* setting = find_setting(name);
    if (setting == nullptr) continue;
    auto value =
        setting->expanded ? ini.expand(ini.defaults(), option) : Result(SecretString(option.value));
    const auto set = value ? setting->set(settings, *value) : Error{kExpansion};
    if (!set) {
      out.problems.push_back(Ini::problem(option.place, "DEFAULT", name,
                                          value ? quoted(option.value) : value.error(),
                                          set.error()));
    }
    if (name == "address") address_place = concat(option.place.text(), ": [DEFAULT] address: ");
  }
  ini.warn_of_unknown(ini.defaults(), "DEFAULT", find_setting, out.warnings);
  for (const auto& [name, value] : command_line.overrides) {
    const auto set = find_setting(name)->set(settings, value);
    if (!set) out.problems.push_back(set.error());
    if (name == "address") address_place = "--address: ";
  }
  if (settings.debug) {
    settings.foreground = true;
    settings.level = LogLevel::kDebug;
  }
  if (!settings.address.empty() && !is_address(settings)) {
    out.problems.push_back(concat(address_place, "found ", quoted(settings.address),
                                  ", expected an ",
                                  settings.use_ipv6 ? "IPv6 address, perhaps with %interface"
                                                    : "IPv4 address, since IPv6 is off"));
  }
  if (!settings.zeroconf && settings.port == 0 && settings.socket < 0) {
    out.usage_error = "without Zeroconf a port or a socket is needed";
  }
  return out;
} catch (const std::bad_alloc&) {
  LoadedSettings out;
  out.problems.emplace_back(kNoSecretMemory);
  return out;
}

}  // namespace mandos::monitor
