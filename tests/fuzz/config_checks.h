// SPDX-License-Identifier: GPL-3.0-or-later
// What mandos.conf and clients.conf promise alike: where an error is, and that what was read can be
// written down and read again.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

#include "tests/fuzz/input.h"

namespace mandos::fuzz {

/// `sentence` begins with `file`, a line that `content` has (of another file: any), and a sentence.
inline void require_place(std::string_view sentence, std::string_view file,
                          std::string_view content) {
  require(sentence.starts_with(file), "an error names its file", sentence);
  const auto rest = sentence.substr(file.size());
  const auto lines =
      std::count_if(content.begin(), content.end(), [](char c) { return c == '\n' || c == '\r'; }) +
      1;
  long line = 0;
  const auto* const begin = rest.data() + (rest.starts_with(':') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, rest.data() + rest.size(), line);
  require(error == std::errc() && line >= 1 && line <= lines, "an error names its line", sentence);
  require(std::string_view(end, static_cast<std::size_t>(rest.data() + rest.size() - end))
              .starts_with(": "),
          "an error says more than its place", sentence);
}

/// `value` as it must stand behind "NAME = " to be read as it is.
inline std::string folded(std::string_view value) {
  std::string out;
  for (const char c : value) {
    out += c;
    if (c == '\n') out += '\t';
  }
  return out;
}

/// The same where %(NAME)s is expanded.
inline std::string literal(std::string_view value) {
  std::string out;
  for (const char c : value) out.append(c == '%' ? 2 : 1, c);
  return folded(out);
}

}  // namespace mandos::fuzz
