// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/option_values.h"

#include <strings.h>

#include <algorithm>
#include <iterator>

namespace mandos::monitor {

std::optional<bool> parse_boolean(std::string_view text) {
  static constexpr std::string_view kWords[] = {"0", "no",  "false", "off",
                                                "1", "yes", "true",  "on"};
  const auto* word = std::find_if(std::begin(kWords), std::end(kWords), [&](std::string_view each) {
    return each.size() == text.size() && strncasecmp(each.data(), text.data(), text.size()) == 0;
  });
  return word == std::end(kWords) ? std::nullopt : std::optional(word - kWords >= 4);
}

}  // namespace mandos::monitor
