// SPDX-License-Identifier: GPL-3.0-or-later
// The bus-agent: what administrators' tools and Avahi see of the server.
// Descriptors: 0 to 2 as usual, 3 the door to the monitor, 4 the log socket.
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "bus-agent/agent.h"
#include "bus-agent/jail.h"
#include "common/descriptors.h"

namespace mandos::bus_agent {
namespace {

constexpr int kDoor = 3;
constexpr int kLogSocket = 4;

int run() {
  int type = 0;
  socklen_t size = sizeof type;
  if (getsockopt(kDoor, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
    static_cast<void>(std::fputs("This program is started by mandos, not by hand.\n", stderr));
    return 2;
  }
  Log log = Log::to_socket(kLogSocket, LogLevel::kInfo);
  if (!close_descriptors(kLogSocket + 1) || chdir("/") != 0) {
    log.critical("descriptors that it inherited cannot be closed, or its directory cannot be left");
    return 1;
  }
  // We end when the monitor's door is closed, and so after the announcement is taken back, however
  // the whole is told to end.
  for (const int signal : {SIGPIPE, SIGINT, SIGHUP, SIGTERM}) std::signal(signal, SIG_IGN);

  // GLib's own way of complaining looks at what standard error is, with calls that the jail answers
  // by killing us.
  g_log_set_default_handler(
      [](const gchar*, GLogLevelFlags, const gchar* text, gpointer to) {
        static_cast<Log*>(to)->warning("GLib: ", escaped(text == nullptr ? "" : text));
      },
      &log);
  // No modules, no other file systems: a bus client needs none.
  g_setenv("GIO_MODULE_DIR", "/nonexistent", TRUE);
  g_setenv("GIO_USE_VFS", "local", TRUE);
  g_unsetenv("GIO_EXTRA_MODULES");
  // Whatever reads a file, before there are none. No thread is started by any of this.
  Access access = find_access();
  if (!access.missing.empty()) {
    log.error("there is no user ", access.missing,
              " whom to refuse on the bus: only root is served ",
              "there, until the user exists and the server is restarted");
  }
  const std::string bus = find_system_bus();
  g_type_ensure(G_TYPE_DBUS_MESSAGE);
  GMainLoop* loop = g_main_loop_new(nullptr, FALSE);

  const auto jailed = jail::enter(bus_agent_jail());
  if (!jailed) {
    log.critical("jail: ", jailed.error());
    return 1;
  }
  log.info("jail: ", *jailed);
  int status = 0;
  const Agent agent(log, UniqueFd(kDoor), bus, std::move(access), [&](int how) {
    status = how;
    g_main_loop_quit(loop);
  });
  g_main_loop_run(loop);
  // Not destroyed: the kernel closes what there is faster than libraries that may wait for answers.
  _exit(status);
}

}  // namespace
}  // namespace mandos::bus_agent

int main() { return mandos::bus_agent::run(); }
