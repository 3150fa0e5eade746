// SPDX-License-Identifier: GPL-3.0-or-later
#include "checker-runner/judge.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "common/text.h"
#include "config.h"

namespace mandos::checker_runner {
namespace {

// What the shell knows by itself (POSIX.1, "Shell Command Language"), of those that are plain
// words.
constexpr std::string_view kOfTheShell[] = {
    "alias", "bg",    "break",  "case",  "cd",     "command", "continue", "echo",     "eval",
    "exec",  "exit",  "export", "false", "fc",     "fg",      "for",      "getopts",  "hash",
    "if",    "jobs",  "kill",   "local", "printf", "pwd",     "read",     "readonly", "return",
    "set",   "shift", "test",   "times", "trap",   "true",    "type",     "ulimit",   "umask",
    "unset", "until", "wait",   "while", "."};
constexpr std::string_view kPlain =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./+";
// The shell's own where the environment has none.
constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

bool is_executable(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         access(path.c_str(), X_OK) == 0;
}

bool is_found(const std::string& program) {
  if (program.find('/') != program.npos) return is_executable(program);
  const char* const path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : kDefaultPath;
  for (;;) {
    const auto folder = rest.substr(0, rest.find(':'));
    if (is_executable(concat(folder.empty() ? "." : folder, "/", program))) return true;
    if (folder.size() == rest.size()) return false;
    rest.remove_prefix(folder.size() + 1);
  }
}

}  // namespace

std::optional<std::string> judge_command(std::string_view command) {
  command.remove_prefix(std::min(command.find_first_not_of(" \t\n"), command.size()));
  const std::string program(command.substr(0, command.find_first_of(" \t\n")));
  if (program.empty() || program.find_first_not_of(kPlain) != program.npos ||
      std::ranges::count(kOfTheShell, program) > 0 || is_found(program)) {
    return std::nullopt;
  }
  return concat("found no program ", escaped(program),
                " that user " MANDOS_CHECKER_USER
                " may execute, expected one: clients that it checks are disabled when their "
                "timeouts end; install it, or set another checker");
}

}  // namespace mandos::checker_runner
