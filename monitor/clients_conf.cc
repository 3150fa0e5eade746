// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/clients_conf.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "monitor/accounts.h"
#include "monitor/checker_command.h"
#include "monitor/ini.h"
#include "monitor/openpgp.h"
#include "monitor/option_values.h"
#include "monitor/state.h"
#include "monitor/trusted_file.h"
#include "monitor/unknown_options.h"
#include "proto/bus_agent.h"

namespace mandos::monitor {
namespace {

constexpr std::size_t kLongestName = 200;
static_assert(4 * kLongestName < door::bus_agent::kLongestLabel, "so that its object path fits");

Status set_key_id(ClientSettings& client, std::string_view value) {
  client.key_id = KeyId::parse(value);
  if (client.key_id || value.empty()) return Ok{};
  const auto odd = value.find_first_not_of("0123456789ABCDEFabcdef \t\n");
  return Error{odd == value.npos
                   ? concat("64 hexadecimal digits, not ",
                            std::ranges::count_if(value, [](char c) { return c > ' '; }),
                            " characters")
                   : concat("64 hexadecimal digits; character ", odd + 1, ", ",
                            in_quotes(value.substr(odd, 1)), ", is none")};
}

Status set_fingerprint(ClientSettings& client, std::string_view value) {
  for (const char c : value) {
    if (c != ' ' && c != '\n') client.fingerprint += c >= 'a' && c <= 'z' ? char(c - 32) : c;
  }
  return Ok{};
}

template <auto Member, std::int64_t Least>
Status set_value(ClientSettings& client, std::string_view value) {
  using T = std::remove_reference_t<decltype(client.*Member)>;
  if constexpr (std::is_same_v<T, bool>) return set_boolean<Member>(client, value);
  if constexpr (std::is_same_v<T, Milliseconds>) return set_duration<Member, Least>(client, value);
  if constexpr (std::is_same_v<T, std::string>) return set_text<Member>(client, value);
}

struct Field {
  std::string_view name;
  Status (*set)(ClientSettings& client, std::string_view value);  // null: read_secret()
  unsigned uses = 0;
};
constexpr Field kFields[] = {
#define IDENTITY(type, name, property, preset, least, uses) {#name, set_##name, uses},
#define PAYLOAD(type, name, ...) {"secfile", nullptr}, {#name, nullptr},
#define SETTING(type, name, property, preset, least, uses) \
  {#name, set_value<&ClientSettings::name, least>, uses},
    MANDOS_CLIENT_SETTINGS(IDENTITY, PAYLOAD, SETTING, SETTING)
#undef IDENTITY
#undef PAYLOAD
#undef SETTING
};

// A default as clients.conf would have it.
std::string written(bool value) { return value ? "True" : "False"; }
std::string written(Milliseconds value) {
  const bool minutes = value.count() > 0 && value % std::chrono::minutes(1) == Milliseconds(0);
  return minutes ? concat("PT", value / std::chrono::minutes(1), "M")
                 : concat("PT", value / std::chrono::seconds(1), "S");
}
std::string written(std::string value) {
  for (auto at = value.find('%'); at != value.npos; at = value.find('%', at + 2)) {
    value.insert(at, "%");
  }
  return value;
}

// What a section without a client in it was probably meant to be.
constexpr std::string_view kCommon[] = {"DEFAULT", "Default", "default"};

/// $NAME and ${NAME} by the environment, then a leading ~ or ~USER by the home; what is unknown
/// stays as it is.
std::string expand_path(std::string_view path) {
  static constexpr std::string_view kWord =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  std::string out;
  for (auto dollar = path.find('$'); dollar != path.npos; dollar = path.find('$')) {
    out += path.substr(0, dollar);
    path.remove_prefix(dollar);
    const bool braced = path.starts_with("${") && path.find('}') != path.npos;
    const auto end = braced ? path.find('}') - 1 : path.find_first_not_of(kWord, 1);
    const std::string name(path.substr(braced ? 2 : 1, end - 1));
    const auto whole = path.substr(0, name.size() + (braced ? 3 : 1));
    const char* const value = name.empty() ? nullptr : std::getenv(name.c_str());
    out += value != nullptr ? std::string_view(value) : whole;
    path.remove_prefix(whole.size());
  }
  out += path;
  if (!out.starts_with('~')) return out;
  const auto slash = std::min(out.find('/'), out.size());
  const char* const home = slash == 1 ? std::getenv("HOME") : nullptr;
  if (home != nullptr) return home + out.substr(slash);
  const auto found = find_account(&passwd::pw_dir, [&](const passwd& account) {
    return slash == 1 ? account.pw_uid == getuid() : out.substr(1, slash - 1) == account.pw_name;
  });
  return found ? *found + out.substr(slash) : out;
}

class Loader {
 public:
  LoadedClients load(const std::string& configdir);

 private:
  /// An option as one client sees it.
  struct Value {
    const Ini::Option& option;
    std::string_view owner;            // the section that it stands in, perhaps DEFAULT
    std::optional<SecretString> text;  // none: its expansion failed, which has been told
  };
  using Values = std::pmr::map<std::string_view, Value>;

  bool tell(Problems& list, std::string sentence) {
    const bool is_new = told_.insert(sentence).second;
    if (is_new) list.push_back(std::move(sentence));
    return is_new;
  }
  void refuse(std::string sentence, bool denied = false) {
    at_fault_->broken = true;
    if (tell(out_.problems, std::move(sentence)) && denied) ++out_.denied;
  }
  static std::string about(const Values::value_type& value, std::string_view what) {
    return concat(Ini::where(value.second.option.place, value.second.owner, value.first), what,
                  Ini::hint(value.second.option.value));
  }
  std::nullptr_t wrong(const Values::value_type& value, std::string_view found,
                       std::string_view expected, bool denied = false) {
    refuse(about(value, concat("found ", found, ", expected ", expected)), denied);
    return nullptr;
  }
  void warn(const Values::value_type& value, std::string_view what) {
    tell(out_.warnings, about(value, what));
  }
  bool read(const std::string& path, bool listed);
  void read_client(std::string_view name, Ini::Section& section);
  SecretPtr read_secret(const Values& values);

  std::deque<std::string> presets_;  // ini_ has views of them
  Ini ini_;
  LoadedClients out_;
  // A file that cannot be read may hold a stricter DEFAULT.
  Ini::Section* at_fault_ = &ini_.defaults();
  std::set<std::string> told_;  // an error in DEFAULT comes with every client
  std::map<KeyId, std::pair<std::string, Ini::Section&>> key_ids_;  // and who has it
};

SecretPtr Loader::read_secret(const Values& values) {
  const auto secret = values.find("secret");
  const auto file = values.find("secfile");
  const auto& source = secret != values.end() ? *secret : *file;
  if (!source.second.text) return nullptr;
  SecretString content(&secret_memory());
  if (secret != values.end()) {
    if (file != values.end()) warn(*file, "not used, since there is a secret");
    const std::string_view text = *source.second.text;
    if (const auto at = decode_base64(text, content)) {
      const auto before = text.substr(0, *at);
      // What was put into it stands elsewhere.
      const auto line = source.second.option.value != text ? 0 : std::ranges::count(before, '\n');
      return wrong(source,
                   concat(*at == text.size() ? "base64 that breaks off" : "damaged base64",
                          " at line ", source.second.option.lines[static_cast<std::size_t>(line)],
                          ", character ", before.size() - before.rfind('\n'), " of its text"),
                   "it whole: the client could not decrypt what it gets; copy it again");
    }
  } else {
    const auto path = expand_path(*source.second.text);
    bool denied = false;
    // Where a relative one leads depends on who starts the server, or asks it to check.
    if (!path.starts_with('/')) {
      // Whose home it is stands in /etc/passwd, which is another file after each change of an
      // account.
      if (path.starts_with('~')) static_cast<void>(read_file("/etc/passwd", {}, &denied));
      return wrong(source, path.empty() ? "nothing" : in_quotes(path),
                   "the absolute path of a file", denied);
    }
    out_.files.insert(path);
    auto read =
        read_file(path, {.is_private = true, .limit = door::bus_agent::kLongestSecret}, &denied);
    if (!read || !*read) {
      refuse(about(source, read ? concat("found no file ", path, ", expected the secret in it")
                                : read.error()),
             denied);
      return nullptr;
    }
    content = std::move(**read);
  }
  if (content.empty() || content.size() > door::bus_agent::kLongestSecret) {
    return wrong(source, concat(content.size(), " bytes"),
                 concat("1 to ", door::bus_agent::kLongestSecret));
  }
  const auto found = judge_openpgp(content);
  if (found == OpenPgp::kDamaged) {
    return wrong(source, "an OpenPGP message whose lengths or checksum do not fit",
                 "it whole: the client could not decrypt what it gets");
  }
  if (found == OpenPgp::kOther) {
    warn(source, "this is not an OpenPGP message: the client could not decrypt it");
  }
  return std::make_shared<const Secret>(as_bytes(content));
}

void Loader::read_client(std::string_view name, Ini::Section& section) {
  const auto lacks = [&](std::string_view option, std::string_view expected) {
    refuse(Ini::problem(section.place, name, option, "nothing", expected));
  };
  if (name.size() > kLongestName || name == "." || name == ".." ||
      std::ranges::any_of(name,
                          [](char c) { return c == '/' || (c >= 0 && c < ' ') || c == 0x7f; })) {
    refuse(Ini::problem(section.place, name, "", "a client that no file can be named for",
                        concat("a name of at most ", kLongestName,
                               " bytes, without \"/\" and control characters, and not of dots")));
  }
  Values values(&secret_memory());
  for (auto* const owner : {&section, &ini_.defaults()}) {
    for (const auto& [option_name, option] : owner->options) {
      const auto [value, is_new] =
          values.try_emplace(option_name, Value{option, owner == &section ? name : "DEFAULT", {}});
      if (!is_new) continue;
      auto text = ini_.expand(section, option);
      if (text) {
        value->second.text = std::move(*text);
      } else {
        wrong(*value, text.error(), kExpansion);
      }
    }
  }
  ClientSettings client;
  constexpr std::string_view kEnd("\0", 1);  // no name and no value contains a NUL
  for (const auto& [option, each] : section.options) {
    client.section = sha256(
        {client.section, as_bytes(option), as_bytes(kEnd), as_bytes(each.value), as_bytes(kEnd)});
  }
  for (const auto& field : kFields) {
    const auto value = values.find(field.name);
    if (field.set == nullptr || value == values.end() || !value->second.text) continue;
    const auto set = field.set(client, *value->second.text);
    if (!set) wrong(*value, in_quotes(value->second.option.value), set.error());
    if (field.name == "host" && (*Ini::hint(value->second.option.value) != '\0' ||
                                 client.host.find_first_of(" \t\n,/") != client.host.npos)) {
      warn(*value, concat("found ", in_quotes(value->second.option.value),
                          ", expected a name or an address"));
    }
  }
  const auto key_id = values.find("key_id");
  if (client.key_id == kKeyIdOfNothing) {
    warn(*key_id, "this is the key ID of nothing, which never matches");
  } else if (client.key_id) {
    const auto [other, is_new] = key_ids_.try_emplace(
        *client.key_id, concat(key_id->second.option.place.text(), " [", escaped(name), "]"),
        section);
    if (!is_new) wrong(*key_id, "the key ID of " + other->second.first, "one of its own");
    // Neither can be used: perhaps one of them is disabled.
    other->second.second.broken = section.broken;
  } else if (!client.fingerprint.empty()) {
    warn(*values.find("fingerprint"), "without a key_id it never matches");
  } else if (!values.contains("key_id") || key_id->second.option.value.empty()) {
    lacks("key_id", nearest(name, kCommon).empty()
                        ? "64 hexadecimal digits"
                        : "64 hexadecimal digits; or is it meant to be [DEFAULT]?");
    ini_.defaults().broken |= !nearest(name, kCommon).empty();
  }
  for (const auto* const limit : {"timeout", "extended_timeout"}) {
    if (!at_fault_->broken &&
        (*limit == 't' ? client.timeout : client.extended_timeout) < client.interval + kCheckTime) {
      const auto& timeout = *values.find(limit);
      const auto& interval = *values.find("interval");
      // Where the section itself set one of them, that is the place to look at; never a preset.
      warn(timeout.second.owner == name || interval.second.option.place.line == 0 ? timeout
                                                                                  : interval,
           concat("found a", *limit == 'e' ? "n " : " ", limit, " of ",
                  in_quotes(timeout.second.option.value), ", expected more than the interval, ",
                  in_quotes(interval.second.option.value), ", and ", kCheckTime.count() / 1000,
                  " s for a check: a client could be disabled before the answer to its next one"));
    }
  }
  if (values.contains("secret") || values.contains("secfile")) {
    client.secret = read_secret(values);
  } else {
    lacks("secret", "a secret or a secfile; mandos-keygen --password prints one");
  }
  if (!at_fault_->broken && !client.approved_by_default &&
      client.approval_delay == Milliseconds(0)) {
    warn(*values.find("approved_by_default"),
         "found no approval_delay for a client with it, expected one: nobody is asked, and the "
         "client gets its secret at once");
  }
  Client probe;
  probe.name = name;
  probe.object_path = "/";
  probe.begin_with(client);
  // The preset one fails only of a value that has been told.
  const auto& checker = *values.find("checker");
  if (const auto command = expand_checker(probe);
      !at_fault_->broken && (!command || client.checker.empty())) {
    warn(checker, command ? "found nothing, which always succeeds: a client that is gone would "
                            "never be noticed"
                          : command.error());
  }
  auto& users = out_.checkers[client.checker];
  if (!users.place.empty()) {
    ++users.others;
  } else {
    users.place = checker.second.option.place.line == 0
                      ? Ini::where(section.place, name, "checker") + "(preset) "
                      : Ini::where(checker.second.option.place, checker.second.owner, "checker");
  }
  out_.clients.emplace(name, std::move(client));
}

bool Loader::read(const std::string& path, bool listed) {
  out_.files.insert(path);
  bool denied = false;
  auto content = read_file(path, {.is_private = true, .must_exist = listed}, &denied);
  if (!content) {
    refuse(content.error(), denied);
  } else if (*content) {
    ini_.read(path, std::move(**content), out_.problems);
  }
  return !content || content->has_value();
}

LoadedClients Loader::load(const std::string& configdir) {
#define SETTING(type, name, ...) \
  ini_.add_default(#name, presets_.emplace_back(written(ClientSettings().name)));
  MANDOS_CLIENT_SETTINGS(MANDOS_NO_ROW, MANDOS_NO_ROW, SETTING, SETTING)
#undef SETTING
  const auto main_file = configdir + "/clients.conf";
  const auto folder = configdir + "/clients.d";
  bool denied = false;
  // Who may write there replaces any file in it.
  if (const auto usable = read_file(configdir, {.is_folder = true}, &denied); !usable) {
    refuse(usable.error(), denied);
    return std::move(out_);
  }
  bool any = read(main_file, false);
  if (const auto usable = read_file(folder, {.is_folder = true}, &denied); !usable) {
    refuse(usable.error(), denied);
  } else if (*usable) {
    std::set<std::string> files;
    std::error_code failed;
    std::filesystem::directory_iterator entry(folder, failed);
    for (; !failed && entry != std::filesystem::directory_iterator(); entry.increment(failed)) {
      const auto name = entry->path().filename().string();
      if (name.ends_with(".conf") && name.front() != '.') {
        files.insert(entry->path().string());
      } else if (name.front() != '.' && name.find(".conf") == name.npos &&
                 !name.starts_with("README")) {
        tell(out_.warnings, concat(escaped(entry->path().string()),
                                   ": not read, expected a name that ends in .conf"));
      }
    }
    if (failed) refuse(concat(folder, ": ", failed.message()));
    for (const auto& file : files) any = read(file, true) || any;
  }
  if (!any) {
    refuse(access(configdir.c_str(), F_OK) != 0
               ? concat(configdir,
                        ": found no such directory, expected mandos.conf and clients.conf",
                        " in it; make it, or name another one with --configdir")
               : concat(main_file, ": found neither it nor any ", folder, "/*.conf, expected the",
                        " clients in them; mandos-keygen --password prints a client's section"));
  }
  // The other files may need what these hold.
  if (out_.denied > 0) return std::move(out_);
  for (auto& [name, section] : ini_.sections()) {
    at_fault_ = &section;
    read_client(name, section);
  }
  std::vector<std::string_view> known;
  std::vector<std::string_view> guards;
  for (const auto& field : kFields) {
    known.push_back(field.name);
    if ((field.uses & kGuard) != 0) guards.push_back(field.name);
  }
  for (auto& [name, section] : ini_.sections()) {
    judge_unknown(section, name, known, guards, out_.problems, out_.warnings);
  }
  judge_unknown(ini_.defaults(), "DEFAULT", known, guards, out_.problems, out_.warnings);
  std::erase_if(out_.clients, [&](const auto& client) {
    return ini_.defaults().broken || ini_.sections().at(client.first).broken;
  });
  for (const auto& [name, client] : out_.clients) {
    if (client.host.empty() && client.checker.find("%(host)s") != client.checker.npos) {
      tell(out_.warnings,
           Ini::problem(ini_.sections().at(name).place, name, "host", "nothing",
                        "a name or an address, which the checker is given: its checks would fail"));
    }
  }
  if (ini_.sections().empty() && out_.problems.empty()) {
    tell(out_.warnings, concat(main_file, ": found no client, expected a section for each one"));
  }
  return std::move(out_);
}

}  // namespace

LoadedClients load_clients(const std::string& configdir) try {
  return Loader().load(configdir);
} catch (const std::bad_alloc&) {
  LoadedClients out;
  out.problems.emplace_back(kNoSecretMemory);
  return out;
}

std::set<std::string> folders_of(const std::set<std::string>& files) {
  std::set<std::string> folders;
  for (const std::filesystem::path path : files) {
    std::error_code failed;  // then there is no target, whose folder no jail looks for
    for (const auto& file : {path.lexically_normal(), std::filesystem::canonical(path, failed)}) {
      // The root folder has everything in it, so a file there is let in itself.
      folders.insert((file.parent_path() == "/" ? file : file.parent_path()).string());
    }
  }
  return folders;
}

}  // namespace mandos::monitor
