// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl(8). A first argument that is a command word chooses a command; anything else is what
// the original's mandos-ctl takes.
#include <string_view>
#include <vector>

#include "ctl/command.h"

int main(int argc, char** argv) {
  using namespace mandos::ctl;
  const std::vector<std::string_view> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return manage(words);
}
