// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/settings.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <net/if.h>
#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <cstddef>
#include <new>
#include <type_traits>

#include "monitor/ini.h"
#include "monitor/option_values.h"
#include "monitor/trusted_file.h"
#include "monitor/unknown_options.h"
#include "monitor/utf8.h"
#include "proto/supervisor.h"

namespace mandos::monitor {
namespace {

/// An empty value means the default, as in the original.
template <auto Member, int Least, int Most>
Status set_number(Settings& settings, std::string_view value) {
  int parsed = 0;
  if (value.empty()) return Ok{};
  if (!parse_number(value, parsed) || parsed < Least || parsed > Most) {
    return Error{concat("a whole number from ", Least, " to ", Most)};
  }
  settings.*Member = static_cast<std::remove_reference_t<decltype(settings.*Member)>>(parsed);
  return Ok{};
}

Status set_interface(Settings& settings, std::string_view value) {
  const bool good = value.size() < IFNAMSIZ && value.find_first_of("/: \t\"'#") == value.npos;
  return good ? set_text<&Settings::interface>(settings, value)
              : Error{concat("an interface's name of at most ", IFNAMSIZ - 1, " bytes")};
}

/// "#" may be part of the name, as in "Mandos #2".
Status set_servicename(Settings& settings, std::string_view value) {
  const bool good = !value.empty() && value.size() <= 63 && is_text(value) &&
                    (*Ini::hint(value) == '\0' ||
                     (value.find_first_of("\"'") != 0 && value.find("# ") == value.npos &&
                      value.find("; ") == value.npos));
  return good ? set_text<&Settings::servicename>(settings, value)
              : Error{"1 to 63 bytes of UTF-8 (RFC 6763 section 4.1.1)"};
}

/// A text that may contain neither a comment nor quotes.
template <auto Member>
Status set_plain(Settings& settings, std::string_view value) {
  return *Ini::hint(value) == '\0' ? set_text<Member>(settings, value) : Error{"the value alone"};
}

/// A relative path could lead to another folder, where no disabled client would be found.
Status set_statedir(Settings& settings, std::string_view value) {
  return value.empty() || (value.starts_with('/') && *Ini::hint(value) == '\0')
             ? set_text<&Settings::statedir>(settings, value)
             : Error{"an absolute path"};
}

Status set_level(Settings& settings, std::string_view value) {
  using enum LogLevel;
  static constexpr std::pair<const char*, LogLevel> kLevels[] = {
      {"", kWarning},        {"CRITICAL", kCritical}, {"ERROR", kError},
      {"WARNING", kWarning}, {"INFO", kInfo},         {"DEBUG", kDebug}};
  const auto* const level = std::ranges::find_if(kLevels, [&](const auto& each) {
    return strcasecmp(each.first, std::string(value).c_str()) == 0;
  });
  if (level == std::end(kLevels)) return Error{"CRITICAL, ERROR, WARNING, INFO or DEBUG"};
  settings.level = level->second;
  return Ok{};
}

/// A setting of mandos.conf, a command-line option, or both.
struct Row {
  std::string_view setting;
  Status (*set)(Settings& settings, std::string_view value);
  bool expanded;  // %(name)s; not in texts: "%PROFILE_ULTRA" must be possible
  const char* argument = nullptr;
  char letter = 0;
  const char* operand = nullptr;  // null: the option means False if it is a "no-", else True
  const char* help = nullptr;
};
constexpr Row kRows[] = {
    {"", nullptr, false, "help", 'h', nullptr, "print this text and exit"},
    {"", nullptr, false, "version", 'v', nullptr, "print the version and exit"},
    {"", nullptr, false, "check", 0, nullptr, "check the configuration, run self-tests, exit"},
    {"", nullptr, false, "reload", 0, nullptr, "tell the server to read its clients again, exit"},
    {"", nullptr, false, "configdir", 0, "DIR", "directory of mandos.conf and clients.conf"},
    {"interface", set_interface, false, "interface", 'i', "IF",
     "listen and announce on this interface only"},
    {"address", set_text<&Settings::address>, false, "address", 'a', "ADDRESS",
     "listen on this address only"},
    {"port", set_number<&Settings::port, 0, 65535>, true, "port", 'p', "PORT",
     "listen on this TCP port"},
    {"socket", set_number<&Settings::socket, 0, INT_MAX>, true, "socket", 0, "FD",
     "listen on this inherited socket"},
    {"debug", set_boolean<&Settings::debug>, true, "debug", 0, nullptr,
     "log everything, in the foreground; twice: GnuTLS, too"},
    {"debuglevel", set_level, false, "debuglevel", 0, "LEVEL",
     "CRITICAL, ERROR, WARNING (default), INFO or DEBUG"},
    {"foreground", set_boolean<&Settings::foreground>, true, "foreground", 0, nullptr,
     "stay in the foreground, write no PID file"},
    {"priority", set_plain<&Settings::priority>, false, "priority", 0, "STRING",
     "GnuTLS priority string for the handshake"},
    {"servicename", set_servicename, false, "servicename", 0, "NAME",
     "name of the announced service"},
    {"statedir", set_statedir, false, "statedir", 0, "DIR", "directory of the saved state"},
    {"restore", set_boolean<&Settings::restore>, true, "no-restore", 0, nullptr,
     "start without the saved state"},
    {"use_dbus", set_boolean<&Settings::use_dbus>, true, "no-dbus", 0, nullptr,
     "do not serve the D-Bus interface"},
    {"use_ipv6", set_boolean<&Settings::use_ipv6>, true, "no-ipv6", 0, nullptr, "use IPv4 only"},
    {"zeroconf", set_boolean<&Settings::zeroconf>, true, "no-zeroconf", 0, nullptr,
     "announce nothing; requires a port or a socket"},
    {"max_connections", set_number<&Settings::max_connections, 1, 65536>, true},
    {"max_connections_per_source", set_number<&Settings::max_per_source, 1, 65536>, true},
    {"login_grace_time", set_duration<&Settings::login_grace, 1, 3600>, true},
    {"source_penalty_time", set_duration<&Settings::source_penalty, 0, 86400>, true},
    {"source_penalty_threshold", set_number<&Settings::penalty_threshold, 1, 10000>, true},
    {"source_penalty_exempt", set_plain<&Settings::penalty_exempt>, false},
    {"networkers", set_number<&Settings::networkers, 1, 16>, true},
};

const Row* find_row(std::string_view setting) {
  const auto* row = std::ranges::find(kRows, setting, &Row::setting);
  return row == std::end(kRows) || row->set == nullptr ? nullptr : row;
}

bool is_address(const Settings& settings) {
  unsigned char binary[sizeof(in6_addr)];
  const auto& address = settings.address;
  if (!settings.use_ipv6) return inet_pton(AF_INET, address.c_str(), binary) == 1;
  const auto literal = address.substr(0, address.find('%'));
  const auto scope = address.size() - literal.size();  // including the percent sign
  return inet_pton(AF_INET6, literal.c_str(), binary) == 1 && scope != 1 && scope <= IFNAMSIZ;
}

}  // namespace

std::string help_text() {
  std::string out = "usage: mandos [OPTION]...\n\n";
  for (const auto& row : kRows) {
    if (row.argument == nullptr) continue;
    std::string left = row.letter != 0 ? concat("  -", row.letter, ", --") : "      --";
    left += concat(row.argument, row.operand != nullptr ? concat(" ", row.operand) : "");
    left.resize(28, ' ');
    out += concat(left, row.help, '\n');
  }
  return out;
}

std::string usage_error_text(std::string_view error) {
  return concat("usage: mandos [OPTION]... (see mandos --help)\nmandos: error: ", error, '\n');
}

Result<CommandLine> parse_command_line(int argc, char* const argv[]) {
  std::string letters = ":";
  std::vector<option> options;
  std::vector<std::string_view> names;
  for (int i = 0; kRows[i].argument != nullptr; ++i) {
    const auto& row = kRows[i];
    options.push_back({row.argument, row.operand != nullptr, nullptr, 256 + i});
    names.emplace_back(row.argument);
    if (row.letter != 0) letters += concat(row.letter, row.operand != nullptr ? ":" : "");
  }
  options.push_back({});
  CommandLine out;
  Settings scratch;
  optind = 0;  // getopt_long(3): start again
  opterr = 0;
  for (int found = 0;
       (found = getopt_long(argc, argv, letters.c_str(), options.data(), nullptr)) != -1;) {
    if (found == '?' || found == ':') {
      const bool is_letter = optopt > 0 && optopt < 256;
      const std::string given =
          is_letter ? concat('-', static_cast<char>(optopt)) : argv[optind - 1];
      const auto meant = nearest(std::string_view(given).substr(2 - is_letter), names);
      return Error{concat(escaped(given),
                          found == ':'    ? ": found nothing, expected a value"
                          : optopt >= 256 ? ": found a value, expected none"
                          : meant.empty() ? ": unknown or ambiguous option"
                                          : ": unknown option; the nearest known one is --",
                          found == '?' && optopt < 256 ? meant : "")};
    }
    const Row& row =
        found >= 256 ? kRows[found - 256] : *std::ranges::find(kRows, found, &Row::letter);
    const std::string_view name = row.argument;
    const std::string value = row.operand != nullptr    ? optarg
                              : name.starts_with("no-") ? "False"
                                                        : "True";
    if (name == "help" || name == "version") {
      out.action = name == "help" ? Action::kHelp : Action::kVersion;
      return out;
    }
    if (name == "check" || name == "reload") {
      out.action = name == "check" ? Action::kCheck : Action::kReload;
    } else if (name == "configdir" && value.starts_with('/')) {
      out.configdir = value;
    } else if (const auto set =
                   row.set != nullptr ? row.set(scratch, value) : Status(Error{"an absolute path"});
               set) {
      out.overrides.emplace_back(row.setting, value);
    } else {
      return Error{concat("--", name, ": found ", in_quotes(value), ", expected ", set.error())};
    }
  }
  if (optind < argc) return Error{concat("unexpected argument: ", escaped(argv[optind]))};
  return out;
}

LoadedSettings load_settings(const CommandLine& command_line,
                             const std::optional<std::string>& kept) {
  LoadedSettings out;
  Settings& settings = out.settings;
  settings.configdir = command_line.configdir;
  const std::string path = settings.configdir + "/mandos.conf";
  try {
    Ini ini;
    using Content = decltype(read_file(path, {}));
    auto content = kept ? Content(SecretString(std::string_view(*kept), &secret_memory()))
                        : read_file(path, {.limit = door::supervisor::kLongestSettings});
    if (!content) out.problems.push_back(content.error());
    if (content && *content) {
      out.text = std::string_view(**content);
      ini.read(path, std::move(**content), out.problems);
    }
    for (const auto& [name, section] : ini.sections()) {
      out.warnings.push_back(Ini::where(section.place, name, "") +
                             "ignored; only [DEFAULT] is used");
    }
    for (auto& [name, option] : ini.defaults().options) {
      const Row* const row = find_row(name);
      if (row == nullptr) continue;
      const auto value =
          row->expanded ? ini.expand(ini.defaults(), option) : Result(SecretString(option.value));
      const auto set = value ? row->set(settings, *value) : Error{kExpansion};
      if (!set) {
        const auto found = value ? in_quotes(option.value) : value.error();
        out.problems.push_back(Ini::problem(option.place, "DEFAULT", name, found, set.error()) +
                               Ini::hint(option.value));
      }
      settings.places[row->setting] = Ini::where(option.place, "DEFAULT", name);
    }
    std::vector<std::string_view> known;
    for (const auto& row : kRows) {
      if (row.set != nullptr) known.push_back(row.setting);
    }
    judge_unknown(ini.defaults(), "DEFAULT", known, {}, out.problems, out.warnings);
  } catch (const std::bad_alloc&) {
    out.problems.emplace_back(kNoSecretMemory);
  }
  for (const auto& [name, value] : command_line.overrides) {
    const auto set = find_row(name)->set(settings, value);
    if (!set) out.problems.push_back(set.error());
    settings.places[name] = concat("--", name, ": ");
  }
  if (settings.statedir.empty()) settings.statedir = MANDOS_STATE_DIR;
  settings.tls_debug =
      std::ranges::count(command_line.overrides,
                         std::pair<std::string_view, std::string>("debug", "True")) > 1;
  if (settings.debug) {
    settings.foreground = true;
    settings.level = LogLevel::kDebug;
  }
  if (!settings.address.empty() && !is_address(settings)) {
    out.problems.push_back(concat(settings.place("address"), "found ", in_quotes(settings.address),
                                  ", expected an ",
                                  settings.use_ipv6 ? "IPv6 address, optionally with %interface"
                                                    : "IPv4 address, since IPv6 is off",
                                  Ini::hint(settings.address)));
  }
  // Any of these may be the one with the error.
  if (out.problems.empty() && !settings.zeroconf && settings.port == 0 && settings.socket < 0) {
    out.usage_error = "without Zeroconf a port or a socket is needed";
  }
  return out;
}

}  // namespace mandos::monitor
