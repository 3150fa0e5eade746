// SPDX-License-Identifier: GPL-3.0-or-later
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "common/child.h"
#include "common/inspection.h"
#include "common/jail.h"
#include "monitor/monitor.h"
#include "monitor/self_check.h"

namespace mandos::monitor {
namespace {

/// Everything before there is a server: prints what was asked for or what is wrong.
int inspect(const Result<CommandLine>& command_line, bool starts) {
  if (!command_line) {
    std::fputs(usage_error_text(command_line.error()).c_str(), stderr);
    return 2;
  }
  if (geteuid() != 0 &&
      (command_line->action == Action::kRun || command_line->action == Action::kReload)) {
    std::fputs("mandos: must be run as root; only --check may be run by others\n", stderr);
    return EXIT_FAILURE;
  }
  switch (command_line->action) {
    case Action::kHelp:
      return std::fputs(help_text().c_str(), stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    case Action::kVersion:
      return std::fputs(version_text().c_str(), stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    case Action::kReload:
      return inspection::kReload;
    case Action::kCheck:
    case Action::kRun:
      break;
  }
  // What only these rights could read is an error at a start, see Monitor::begin().
  jail::override_permissions(false);
  const auto loaded = load_settings(*command_line);
  if (command_line->action == Action::kCheck) {
    const bool good = self_check(loaded, starts) == 0;
    // As at a start, which fails on errors in the settings before it reaches this.
    if (loaded.problems.empty() && !loaded.usage_error.empty()) return 2;
    return !good ? EXIT_FAILURE : starts ? inspection::kChecked : EXIT_SUCCESS;
  }
  for (const auto& problem : loaded.problems) std::fprintf(stderr, "mandos: %s\n", problem.c_str());
  if (!loaded.problems.empty()) return EXIT_FAILURE;
  if (!loaded.usage_error.empty()) {
    std::fputs(usage_error_text(loaded.usage_error).c_str(), stderr);
    return 2;
  }
  return loaded.settings.foreground ? inspection::kForeground : inspection::kBackground;
}

int serve(CommandLine command_line) {
  std::signal(SIGPIPE, SIG_IGN);
  EventLoop loop;
  // Until the settings are known, errors at start are also shown to the caller.
  Log log = Log::to_system("mandos", LogLevel::kWarning, true);
  static auto& monitor = *new Monitor(loop, log, std::move(command_line), UniqueFd(kMonitorDoorFd));
  return monitor.run();
}

}  // namespace
}  // namespace mandos::monitor

int main(int argc, char** argv) {
  using namespace mandos;
  auto command_line = monitor::parse_command_line(argc, argv);
  const std::string_view name = argc < 1 ? inspection::kName : argv[0];
  const bool starts = name == inspection::kStartName;
  if (starts || name == inspection::kName || !command_line) {
    return monitor::inspect(command_line, starts);
  }
  return monitor::serve(std::move(*command_line));
}
