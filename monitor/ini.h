// SPDX-License-Identifier: GPL-3.0-or-later
// The dialect of mandos.conf and clients.conf, and the error messages about them. It is the dialect
// of Python's configparser, with which the original server reads these files.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "monitor/secret.h"

namespace mandos::monitor {

using Problems = std::vector<std::string>;

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

/// What expand() expects.
inline constexpr const char* kExpansion = "\"%%\" or the %(NAME)s of an option";

}  // namespace mandos::monitor
