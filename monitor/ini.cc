// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/ini.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <ranges>
#include <utility>

#include "common/unique_fd.h"

namespace mandos::monitor {
namespace {

constexpr char32_t kMalformed = 0xffffffff;
constexpr unsigned kDeepest = 10;
// A secret of 1 MiB in base64, generously folded, fits.
constexpr std::size_t kLongestExpansion = 4 << 20;

/// Takes the first character off `rest`; a malformed one is one byte long.
char32_t next_character(std::string_view& rest) {
  static constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto size = static_cast<std::size_t>(std::countl_one(static_cast<std::uint8_t>(rest[0])));
  const std::size_t length = std::max<std::size_t>(size, 1);
  char32_t character = static_cast<std::uint8_t>(rest[0]) & (0xffU >> (size + 1));
  bool well_formed = size != 1 && size <= 4 && length <= rest.size();
  for (std::size_t i = 1; well_formed && i < length; ++i) {
    well_formed = (rest[i] & 0xc0) == 0x80;
    character = character << 6 | static_cast<char32_t>(rest[i] & 0x3f);
  }
  well_formed =
      well_formed && character >= kLeast[size] && character <= 0x10ffff && character >> 11 != 0x1b;
  rest.remove_prefix(well_formed ? length : 1);
  return well_formed ? character : kMalformed;
}

/// What Python's str.isspace() calls white space.
bool is_space(char32_t c) {
  return (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= ' ') || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

std::string_view trim(std::string_view text) {
  for (auto rest = text; !rest.empty() && is_space(next_character(rest));) text = rest;
  // Backwards: no space is longer than 3 bytes, and no character's last bytes are another one.
  for (std::size_t size = 1; size <= std::min<std::size_t>(text.size(), 3);) {
    auto last = text.substr(text.size() - size);
    const bool space = is_space(next_character(last)) && last.empty();
    if (space) text.remove_suffix(size);
    size = space ? 1 : size + 1;
  }
  return text;
}

void lower(char* begin, std::size_t size) {
  std::for_each(begin, begin + size, [](char& c) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  });
}

/// Whether `edits` can make one of the other: a character inserted, deleted or replaced, or two
/// neighbors exchanged.
bool is_near(std::string_view from, std::string_view to, std::size_t edits) {
  const auto same = static_cast<std::size_t>(std::ranges::mismatch(from, to).in1 - from.begin());
  from.remove_prefix(same);
  to.remove_prefix(same);
  if (edits == 0 || from.empty() || to.empty()) return from.size() + to.size() <= edits;
  return is_near(from.substr(1), to, edits - 1) || is_near(from, to.substr(1), edits - 1) ||
         is_near(from.substr(1), to.substr(1), edits - 1) ||
         (from.size() > 1 && to.size() > 1 && from[0] == to[1] && from[1] == to[0] &&
          is_near(from.substr(2), to.substr(2), edits - 1));
}

}  // namespace

std::string_view nearest(std::string_view name, std::span<const std::string_view> known) {
  for (std::size_t edits = 0; edits < 3; ++edits) {
    for (const auto each : known) {
      // Two edits make one short name of any other.
      if (edits < (each.size() + 1) / 2 && is_near(name, each, edits)) return each;
    }
  }
  return {};
}

std::optional<std::string> find_account(char* passwd::*field,
                                        const std::function<bool(const passwd&)>& matches) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/etc/passwd", "re"), &std::fclose);
  while (const passwd* entry = file == nullptr ? nullptr : fgetpwent(file.get())) {
    if (matches(*entry)) return entry->*field;
  }
  return std::nullopt;
}

std::string user_name(uid_t user) {
  return find_account(&passwd::pw_name,
                      [user](const passwd& entry) { return entry.pw_uid == user; })
      .value_or(std::to_string(user));
}

bool is_text(std::string_view bytes) {
  while (!bytes.empty()) {
    // Nearly everything is ASCII.
    if (static_cast<signed char>(bytes.front()) > 0) {
      bytes.remove_prefix(1);
      continue;
    }
    const char32_t character = next_character(bytes);
    if (character == kMalformed || character == 0) return false;
  }
  return true;
}

Result<std::optional<SecretString>> read_file(const std::string& path, const FileRules& rules,
                                              bool* denied) {
  // O_NONBLOCK: opening a pipe must not wait for its other end.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  const int failed = errno;
  struct stat status {};
  if (!fd && failed == ENOENT) {
    // What a link leads to may come back, with clients in it that are known.
    if (lstat(path.c_str(), &status) == 0) {
      return Error{concat(path, ": leads nowhere; restore what it leads to, or remove it")};
    }
    if (errno == ENOENT && !rules.must_exist) return std::optional<SecretString>();
  }
  if (!fd && failed == EACCES && denied != nullptr) *denied = true;
  // Why a file cannot be opened, its owner or mode may say.
  if ((fd ? fstat(fd.get(), &status) : stat(path.c_str(), &status)) != 0) {
    return errno_error(errno, path, ": as user ", user_name(geteuid()));
  }
  const auto refused = [&](const auto&... why) { return Error{concat(path, ": ", why...)}; };
  if (rules.is_folder ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode)) {
    return refused("expected a ", rules.is_folder ? "folder" : "regular file");
  }
  if (status.st_uid != 0 && status.st_uid != geteuid()) {
    return refused("found owner ", user_name(status.st_uid), ", expected root; run: chown root ",
                   path);
  }
  const mode_t readers = status.st_gid == 0 ? S_IROTH : S_IROTH | S_IRGRP;
  if ((status.st_mode & (S_IWGRP | S_IWOTH | (rules.is_private ? readers : 0))) != 0) {
    return refused("found mode 0", status.st_mode >> 6 & 7, status.st_mode >> 3 & 7,
                   status.st_mode & 7, ", expected one that lets only its owner ",
                   rules.is_private ? "read or write, such as 0600; run: chmod go= "
                                    : "write; run: chmod go-w ",
                   path);
  }
  if (!fd) return errno_error(failed, path, ": as user ", user_name(geteuid()));
  SecretString content(&secret_memory());
  if (rules.is_folder) return std::optional(std::move(content));
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > rules.limit) return refused("found ", size, " bytes, expected at most ", rules.limit);
  content.resize(size);
  for (std::size_t got = 0; got < content.size();) {
    const auto n = read(fd.get(), content.data() + got, size - got);
    if (n < 0) return errno_error(errno, path);
    got += static_cast<std::size_t>(n);
    if (n == 0) content.resize(got);  // it has become shorter
  }
  return std::optional(std::move(content));
}

std::optional<bool> parse_boolean(std::string_view text) {
  static constexpr std::string_view kWords[] = {"0", "no",  "false", "off",
                                                "1", "yes", "true",  "on"};
  const auto* word = std::find_if(std::begin(kWords), std::end(kWords), [&](std::string_view each) {
    return each.size() == text.size() && strncasecmp(each.data(), text.data(), text.size()) == 0;
  });
  return word == std::end(kWords) ? std::nullopt : std::optional(word - kWords >= 4);
}

std::string shown_name(std::string_view name) {
  const bool plain =
      name.size() <= 30 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == ' ';
      });
  return plain ? std::string(name) : concat("(a name of ", name.size(), " bytes)");
}

const char* Ini::hint(std::string_view value) {
  for (auto at = value.find_first_of("#;"); at != value.npos;
       at = value.find_first_of("#;", at + 1)) {
    if (at == 0 || std::strchr(" \t\n", value[at - 1]) != nullptr) {
      return "; a comment needs a line of its own";
    }
  }
  return value.find_first_of("\"'") == 0 || value.ends_with('"') || value.ends_with('\'')
             ? "; quotes around a value are part of it"
             : "";
}

std::string Ini::where(const Place& place, std::string_view section, std::string_view option) {
  return concat(place.text(), ": ", section.empty() ? "" : concat("[", escaped(section), "] "),
                option.empty() ? "" : shown_name(option) + ": ");
}

std::string Ini::problem(const Place& place, std::string_view section, std::string_view option,
                         std::string_view found, std::string_view expected) {
  return concat(where(place, section, option), "found ", found, ", expected ", expected);
}

void Ini::judge_unknown(Section& section, std::string_view name,
                        std::span<const std::string_view> known,
                        std::span<const std::string_view> guards, Problems& problems,
                        Problems& warnings) {
  // In a name that reads as though it kept a client from its secret.
  static constexpr std::string_view kGuarding[] = {"allow", "appr",   "aprov", "block", "by_def",
                                                   "bydef", "denied", "deny",  "disab", "enab",
                                                   "refus", "reject", "revok", "stolen"};
  std::string all_guards;
  for (const auto guard : guards) {
    all_guards += concat(all_guards.empty() ? "" : guard == guards.back() ? " or " : ", ", guard);
  }
  for (const auto& [each, option] : section.options) {
    if (option.place.line == 0 || option.referred || std::ranges::count(known, each) > 0) continue;
    const auto meant = nearest(each, known);
    if (std::ranges::count(guards, meant) > 0 ||
        (meant.empty() && !guards.empty() &&
         std::ranges::any_of(kGuarding, [name = each](std::string_view word) {
           return name.find(word) != name.npos;
         }))) {
      section.broken = true;
      problems.push_back(problem(option.place, name, each, "an unknown option",
                                 meant.empty() ? all_guards : concat('"', meant, '"')));
    } else {
      warnings.push_back(
          concat(where(option.place, name, each), "unknown option, ignored",
                 meant.empty() ? "" : concat("; the nearest known one is \"", meant, '"')));
    }
  }
}

void Ini::read(std::string file_name, SecretString file_content, Problems& problems) {
  const File& file = files_.emplace_back(File{std::move(file_name), std::move(file_content)});
  char* const data = files_.back().content.data();
  // Names are made lower case and folded values joined in place: what is read is never shorter
  // than what is written, and nothing of it is copied.
  const auto at = [&](std::string_view view) { return data + (view.data() - data); };

  Section ignored_section;
  Option ignored_option;
  Section* section = nullptr;
  std::string_view section_name;
  Option* option = nullptr;  // that may be continued
  std::size_t empty_lines = 0;
  std::size_t level = 0;
  bool headless = false;
  Place place{file.name, 0};
  std::string_view rest(data, file.content.size());
  while (!rest.empty()) {
    ++place.line;
    auto line = rest.substr(0, rest.find('\n'));
    line = line.substr(0, line.find('\r'));
    const auto end = line.size();
    rest.remove_prefix(std::min(rest.size(), end + (rest.substr(end, 2) == "\r\n" ? 2 : 1)));
    const auto text = trim(line);
    // What should have been a header may be that of DEFAULT.
    Section* at_fault = text.starts_with('[') ? nullptr : section;
    const auto wrong = [&](std::string_view name, std::string_view found,
                           std::string_view expected) {
      problems.push_back(problem(place, section_name, name, found, expected));
      (at_fault != nullptr ? *at_fault : defaults_).broken = true;
    };
    if (!is_text(line)) wrong("", "bytes that are not text", "UTF-8 without NUL");
    if (text.empty()) {
      ++empty_lines;
      continue;
    }
    if (text.front() == '#' || text.front() == ';') continue;
    const auto indent = static_cast<std::size_t>(
        std::count_if(line.data(), text.data(), [](char c) { return (c & 0xc0) != 0x80; }));
    const auto joined = std::exchange(empty_lines, 0) + 1;
    if (option != nullptr && indent > level) {
      auto& value = option->value;
      char* const tail = at(value) + value.size();
      option->lines.resize(option->lines.size() + joined, place.line);
      std::memset(tail, '\n', joined);
      std::memmove(tail + joined, text.data(), text.size());
      value = {value.data(), value.size() + joined + text.size()};
      continue;
    }
    level = indent;
    const auto delimiter = text.find_first_of("=:");
    const auto bracket = text.front() == '[' ? text.rfind(']') : 0;
    const bool whole = bracket != text.npos && bracket >= 2;
    if (whole || (text.front() == '[' && delimiter == text.npos)) {
      section_name = text.substr(1, whole ? bracket - 1 : text.npos);
      // What follows is its own anyway, and no second value in the section before.
      if (!whole)
        wrong("", "a section header without a name or its \"]\"", "one such as [DEFAULT]");
      section = &defaults_;
      option = nullptr;
      if (section_name == "DEFAULT") continue;
      const auto [found, is_new] = sections_.try_emplace(section_name, Section{place, {}});
      section = is_new ? &found->second : &(ignored_section = {});
      at_fault = &found->second;
      if (!is_new) {
        wrong("", "a second section, after " + found->second.place.text(),
              "one; rename or remove it");
      }
      continue;
    }
    const auto name = trim(text.substr(0, delimiter));
    if (section == nullptr) {
      if (!headless) {
        wrong("",
              place.line == 1 && line.starts_with("\xef\xbb\xbf")
                  ? "a byte order mark (save it as UTF-8 without BOM)"
                  : "a line before any section",
              "a section header such as [DEFAULT]");
      }
      headless = true;
    } else if (delimiter == text.npos || name.empty()) {
      wrong("", "a line that is not NAME = VALUE", "that, or white space before a continued value");
      if (name.empty()) option = nullptr;
    } else {
      lower(at(name), name.size());
      option = &section->options[name];
      if (option->place.line != 0) {
        wrong(name, "a second value, after " + option->place.text(), "one; remove it");
        option = &ignored_option;
      }
      *option = {trim(text.substr(delimiter + 1)), place, false, {place.line}};
    }
  }
}

Result<SecretString> Ini::expand(Section& section, const Option& option) {
  SecretString out(&secret_memory());
  std::string found;
  std::size_t left = kLongestExpansion;
  if (!expand_into(out, option.value, section, 1, left, found)) return Error{found};
  return out;
}

bool Ini::expand_into(SecretString& out, std::string_view rest, Section& section, unsigned depth,
                      std::size_t& left, std::string& found) {
  const auto fail = [&found](std::string why) {
    found = std::move(why);
    return false;
  };
  if (depth > kDeepest && rest.find('%') != rest.npos) return fail("%(NAME)s nested too deep");
  // Of what is read, since references to what is empty take their time but add nothing.
  if (rest.size() >= left) return fail("more than 4 MiB in its expansion");
  left -= rest.size() + 1;
  while (!rest.empty()) {
    const auto percent = std::min(rest.find('%'), rest.size());
    out.append(rest.substr(0, percent));
    rest.remove_prefix(percent);
    if (rest.empty()) break;
    if (rest.starts_with("%%")) {
      out += '%';
      rest.remove_prefix(2);
      continue;
    }
    const auto close = rest.find(')');
    if (!rest.starts_with("%(") || close == rest.npos || close == 2 ||
        !rest.substr(close + 1).starts_with('s')) {
      return fail("a \"%\" that begins neither");
    }
    SecretString name(rest.substr(2, close - 2), &secret_memory());
    lower(name.data(), name.size());
    rest.remove_prefix(close + 2);
    const auto own = section.options.find(name);
    const bool inherited = own == section.options.end();
    const auto referred = inherited ? defaults_.options.find(name) : own;
    if (inherited && referred == defaults_.options.end()) {
      return fail(concat("%(", shown_name(name), ")s, which neither it nor DEFAULT has"));
    }
    referred->second.referred = true;
    if (!expand_into(out, referred->second.value, section, depth + 1, left, found)) return false;
  }
  return true;
}

}  // namespace mandos::monitor
