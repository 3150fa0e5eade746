// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace mandos::ctl {

/// One option of a command: a row of its table.
struct Option {
  std::string_view name;     // without "--"
  char letter = 0;           // 0: none
  std::string_view operand;  // its name in the help; empty: the option takes none
  std::string_view help;
  int group = 0;       // options of one group (not 0) exclude each other
  bool ends = false;   // the arguments that follow are ignored: --help, --version
  bool exact = false;  // its name cannot be abbreviated
};

/// Command-line arguments, parsed as by the original: "--name value", "--name=value", any
/// unambiguous prefix of a name, "-n value", "-nvalue", "-n=value", several letters in one word,
/// and "--". Options and operands may be in any order.
struct Arguments {
  struct Given {
    const Option* option;
    std::string value;
  };
  std::vector<Given> options;
  std::vector<std::string> operands;

  bool has(std::string_view name) const;
  /// The value of the last option of that name, or null.
  const std::string* value(std::string_view name) const;
};

/// The Error is about the first wrong argument.
Result<Arguments> parse_arguments(std::span<const Option> options,
                                  std::span<const std::string_view> words);

/// The list of options for a help text, in lines of at most 80 columns.
std::string help_of(std::span<const Option> options);

}  // namespace mandos::ctl
