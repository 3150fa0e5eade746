// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl(8). If the first argument is the name of a command, that command runs. All other
// arguments are the original's.
#include <span>
#include <string_view>
#include <vector>

#include "ctl/command.h"

namespace {

struct Command {
  std::string_view word;
  int (*run)(mandos::ctl::Words words);
};
constexpr Command kCommands[] = {
    {"diff", mandos::ctl::diff},       {"events", mandos::ctl::events},
    {"metrics", mandos::ctl::metrics}, {"restore", mandos::ctl::restore},
    {"status", mandos::ctl::status},   {"verify", mandos::ctl::verify},
    {"wait", mandos::ctl::wait},
};

}  // namespace

int main(int argc, char** argv) {
  using namespace mandos::ctl;
  const std::vector<std::string_view> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  for (const auto& command : kCommands) {
    if (!words.empty() && words[0] == command.word) return command.run(std::span(words).subspan(1));
  }
  return manage(words);
}
