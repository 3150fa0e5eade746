// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/clients_conf.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <set>

#include "monitor/checker_command.h"
#include "monitor/duration.h"
#include "monitor/ini.h"

namespace mandos::monitor {
namespace {

constexpr std::size_t kLargestSecret = 1 << 20;
constexpr std::size_t kLongestName = 200;

template <class Member>
struct Field {
  std::string_view name;
  std::string_view preset;
  Member ClientSettings::*member;
};
constexpr Field<Milliseconds> kDurations[] = {
    {"timeout", "PT5M", &ClientSettings::timeout},
    {"extended_timeout", "PT15M", &ClientSettings::extended_timeout},
    {"interval", "PT2M", &ClientSettings::interval},
    {"approval_delay", "PT0S", &ClientSettings::approval_delay},
    {"approval_duration", "PT1S", &ClientSettings::approval_duration},
};
constexpr Field<bool> kSwitches[] = {
    {"approved_by_default", "True", &ClientSettings::approved_by_default},
    {"enabled", "True", &ClientSettings::enabled},
};
constexpr Field<std::string> kTexts[] = {
    {"checker", "fping -q -- %%(host)s", &ClientSettings::checker},
    {"host", "", &ClientSettings::host},
};

bool is_known(std::string_view name) {
  const auto same = [&](const auto& field) { return field.name == name; };
  return std::ranges::any_of(kDurations, same) || std::ranges::any_of(kSwitches, same) ||
         std::ranges::any_of(kTexts, same) || name == "key_id" || name == "fingerprint" ||
         name == "secret" || name == "secfile";
}

/// $NAME and ${NAME} by the environment, then a leading ~ or ~USER by the home; what is unknown
/// stays as it is.
std::string expand_path(std::string_view path) {
  static constexpr std::string_view kWord =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  std::string out;
  while (!path.empty()) {
    if (path.front() != '$') {
      out += path.substr(0, path.find('$'));
      path.remove_prefix(std::min(path.find('$'), path.size()));
      continue;
    }
    const bool braced = path.starts_with("${") && path.find('}') != path.npos;
    auto end = std::min(braced ? path.find('}') : path.find_first_not_of(kWord, 1), path.size());
    const std::string name(path.substr(braced ? 2 : 1, end - (braced ? 2 : 1)));
    if (braced) ++end;
    const char* const value = name.empty() ? nullptr : std::getenv(name.c_str());
    out += value != nullptr ? std::string_view(value) : path.substr(0, end);
    path.remove_prefix(end);
  }
  if (!out.starts_with('~')) return out;
  const auto slash = std::min(out.find('/'), out.size());
  const char* home = slash == 1 ? std::getenv("HOME") : nullptr;
  if (home == nullptr) {
    const passwd* const user =
        slash == 1 ? getpwuid(getuid()) : getpwnam(out.substr(1, slash - 1).c_str());
    if (user == nullptr) return out;
    home = user->pw_dir;
  }
  return home + out.substr(slash);
}

/// As Python decodes base64 (RFC 4648): what is not of the alphabet is skipped, and a pad that
/// completes a group ends it. `remark` says what was unusual. False: an incomplete group.
bool decode_base64(std::string_view text, SecretString& out, std::string_view& remark) {
  std::uint32_t bits = 0;
  unsigned count = 0;  // characters of the group
  unsigned pads = 0;
  out.reserve(text.size() / 4 * 3 + 3);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    unsigned value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<unsigned>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<unsigned>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      value = static_cast<unsigned>(c - '0') + 52;
    } else if (c == '+' || c == '/') {
      value = c == '+' ? 62 : 63;
    } else {
      if (c == '=' && count >= 2 && count + ++pads >= 4) {
        if (text.find_first_not_of("= \t\n", i) != text.npos) remark = "goes on behind its end";
        return true;
      }
      const bool padding = c == '=' && count >= 2;
      if (!padding && c != ' ' && c != '\t' && c != '\n') {
        remark = "holds characters that are not base64";
      }
      continue;
    }
    pads = 0;
    bits = bits << 6 | value;
    if (count > 0) out += static_cast<char>(bits >> (6 - 2 * count) & 0xff);
    count = (count + 1) % 4;
  }
  if (count == 0) return true;
  remark = "lacks its padding";
  return count > 1 && (bits & (count == 2 ? 0xfU : 0x3U)) == 0;
}

class Loader {
 public:
  LoadedClients load(const std::string& configdir);

 private:
  /// An option as one client sees it.
  struct Value {
    Ini::Place place;
    std::string_view owner;  // the section that it stands in, perhaps DEFAULT
    std::string_view raw;
    std::optional<SecretString> text;  // none: its expansion failed, which has been told
  };
  using Values = std::pmr::map<std::string_view, Value>;

  void tell(Problems& list, std::string sentence) {
    if (told_.insert(sentence).second) list.push_back(std::move(sentence));
  }
  void wrong(const Values::value_type& value, std::string_view found, std::string_view expected) {
    const auto& [name, at] = value;
    tell(out_.problems, Ini::problem(at.place, at.owner, name, found, expected));
  }
  void warn(const Values::value_type& value, std::string_view what) {
    const auto& [name, at] = value;
    tell(out_.warnings, Ini::where(at.place, at.owner, name).append(what));
  }
  bool read(const std::string& path);
  void read_client(std::string_view name, Ini::Section& section);
  SecretPtr read_secret(const Values& values);

  Ini ini_;
  LoadedClients out_;
  std::set<std::string> told_;            // an error in DEFAULT comes with every client
  std::map<KeyId, std::string> key_ids_;  // and who has it
};

SecretPtr Loader::read_secret(const Values& values) {
  const auto secret = values.find("secret");
  const auto file = values.find("secfile");
  const auto& source = secret != values.end() ? *secret : *file;
  if (!source.second.text) return nullptr;
  SecretString content(&secret_memory());
  if (secret != values.end()) {
    if (file != values.end()) warn(*file, "not used, since there is a secret");
    std::string_view remark;
    const bool whole = decode_base64(*source.second.text, content, remark);
    if (!whole) wrong(source, "base64 that breaks off", "the whole of it");
    if (whole && !remark.empty()) warn(source, concat("the base64 ", remark));
    if (!whole) return nullptr;
  } else {
    const auto path = expand_path(*source.second.text);
    auto read = read_file(path, {.is_private = true, .limit = kLargestSecret});
    if (!read || !*read) {
      wrong(source, read ? concat("no file ", path) : read.error(), "a file that can be used");
      return nullptr;
    }
    content = std::move(**read);
  }
  if (content.empty() || content.size() > kLargestSecret) {
    wrong(source, concat(content.size(), " bytes"), concat("1 to ", kLargestSecret));
    return nullptr;
  }
  return std::make_shared<const Secret>(as_bytes(content));
}

void Loader::read_client(std::string_view name, Ini::Section& section) {
  const auto lacks = [&](std::string_view option, std::string_view expected) {
    tell(out_.problems, Ini::problem(section.place, name, option, "nothing", expected));
  };
  if (name.size() > kLongestName || name == "." || name == ".." ||
      std::ranges::any_of(name,
                          [](char c) { return c == '/' || (c >= 0 && c < ' ') || c == 0x7f; })) {
    tell(out_.problems,
         Ini::problem(section.place, name, "", "a client that no file can be named for",
                      "a name without \"/\" and control characters"));
  }
  Values values(&secret_memory());
  for (auto* const owner : {&section, &ini_.defaults()}) {
    for (const auto& [option_name, option] : owner->options) {
      const auto [value, is_new] = values.try_emplace(
          option_name, Value{option.place, owner == &section ? name : "DEFAULT", option.value, {}});
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
  const auto each = [&](const auto& fields, const auto& set) {
    for (const auto& field : fields) {
      const auto& value = *values.find(field.name);  // there is a preset at least
      const auto& text = value.second.text;
      if (text) set(field, value, *text);
    }
  };
  each(kTexts,
       [&](const auto& field, const auto&, std::string_view text) { client.*field.member = text; });
  each(kSwitches, [&](const auto& field, const auto& value, std::string_view text) {
    const auto parsed = parse_boolean(text);
    if (parsed) client.*field.member = *parsed;
    if (!parsed) wrong(value, quoted(value.second.raw), kBooleans);
  });
  each(kDurations, [&](const auto& field, const auto& value, std::string_view text) {
    const auto parsed = parse_duration(text);
    if (parsed) client.*field.member = *parsed;
    if (!parsed) wrong(value, quoted(value.second.raw), parsed.error());
    if (parsed && field.name == "interval" && parsed->count() == 0) {
      wrong(value, quoted(value.second.raw), "an interval longer than nothing");
    }
  });
  const auto fingerprint = values.find("fingerprint");
  if (fingerprint != values.end() && fingerprint->second.text) {
    for (const char c : *fingerprint->second.text) {
      if (c == ' ' || c == '\n') continue;
      client.fingerprint += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    }
  }
  const auto key_id = values.find("key_id");
  if (key_id == values.end() || (key_id->second.text && key_id->second.text->empty())) {
    if (fingerprint == values.end()) lacks("key_id", "64 hexadecimal digits");
    if (fingerprint != values.end()) warn(*fingerprint, "without a key_id it never matches");
  } else if (key_id->second.text) {
    client.key_id = KeyId::parse(*key_id->second.text);
    if (!client.key_id) {
      wrong(*key_id, quoted(key_id->second.raw), "64 hexadecimal digits");
    } else if (*client.key_id == kKeyIdOfNothing) {
      warn(*key_id, "this is the key ID of nothing, which never matches");
    } else {
      const auto [other, is_new] = key_ids_.try_emplace(
          *client.key_id, concat(key_id->second.place.text(), " [", escaped(name), "]"));
      if (!is_new) {
        wrong(*key_id, concat("the key ID that stands at ", other->second), "a client's own");
      }
    }
  }
  if (values.contains("secret") || values.contains("secfile")) {
    client.secret = read_secret(values);
  } else {
    lacks("secret", "a secret or a secfile");
  }
  Client probe;
  probe.name = name;
  probe.object_path = "/";
  probe.settings = client;
  if (const auto command = expand_checker(probe); !command) {
    warn(*values.find("checker"), command.error());
  }
  out_.clients.emplace(name, std::move(client));
}

bool Loader::read(const std::string& path) {
  auto content = read_file(path, {.is_private = true});
  if (!content) {
    tell(out_.problems, content.error());
    return true;
  }
  if (*content) ini_.read(path, std::move(**content), out_.problems);
  return content->has_value();
}

LoadedClients Loader::load(const std::string& configdir) {
  const auto preset = [&](const auto& fields) {
    for (const auto& field : fields) ini_.add_default(field.name, field.preset);
  };
  preset(kDurations);
  preset(kSwitches);
  preset(kTexts);
  const auto main_file = configdir + "/clients.conf";
  const auto folder = configdir + "/clients.d";
  bool any = read(main_file);
  if (const auto usable = read_file(folder, {.is_folder = true}); !usable) {
    tell(out_.problems, usable.error());
  } else if (*usable) {
    std::set<std::string> files;
    std::error_code failed;
    std::filesystem::directory_iterator entry(folder, failed);
    for (; !failed && entry != std::filesystem::directory_iterator(); entry.increment(failed)) {
      const auto name = entry->path().filename().string();
      if (name.ends_with(".conf") && name.front() != '.') files.insert(entry->path().string());
    }
    if (failed) tell(out_.problems, concat(folder, ": ", failed.message()));
    for (const auto& file : files) any = read(file) || any;
  }
  if (!any) {
    tell(out_.problems, concat(main_file, ": found neither it nor any ", folder,
                               "/*.conf, expected the clients in them"));
  }
  for (auto& [name, section] : ini_.sections()) read_client(name, section);
  for (auto& [name, section] : ini_.sections()) {
    Ini::warn_of_unknown(section, name, is_known, out_.warnings);
  }
  Ini::warn_of_unknown(ini_.defaults(), "DEFAULT", is_known, out_.warnings);
  if (ini_.sections().empty()) tell(out_.warnings, concat(main_file, ": there are no clients"));
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

}  // namespace mandos::monitor
