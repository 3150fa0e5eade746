// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/ini.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "monitor/utf8.h"

namespace mandos::monitor {
namespace {

constexpr unsigned kDeepest = 10;
// A secret of 1 MiB in base64, generously folded, fits.
constexpr std::size_t kLongestExpansion = 4 << 20;

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

/// An option's name for a message. What cannot be a name is not shown: it may be part of a secret.
std::string shown_name(std::string_view name) {
  const bool plain =
      name.size() <= 30 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == ' ';
      });
  return plain ? std::string(name) : concat("(a name of ", name.size(), " bytes)");
}

}  // namespace

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

void Ini::read(std::string file_name, SecretString file_content, Problems& problems) {
  const File& file = files_.emplace_back(File{std::move(file_name), std::move(file_content)});
  char* const data = files_.back().content.data();
  // Names become lower case and folded values are joined in place: the result is never longer than
  // the text that was read, and no copy is made.
  const auto at = [&](std::string_view view) { return data + (view.data() - data); };

  Section ignored_section;
  Option ignored_option;
  Section* section = nullptr;
  std::string_view section_name;
  Option* option = nullptr;  // may be continued on the next line
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
    // A broken header may have been meant as that of DEFAULT.
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
      // Its options stay apart all the same, so they are no duplicates in the section before.
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
  // Counts what is read, since references to empty values take time but add no text.
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
