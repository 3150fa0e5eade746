// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl(8). If the first argument is the name of a command, that command runs. All other
// arguments are the original's. Options for servers may also precede the command.
#include <algorithm>
#include <cstddef>
#include <iterator>
#include <span>
#include <string_view>
#include <vector>

#include "ctl/command.h"
#include "ctl/servers.h"

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

const Command* find_command(std::string_view word) {
  const auto* const found = std::ranges::find(kCommands, word, &Command::word);
  return found == std::end(kCommands) ? nullptr : found;
}

/// The number of words at the beginning that are options for servers.
std::size_t leading(const std::vector<std::string_view>& words) {
  std::size_t i = 0;
  while (i < words.size()) {
    const std::string_view name = words[i].substr(0, words[i].find('='));
    if (name.size() < 2 || !name.starts_with("--")) break;
    const std::string_view option = name.substr(2);
    if (option != mandos::ctl::kServer.name && option != mandos::ctl::kServerTimeout.name) break;
    i += name.size() == words[i].size() ? 2 : 1;
  }
  return i;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mandos::ctl;
  std::vector<std::string_view> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  const std::size_t at = leading(words);
  const Command* const command = at < words.size() ? find_command(words[at]) : nullptr;
  if (command == nullptr) return manage(words);
  words.erase(words.begin() + static_cast<std::ptrdiff_t>(at));
  return command->run(words);
}
