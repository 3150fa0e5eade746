// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/ini.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/unique_fd.h"

namespace mandos::monitor {
namespace {

constexpr char32_t kMalformed = 0xffffffff;
constexpr unsigned kDeepest = 10;
// A secret of 1 MiB in base64, generously folded, fits.
constexpr std::size_t kLongestExpansion = 4 << 20;

/// Takes the first character off `rest`; a malformed one is one byte long.
char32_t next_character(std::string_view& rest) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(rest[i]); };
  const unsigned first = byte(0);
  const std::size_t size = first < 0x80   ? 1
                           : first < 0xc2 ? 0
                           : first < 0xe0 ? 2
                           : first < 0xf0 ? 3
                                          : 4;
  static constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  char32_t character = size == 1 ? first : first & (0x7fU >> size);
  bool well_formed = size != 0 && size <= rest.size();
  for (std::size_t i = 1; well_formed && i < size; ++i) {
    well_formed = byte(i) >> 6 == 2;
    character = character << 6 | (byte(i) & 0x3fU);
  }
  well_formed =
      well_formed && character >= kLeast[size] && character <= 0x10ffff && character >> 11 != 0x1b;
  rest.remove_prefix(well_formed ? size : 1);
  return well_formed ? character : kMalformed;
}

/// What Python's str.isspace() calls white space.
bool is_space(char32_t c) {
  return (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= ' ') || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

std::string_view trim(std::string_view text) {
  for (auto rest = text; !text.empty() && is_space(next_character(rest));) text = rest;
  while (!text.empty()) {
    auto last = text.size() - 1;
    while (last > 0 && text.size() - last < 4 && (text[last] & 0xc0) == 0x80) --last;
    auto rest = text.substr(last);
    if (!is_space(next_character(rest)) || !rest.empty()) break;
    text = text.substr(0, last);
  }
  return text;
}

void lower(char* begin, std::size_t size) {
  std::for_each(begin, begin + size, [](char& c) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  });
}

}  // namespace

bool is_text(std::string_view bytes) {
  while (!bytes.empty()) {
    const char32_t character = next_character(bytes);
    if (character == kMalformed || character == 0) return false;
  }
  return true;
}

Result<std::optional<SecretString>> read_file(const std::string& path, const FileRules& rules) {
  // O_NONBLOCK: opening a pipe must not wait for its other end.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd && errno == ENOENT) return std::optional<SecretString>();
  struct stat status {};
  if (!fd || fstat(fd.get(), &status) != 0) return errno_error(errno, path);
  const auto refused = [&](const auto&... why) { return Error{concat(path, ": ", why...)}; };
  if (rules.is_folder ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode)) {
    return refused("expected a ", rules.is_folder ? "folder" : "regular file");
  }
  if (status.st_uid != 0 && status.st_uid != geteuid()) {
    return refused("found owner ", status.st_uid, ", expected root");
  }
  const auto others = status.st_mode & (status.st_gid == 0 ? S_IROTH : S_IROTH | S_IRGRP);
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0 || (rules.is_private && others != 0)) {
    char mode[8] = {};
    std::snprintf(mode, sizeof mode, "%04o", status.st_mode & 07777);
    return refused("found mode ", mode, ", expected that none but its owner may write",
                   rules.is_private ? " or read" : "", " it (", rules.is_private ? "0600" : "0644",
                   ")");
  }
  SecretString content(&secret_memory());
  if (rules.is_folder) return std::optional(std::move(content));
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > rules.limit) {
    return refused("found ", size, " bytes, expected at most ", rules.limit);
  }
  content.resize(size);
  std::size_t got = 0;
  for (ssize_t n = 1; got < size && n > 0; got += static_cast<std::size_t>(n)) {
    n = read(fd.get(), content.data() + got, size - got);
    if (n < 0) return errno_error(errno, path);
  }
  content.resize(got);
  return std::optional(std::move(content));
}

std::optional<bool> parse_boolean(std::string_view text) {
  static constexpr std::string_view kWords[] = {"0", "no",  "false", "off",
                                                "1", "yes", "true",  "on"};
  const auto* word = std::find_if(std::begin(kWords), std::end(kWords), [&](std::string_view each) {
    return each.size() == text.size() && strncasecmp(each.data(), text.data(), text.size()) == 0;
  });
  if (word == std::end(kWords)) return std::nullopt;
  return word - kWords >= 4;
}

std::string shown_name(std::string_view name) {
  const bool plain =
      name.size() <= 30 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
      });
  return plain ? std::string(name) : concat("(a name of ", name.size(), " bytes)");
}

std::string Ini::where(const Place& place, std::string_view section, std::string_view option) {
  return concat(place.text(), ": ", section.empty() ? "" : concat("[", escaped(section), "] "),
                option.empty() ? "" : shown_name(option) + ": ");
}

std::string Ini::problem(const Place& place, std::string_view section, std::string_view option,
                         std::string_view found, std::string_view expected) {
  return concat(where(place, section, option), "found ", found, ", expected ", expected);
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
    const auto end = std::min(rest.find_first_of("\r\n"), rest.size());
    const auto line = rest.substr(0, end);
    rest.remove_prefix(std::min(rest.size(), end + (rest.substr(end, 2) == "\r\n" ? 2 : 1)));
    const auto wrong = [&](std::string_view name, std::string_view found,
                           std::string_view expected) {
      problems.push_back(problem(place, section_name, name, found, expected));
    };
    if (!is_text(line)) wrong("", "bytes that are not text", "UTF-8 without NUL");
    const auto text = trim(line);
    if (text.empty()) {
      ++empty_lines;
      continue;
    }
    if (text.front() == '#' || text.front() == ';') continue;
    const auto indent = static_cast<std::size_t>(
        std::count_if(line.data(), text.data(), [](char c) { return (c & 0xc0) != 0x80; }));
    if (option != nullptr && indent > level) {
      const auto value = option->value;
      char* const tail = at(value) + value.size();
      std::memset(tail, '\n', empty_lines + 1);
      std::memmove(tail + empty_lines + 1, text.data(), text.size());
      option->value = {value.data(), value.size() + empty_lines + 1 + text.size()};
      empty_lines = 0;
      continue;
    }
    level = indent;
    empty_lines = 0;
    const auto bracket = text.rfind(']');
    if (text.front() == '[' && bracket != text.npos && bracket >= 2) {
      section_name = text.substr(1, bracket - 1);
      option = nullptr;
      if (section_name == "DEFAULT") {
        section = &defaults_;
        continue;
      }
      const auto [found, is_new] = sections_.try_emplace(section_name, Section{place, {}});
      ignored_section.options.clear();
      section = is_new ? &found->second : &ignored_section;
      if (!is_new) {
        wrong("", concat("the section again that is at ", found->second.place.text()),
              "each section once");
      }
      continue;
    }
    if (section == nullptr) {
      if (!headless) wrong("", "a line before any section", "a section header such as [DEFAULT]");
      headless = true;
      continue;
    }
    const auto delimiter = text.find_first_of("=:");
    const auto name = trim(text.substr(0, std::min(delimiter, text.size())));
    if (delimiter == text.npos || name.empty()) {
      wrong("", delimiter == text.npos ? "a line without \"=\" or \":\"" : "a value without a name",
            "NAME = VALUE, or white space before a line that continues a value");
      if (delimiter != text.npos) option = nullptr;
      continue;
    }
    lower(at(name), name.size());
    const Option fresh{trim(text.substr(delimiter + 1)), place};
    const auto [found, is_new] = section->options.try_emplace(name, fresh);
    option = &found->second;
    if (is_new) continue;
    if (option->place.line == 0) {
      *option = fresh;
    } else {
      wrong(name, concat("the option again that is at ", option->place.text()),
            "each option once in a section");
      option = &(ignored_option = fresh);
    }
  }
}

Result<SecretString> Ini::expand(Section& section, const Option& option) {
  SecretString out(&secret_memory());
  std::string found;
  if (!expand_into(out, option.value, section, 1, found)) return Error{found};
  return out;
}

bool Ini::expand_into(SecretString& out, std::string_view rest, Section& section, unsigned depth,
                      std::string& found) {
  if (depth > kDeepest && rest.find('%') != rest.npos) {
    found = concat("%(NAME)s nested more than ", kDeepest, " deep");
    return false;
  }
  while (!rest.empty()) {
    const auto percent = std::min(rest.find('%'), rest.size());
    out.append(rest.substr(0, percent));
    rest.remove_prefix(percent);
    if (out.size() > kLongestExpansion) {
      found = concat("a value longer than ", kLongestExpansion, " bytes when expanded");
      return false;
    }
    if (rest.empty()) break;
    if (rest.starts_with("%%")) {
      out += '%';
      rest.remove_prefix(2);
      continue;
    }
    const auto close = rest.find(')');
    if (!rest.starts_with("%(") || close == rest.npos || close == 2 ||
        rest.substr(close + 1, 1) != "s") {
      found = "a \"%\" that begins neither \"%%\" nor \"%(NAME)s\"";
      return false;
    }
    SecretString name(rest.substr(2, close - 2), &secret_memory());
    lower(name.data(), name.size());
    rest.remove_prefix(close + 2);
    auto referred = section.options.find(name);
    if (referred == section.options.end()) referred = defaults_.options.find(name);
    if (referred == defaults_.options.end()) {
      found = concat("%(", shown_name(name), ")s, which is neither there nor in DEFAULT");
      return false;
    }
    referred->second.referred = true;
    if (!expand_into(out, referred->second.value, section, depth + 1, found)) return false;
  }
  return true;
}

}  // namespace mandos::monitor
