// SPDX-License-Identifier: GPL-3.0-or-later
// The dialect of mandos.conf and clients.conf, and the error messages about them. It is the dialect
// of Python's configparser, with which the original server reads these files.
#pragma once

#include <pwd.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/duration.h"
#include "common/result.h"
#include "monitor/secret.h"

namespace mandos::monitor {

using Problems = std::vector<std::string>;

/// Checked before a file or folder is used: its type, that its owner is root or this process's
/// user, that no one else may write it and, with `is_private`, that no one else may read it.
struct FileRules {
  bool is_private = false;
  bool is_folder = false;
  bool must_exist = false;
  std::size_t limit = 64 << 20;  // bytes
};
/// The content of a file (of a folder: nothing), or no value if it does not exist and need not. A
/// dangling link is an error. `denied`, unless null, is set if we may not open the file; our jail
/// may be the reason.
Result<std::optional<SecretString>> read_file(const std::string& path, const FileRules& rules,
                                              bool* denied = nullptr);

/// A field of the first account in /etc/passwd that `matches`, or nothing. getpwnam(3) would load a
/// name service or ask its daemon, and the jail would kill the monitor for it.
std::optional<std::string> find_account(char* passwd::*field,
                                        const std::function<bool(const passwd&)>& matches);
/// The name of a user for a message, or its number where it has none.
std::string user_name(uid_t user);

/// Well-formed UTF-8 (RFC 3629) without NUL.
bool is_text(std::string_view bytes);

class Ini {
 public:
  struct Place {
    std::string_view file;
    unsigned line = 0;  // 0: built in
    std::string text() const { return concat(file, ":", line); }
  };
  struct Option {
    std::string_view value;  // unexpanded; lines of a folded value are joined by '\n'
    Place place;
    bool referred = false;          // the expansion of another value used this one
    std::vector<unsigned> lines{};  // the line number of each line of the value
  };
  struct Section {
    Place place;
    std::map<std::string_view, Option> options;  // names in lower case
    bool broken = false;                         // a problem makes it unclear what it says
  };

  /// A value of DEFAULT that a file may replace. The strings must outlive this object.
  void add_default(std::string_view name, std::string_view value) {
    defaults_.options[name] = {value, {}};
  }
  /// Adds a file's content to what was read before. Every error becomes one of `problems`, and so
  /// does a section or an option of DEFAULT that an earlier file had. The section with the error
  /// becomes `broken`, and so does DEFAULT if it may have lost a line.
  void read(std::string file, SecretString content, Problems& problems);

  Section& defaults() { return defaults_; }
  /// Without DEFAULT, by name.
  std::map<std::string_view, Section>& sections() { return sections_; }

  /// The option's value with %(name)s replaced from `section`, then from DEFAULT, nested at most
  /// ten deep, and %% by %. The Error says what was found instead.
  Result<SecretString> expand(Section& section, const Option& option);

  /// "FILE:LINE: [SECTION] OPTION: ", without what is empty.
  static std::string where(const Place& place, std::string_view section, std::string_view option);
  /// where(), then "found FOUND, expected EXPECTED".
  static std::string problem(const Place& place, std::string_view section, std::string_view option,
                             std::string_view found, std::string_view expected);
  /// What to add to a message about a value that may end with a comment, or that has quotes, which
  /// no option removes.
  static const char* hint(std::string_view value);
  /// Warns of each unknown option in `section`, which messages call `name`: one that is not `known`
  /// and that no expanded option refers to. The warning suggests the known name that it resembles.
  /// If it resembles one of `guards`, it is a problem instead, and the section becomes broken,
  /// because the administrator may rely on it. The same holds, if there are guards, for an option
  /// whose name contains a word such as "disable".
  static void judge_unknown(Section& section, std::string_view name,
                            std::span<const std::string_view> known,
                            std::span<const std::string_view> guards, Problems& problems,
                            Problems& warnings);

 private:
  struct File {
    std::string name;
    SecretString content;
  };
  bool expand_into(SecretString& out, std::string_view rest, Section& section, unsigned depth,
                   std::size_t& left, std::string& found);

  std::deque<File> files_;  // what every view here points into
  Section defaults_;
  std::map<std::string_view, Section> sections_;
};

/// The known name that `name` is a likely typing error of; empty: none.
std::string_view nearest(std::string_view name, std::span<const std::string_view> known);

std::optional<bool> parse_boolean(std::string_view text);
inline constexpr const char* kExpansion = "\"%%\" or the %(NAME)s of an option";

/// An option's name for a message. What cannot be a name is not shown: it may be part of a secret.
std::string shown_name(std::string_view name);
/// An option's value for a message, in quotes and shortened. Not for values that may be secret.
inline std::string in_quotes(std::string_view value) {
  return concat('"', escaped(value, 60), '"');
}

// Each sets one member from its text; the Error says what was expected.
template <auto Member, class Owner>
Status set_text(Owner& owner, std::string_view value) {
  owner.*Member = value;
  return Ok{};
}
template <auto Member, class Owner>
Status set_boolean(Owner& owner, std::string_view value) {
  const auto truth = parse_boolean(value);
  if (!truth) return Error{"1, yes, true, on, 0, no, false or off"};
  owner.*Member = *truth;
  return Ok{};
}
template <auto Member, std::int64_t Least = 0, std::int64_t Most = INT64_MAX, class Owner>
Status set_duration(Owner& owner, std::string_view value) {
  const auto parsed = parse_duration(value);
  if (!parsed) return Error{parsed.error()};
  owner.*Member = *parsed;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(*parsed).count();
  if (seconds >= Least && seconds <= Most) return Ok{};
  return Error{Most == INT64_MAX ? concat("at least ", Least, " s")
                                 : concat(Least, " to ", Most, " s")};
}

}  // namespace mandos::monitor
