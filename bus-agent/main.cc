// SPDX-License-Identifier: GPL-3.0-or-later
// The bus-agent: the server as administrators' tools and Avahi see it.
#include <csignal>
#include <cstdlib>
#include <string>
#include <utility>

#include "bus-agent/agent.h"
#include "bus-agent/jail.h"
#include "common/child.h"

namespace mandos::bus_agent {
namespace {

int serve(Child& child) {
  // We end when the monitor's door is closed, and so after the announcement is withdrawn, no matter
  // which signal ends the server.
  for (const int signal : {SIGPIPE, SIGINT, SIGHUP, SIGTERM}) std::signal(signal, SIG_IGN);

  // GLib's default log handler inspects standard error with system calls for which the jail would
  // kill us.
  g_log_set_default_handler(
      [](const gchar*, GLogLevelFlags, const gchar* text, gpointer to) {
        static_cast<Log*>(to)->warning("GLib: ", escaped(text == nullptr ? "" : text));
      },
      &child.log);
  // No modules and no other file systems, which a bus client does not need.
  g_setenv("GIO_MODULE_DIR", "/nonexistent", TRUE);
  g_setenv("GIO_USE_VFS", "local", TRUE);
  g_unsetenv("GIO_EXTRA_MODULES");
  // Everything that reads a file, before the jail denies that. None of this starts a thread.
  Access access = find_access();
  if (!access.missing.empty()) {
    child.log.error("user ", access.missing, " does not exist, so its calls cannot be refused: ",
                    "only root is served on the bus until the user exists and the server ",
                    "is restarted");
  }
  const std::string bus = find_system_bus();
  g_type_ensure(G_TYPE_DBUS_MESSAGE);
  GMainLoop* loop = g_main_loop_new(nullptr, FALSE);

  if (!child.enter(bus_agent_jail())) return EXIT_FAILURE;
  int status = 0;
  // Never destroyed, because libraries may still wait for answers.
  static_cast<void>(
      new Agent(child.log, std::move(child.door), bus, std::move(access), [&](int how) {
        status = how;
        g_main_loop_quit(loop);
      }));
  g_main_loop_run(loop);
  return status;
}

}  // namespace
}  // namespace mandos::bus_agent

int main() { mandos::live(mandos::bus_agent::serve); }
