// SPDX-License-Identifier: GPL-3.0-or-later
#include "supervisor/processes.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "common/text.h"

namespace mandos::supervisor {

void Processes::end(pid_t pid) {
  if (pid > 0) kill(pid, SIGKILL);
}

pid_t Processes::reap(int& wait_status, bool wait) {
  const pid_t ended = waitpid(-1, &wait_status, WNOHANG);
  if (ended == 0 && wait) poll(nullptr, 0, 10);
  return ended;
}

std::string Processes::name(pid_t pid) {
  std::string name;
  std::getline(std::ifstream(concat("/proc/", pid, "/comm")), name);
  return escaped(name);
}

// See proc(5), /proc/PID/task/TID/children.
std::vector<pid_t> Processes::children() {
  std::ifstream list(concat("/proc/self/task/", getpid(), "/children"));
  std::vector<pid_t> pids;
  for (pid_t pid = 0; list >> pid;) pids.push_back(pid);
  return pids;
}

}  // namespace mandos::supervisor
