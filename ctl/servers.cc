// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/servers.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "common/text.h"
#include "common/unique_fd.h"
#include "ctl/client.h"
#include "ctl/command.h"

namespace mandos::ctl {
namespace {

constexpr std::string_view kLetters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
constexpr std::string_view kBlanks = " \t\r";
constexpr std::size_t kLongestName = 255;
constexpr std::size_t kLongestFile = 65536;
constexpr Milliseconds kLongestLimit{24 * 3600 * 1000};

/// Whether `text` consists of letters, digits and `others`.
bool consists_of(std::string_view text, std::string_view others) {
  return std::ranges::all_of(text, [others](char c) {
    return kLetters.find(c) != std::string_view::npos || others.find(c) != std::string_view::npos;
  });
}

/// The name of a user or host. ssh would take one that begins with "-" as an option.
bool is_name(std::string_view text) {
  return !text.empty() && text[0] != '-' && consists_of(text, "._-");
}

/// "ADDRESS" or "ADDRESS%INTERFACE".
bool is_ipv6(std::string_view text) {
  const std::size_t zone = text.find('%');
  const std::string_view address = text.substr(0, zone);
  return address.find(':') != std::string_view::npos &&
         address.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos &&
         (zone == std::string_view::npos || is_name(text.substr(zone + 1)));
}

bool is_port(std::string_view text) {
  std::uint16_t port = 0;
  return text.find('-') == std::string_view::npos && parse_number(text, port) && port != 0;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

Status add(Servers& servers, std::string_view name) {
  auto server = parse_server(name);
  if (!server) return Error{server.error()};
  // A server that is named twice is contacted once.
  if (std::ranges::find(servers.list, server->name, &Server::name) == servers.list.end()) {
    servers.list.push_back(std::move(*server));
  }
  return Ok{};
}

Status set_limit(Servers& servers, std::string_view text) {
  const auto limit = read_duration(text);
  if (!limit || limit->count() <= 0 || *limit > kLongestLimit) {
    return Error{concat("server-timeout: found \"", printable(text),
                        "\", expected a duration such as 30s, at most a day")};
  }
  servers.limit = *limit;
  return Ok{};
}

/// Names separated by blanks or commas.
Status add_list(Servers& servers, std::string_view text) {
  constexpr std::string_view kSeparators = " \t\r\n,";
  while (true) {
    const std::size_t first = text.find_first_not_of(kSeparators);
    if (first == std::string_view::npos) return Ok{};
    text.remove_prefix(first);
    const std::size_t end = std::min(text.find_first_of(kSeparators), text.size());
    if (auto added = add(servers, text.substr(0, end)); !added) return added;
    text.remove_prefix(end);
  }
}

Status read_line(Servers& servers, std::string_view line) {
  const std::size_t equals = std::min(line.find('='), line.size());
  const std::string_view key = trimmed(line.substr(0, equals));
  const std::string_view value =
      equals == line.size() ? std::string_view() : trimmed(line.substr(equals + 1));
  if (key == "server") return add(servers, value);
  if (key == "server-timeout") return set_limit(servers, value);
  return Error{concat("found \"", printable(line),
                      "\", expected \"server = HOST\" or \"server-timeout = TIME\"")};
}

Result<Servers> read_file(std::string_view text) {
  Servers found;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    if (const auto read = read_line(found, line); !read) {
      return Error{concat("ctl.conf:", number, ": ", read.error())};
    }
  }
  return found;
}

/// The path of the user's ctl.conf; empty if the user has no home. The home directory is that of
/// the account, as for ssh, because $HOME may be another user's.
std::string configuration_file() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no threads
  const char* const place = std::getenv("XDG_CONFIG_HOME");
  if (place != nullptr && place[0] == '/') return concat(place, "/mandos/ctl.conf");
  constexpr std::size_t kLongestAccount = 65536;
  std::vector<char> space(kLongestAccount);
  passwd account{};
  passwd* found = nullptr;
  getpwuid_r(geteuid(), &account, space.data(), space.size(), &found);
  if (found == nullptr || found->pw_dir[0] != '/') return {};
  return concat(found->pw_dir, "/.config/mandos/ctl.conf");
}

/// The contents of the user's ctl.conf; empty if it does not exist. It decides which machines are
/// changed, so nobody else may be able to write it.
Result<std::string> own_configuration() {
  const std::string name = configuration_file();
  const UniqueFd file(
      name.empty() ? -1 : open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file) {
    if (name.empty() || errno == ENOENT || errno == ENOTDIR) return std::string();
    return errno_error(errno, "cannot open ", printable(name));
  }
  struct stat about {};
  if (fstat(file.get(), &about) != 0) return errno_error(errno, "cannot read ", printable(name));
  constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;
  if (!S_ISREG(about.st_mode) || (about.st_uid != 0 && about.st_uid != geteuid()) ||
      (about.st_mode & kOthersWrite) != 0) {
    return Error{concat(printable(name),
                        ": expected a file that is yours or root's, and that nobody "
                        "else may write")};
  }
  std::string text(kLongestFile + 1, '\0');
  const ssize_t got = read(file.get(), text.data(), text.size());
  if (got < 0) return errno_error(errno, "cannot read ", printable(name));
  text.resize(static_cast<std::size_t>(got));
  if (text.size() > kLongestFile) return Error{concat(printable(name), " is too long")};
  return text;
}

/// Escapes a value in a D-Bus address.
std::string address_value(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (kLetters.find(c) != std::string_view::npos || c == '-' || c == '.' || c == '_') {
      out += c;
    } else {
      out += concat('%', kLowerHex[byte / 16], kLowerHex[byte % 16]);
    }
  }
  return out;
}

bool in_path(std::string_view program) {
  const char* const path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): no threads
  if (path == nullptr) return true;              // execvp() has a default
  for (std::string_view rest = path;;) {
    const std::size_t colon = std::min(rest.find(':'), rest.size());
    if (access(concat(rest.substr(0, colon), "/", program).c_str(), X_OK) == 0) return true;
    if (colon == rest.size()) return false;
    rest.remove_prefix(colon + 1);
  }
}

}  // namespace

Result<Server> parse_server(std::string_view text) {
  const Error wrong{concat("server: found \"", printable(text),
                           "\", expected [USER@]HOST[:PORT], [USER@][IPV6][:PORT] or .host")};
  if (text == kThisMachine) return Server{std::string(text), "", ""};
  if (text.size() > kLongestName) return wrong;
  std::string_view rest = text;
  std::string target;
  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    if (!is_name(rest.substr(0, at))) return wrong;
    target = rest.substr(0, at + 1);
    rest.remove_prefix(at + 1);
  }
  const bool bracketed = rest.starts_with('[');
  const std::size_t end = std::min(rest.find(bracketed ? ']' : ':'), rest.size());
  const std::string_view host = rest.substr(bracketed ? 1 : 0, bracketed ? end - 1 : end);
  if (bracketed ? end == rest.size() || !is_ipv6(host) : !is_name(host) || host[0] == '.') {
    return wrong;
  }
  target += host;
  rest.remove_prefix(bracketed ? end + 1 : end);
  if (rest.empty()) return Server{std::string(text), target, ""};
  if (rest[0] != ':' || !is_port(rest.substr(1))) return wrong;
  return Server{std::string(text), target, std::string(rest.substr(1))};
}

Result<Servers> choose_servers(const Arguments& arguments, const char* environment,
                               std::string_view file) {
  auto found = read_file(file);
  if (!found) return found;
  const bool named = arguments.has(kServer.name);
  if (named || environment != nullptr) found->list.clear();
  if (!named && environment != nullptr) {
    if (const auto added = add_list(*found, environment); !added) {
      return Error{concat("MANDOS_SERVERS: ", added.error())};
    }
  }
  for (const auto& given : arguments.options) {
    Status taken = Ok{};
    if (given.option->name == kServer.name) taken = add(*found, given.value);
    if (given.option->name == kServerTimeout.name) taken = set_limit(*found, given.value);
    if (!taken) return Error{concat("--", taken.error())};
  }
  return found;
}

Result<Servers> chosen_servers(const Arguments& arguments) {
  const auto file = own_configuration();
  if (!file) return Error{file.error()};
  return choose_servers(arguments,
                        std::getenv("MANDOS_SERVERS"),  // NOLINT(concurrency-mt-unsafe): no threads
                        *file);
}

std::string address_of(const Server& server, Milliseconds limit) {
  const std::int64_t seconds = std::max<std::int64_t>(1, (limit.count() + 999) / 1000);
  std::vector<std::string> words = {
      // No agent, display or port of this machine is forwarded to the server.
      "-axT", "-oClearAllForwardings=yes",
      // Several servers at once cannot prompt for a passphrase or about a host key.
      "-oBatchMode=yes", "-oLogLevel=ERROR", concat("-oConnectTimeout=", seconds),
      // Give up a connection on which nothing arrives any more.
      "-oServerAliveInterval=10", "-oServerAliveCountMax=3"};
  if (!server.port.empty()) words.push_back(concat("-p", server.port));
  words.insert(words.end(), {"--", server.target, "systemd-stdio-bridge"});
  std::string address = "unixexec:path=ssh";
  for (std::size_t i = 0; i < words.size(); ++i) {
    address += concat(",argv", i + 1, "=", address_value(words[i]));
  }
  return address;
}

Status use(const Server& server, Milliseconds limit) {
  // Otherwise sd-bus would only report that the connection ended.
  if (!server.target.empty() && !in_path("ssh")) {
    return Error{"found no program ssh, by which another server is reached: install it"};
  }
  // NOLINTBEGIN(concurrency-mt-unsafe): no threads
  // Children then use this server and choose no other.
  bool done = setenv("MANDOS_SERVERS", "", 1) == 0;
  if (!server.target.empty()) {
    done = done && setenv("DBUS_SYSTEM_BUS_ADDRESS", address_of(server, limit).c_str(), 1) == 0;
  }
  // NOLINTEND(concurrency-mt-unsafe)
  return done ? Status(Ok{}) : Status(errno_error(errno, "cannot set the environment"));
}

Status use_chosen_server(const Arguments& arguments) {
  const auto servers = chosen_servers(arguments);
  if (!servers) return Error{servers.error()};
  if (servers->list.empty()) return Ok{};
  if (servers->list.size() > 1) {
    return Error{concat("found ", servers->list.size(),
                        " servers, expected one: this command works with one server at a time; "
                        "name it with --server")};
  }
  return use(servers->list[0], servers->limit);
}

}  // namespace mandos::ctl
