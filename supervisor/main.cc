// SPDX-License-Identifier: GPL-3.0-or-later
// The program `mandos`: evaluates the command line, goes into the background if it should, and
// becomes the supervisor.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/descriptors.h"
#include "common/inspection.h"
#include "config.h"
#include "supervisor/jail.h"
#include "supervisor/processes.h"
#include "supervisor/reload.h"
#include "supervisor/supervisor.h"

namespace mandos::supervisor {
namespace {

int complain(const std::string& what) {
  std::fprintf(stderr, "mandos: %s\n", what.c_str());
  return EXIT_FAILURE;
}

/// Runs the monitor's program once to check the command line and the configuration, in a separate
/// process that ends before anything else starts. Returns its exit status: inspection::kForeground
/// or kBackground to go on, kReload, or else our own exit status.
int inspect(const std::vector<std::string>& arguments) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const auto pid = spawn(monitor_program(inspection::kStartName), arguments,
                         {.door = null.get(), .quiet = false, .inherit = true});
  if (!pid) return complain(pid.error());
  int status = 0;
  // No time limit: there is no server yet, and whoever waits for one can kill us.
  TEMP_FAILURE_RETRY(waitpid(*pid, &status, 0));
  return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

/// Leaves the caller waiting for the first byte on the returned pipe, which means success.
Result<UniqueFd> go_into_background() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return errno_error(errno, "fork");
  if (pid > 0) {
    write_end.reset();
    char byte = 0;
    const ssize_t size = TEMP_FAILURE_RETRY(read(read_end.get(), &byte, 1));
    _exit(size == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  if (setsid() < 0) return errno_error(errno, "setsid");
  return write_end;
}

/// Whether the PID file names this process, or no running server.
bool may_replace_pid_file() {
  pid_t pid = 0;
  std::ifstream(MANDOS_PID_FILE) >> pid;
  return pid == getpid() || Processes().name(pid) != "mandos";
}

Status write_pid_file() {
  if (!may_replace_pid_file()) return Error{MANDOS_PID_FILE ": it belongs to another server"};
  const UniqueFd file(
      open(MANDOS_PID_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
  const std::string text = concat(getpid(), "\n");
  // Readable by everybody, whatever the umask is.
  if (!file || fchmod(file.get(), 0644) != 0 ||
      write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return errno_error(errno, MANDOS_PID_FILE);
  }
  return Ok{};
}

/// The unit of a running server, for a message; empty if it was started by hand.
std::string of_unit(pid_t pid) {
  std::ifstream file(concat("/proc/", pid, "/cgroup"));
  for (std::string line; std::getline(file, line);) {
    if (line.ends_with(".service")) return concat(" of unit ", line.substr(line.rfind('/') + 1));
  }
  return "";
}

/// LISTEN_FDS is meant for one process only, see sd_listen_fds(3). It is checked here, where our
/// process ID is still the one that it names.
void judge_listen_fds() {
  const char* pid = std::getenv("LISTEN_PID");
  if (pid == nullptr || pid != std::to_string(getpid())) unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDNAMES");
}

/// `--socket` may name a descriptor that is used for something else in children.
void move_sockets() {
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    // A connected socket serves as a terminal. For it, this fails with EFAULT, not ENOTCONN.
    if (getpeername(fd, nullptr, nullptr) == 0 || errno != ENOTCONN) continue;
    dup2(fd, inspection::kMovedSockets + fd);
    close(fd);
  }
}

int start(const std::vector<std::string>& arguments) {
  move_sockets();
  // Descriptors 0 to 2 must be occupied before we open anything.
  int spare = 0;
  while (spare >= 0 && spare <= STDERR_FILENO) spare = open("/dev/null", O_RDWR);
  if (spare < 0) return EXIT_FAILURE;
  close(spare);
  judge_listen_fds();
  // Locked memory for the secrets of many clients; the monitor inherits the limit.
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
  const int verdict = inspect(arguments);
  if (verdict == inspection::kReload) {
    const auto reloaded = ask_for_reload();
    return reloaded ? *reloaded : complain(reloaded.error());
  }
  const bool foreground = verdict == inspection::kForeground;
  const bool checks = verdict == inspection::kChecked;
  if (!foreground && verdict != inspection::kBackground && !checks) return verdict;
  auto accounts = find_accounts();
  if (!accounts) return complain(accounts.error());
  const auto capable = geteuid() == 0 ? check_capabilities() : Ok{};
  if (!capable) return complain(capable.error());
  if (checks) return EXIT_SUCCESS;
  if (geteuid() != 0) return complain("must be started as root, to give each process its account");
  // A reader of our standard error that hangs or is gone must not kill us.
  never_wait_for(STDERR_FILENO);
  std::signal(SIGPIPE, SIG_IGN);
  Notify notify;
  umask(077);

  UniqueFd ready_pipe;
  if (!foreground) {
    auto pipe = go_into_background();
    if (!pipe) return complain(pipe.error());
    ready_pipe = std::move(*pipe);
  }
  const auto [lock, other] = lock_control_directory();
  const std::string already = other && *other > 0
                                  ? concat("already runs, as process ", *other, of_unit(*other))
                                  : std::string("already runs");
  // In the foreground a second server is possible, with its own port and state directory.
  if (other && !foreground) return complain(already + ": nothing was changed");
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
    return complain("cannot become the parent of orphans");
  // The monitor first, while inherited descriptors are open and our capabilities complete.
  auto door = make_door();
  if (!door) return complain(door.error());
  Processes processes;
  const auto monitor = Supervisor::start_monitor(processes, arguments, door->second.get(), true);
  if (!monitor) return complain(monitor.error());
  door->second.reset();
  close_inherited();
  unsetenv("LISTEN_FDS");
  auto jailed = jail::enter(supervisor_jail());
  if (!jailed) return complain(jailed.error());

  EventLoop loop;
  Log log = Log::to_system("mandos-supervisor", LogLevel::kWarning, true);
  Supervisor supervisor(loop, log, processes, std::move(notify),
                        {.arguments = arguments,
                         .foreground = foreground,
                         .accounts = *accounts,
                         .jail = *jailed,
                         .on_ready = [&] {
                           if (foreground) return;
                           const auto written = write_pid_file();
                           if (!written) log.warning("no PID file: ", written.error());
                           const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
                           for (int fd = 0; fd <= STDERR_FILENO; ++fd) dup2(null.get(), fd);
                           log.set_stderr(false);
                           static_cast<void>(!write(ready_pipe.get(), "", 1));
                           ready_pipe.reset();
                         }});
  if (other) {
    log.warning("mandos ", already, ", which is the one that mandos --reload asks");
  } else if (auto listening = supervisor.listen(); !listening) {
    log.warning("--reload will not work: ", listening.error());
  }
  if (!jail::within_bounds(CAP_NET_RAW)) {
    log.warning(
        "capability net_raw is missing: checkers that use fping or ping will not work; add it "
        "(podman run --cap-add=NET_RAW), or set another checker");
  }
  supervisor.adopt_monitor(*monitor, std::move(door->first));
  const int status = supervisor.run();
  if (!foreground && may_replace_pid_file()) unlink(MANDOS_PID_FILE);
  return status;
}

}  // namespace
}  // namespace mandos::supervisor

int main(int argc, char** argv) {
  return mandos::supervisor::start(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
}
