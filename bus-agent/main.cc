// SPDX-License-Identifier: GPL-3.0-or-later
// The bus-agent: what administrators' tools and Avahi see of the server.
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
  // We end when the monitor's door is closed, and so after the announcement is taken back, however
  // the whole is told to end.
  for (const int signal : {SIGPIPE, SIGINT, SIGHUP, SIGTERM}) std::signal(signal, SIG_IGN);

  // GLib's own way of complaining looks at what standard error is, with calls that the jail answers
  // by killing us.
  g_log_set_default_handler(
      [](const gchar*, GLogLevelFlags, const gchar* text, gpointer to) {
        static_cast<Log*>(to)->warning("GLib: ", escaped(text == nullptr ? "" : text));
      },
      &child.log);
  // No modules, no other file systems: a bus client needs none.
  g_setenv("GIO_MODULE_DIR", "/nonexistent", TRUE);
  g_setenv("GIO_USE_VFS", "local", TRUE);
  g_unsetenv("GIO_EXTRA_MODULES");
  // Whatever reads a file, before there are none. No thread is started by any of this.
  Access access = find_access();
  if (!access.missing.empty()) {
    child.log.error("there is no user ", access.missing,
                    " whom to refuse on the bus: only root is served ",
                    "there, until the user exists and the server is restarted");
  }
  const std::string bus = find_system_bus();
  g_type_ensure(G_TYPE_DBUS_MESSAGE);
  GMainLoop* loop = g_main_loop_new(nullptr, FALSE);

  if (!child.enter(bus_agent_jail())) return EXIT_FAILURE;
  int status = 0;
  // Never destroyed: libraries may wait for answers.
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
