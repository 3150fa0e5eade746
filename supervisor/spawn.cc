// SPDX-License-Identifier: GPL-3.0-or-later
#include "supervisor/spawn.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/child.h"
#include "common/descriptors.h"
#include "common/jail.h"
#include "config.h"

namespace mandos::supervisor {
namespace {

constexpr int kFailed = 127;

[[noreturn]] void fail(int complaints, const Program& program, const char* what) {
  dprintf(complaints, "mandos: %s: %s: %s\n", program.name.c_str(), what, std::strerror(errno));
  _exit(kFailed);
}

void drop(const Program& program, int complaints) {
  capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned capability : *program.capabilities) {
    if (jail::within_bounds(capability)) capng_update(CAPNG_ADD, jail::kCapabilitySets, capability);
  }
  if (capng_apply(CAPNG_SELECT_BOUNDS) != 0) fail(complaints, program, "bounding set");
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) fail(complaints, program, "PR_SET_KEEPCAPS");
  if (setgroups(0, nullptr) != 0) fail(complaints, program, "setgroups");
  if (setresgid(program.gid, program.gid, program.gid) != 0) fail(complaints, program, "setresgid");
  if (setresuid(program.uid, program.uid, program.uid) != 0) fail(complaints, program, "setresuid");
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) fail(complaints, program, "capabilities");
  if (capng_apply(CAPNG_SELECT_AMBIENT) != 0) fail(complaints, program, "ambient capabilities");
}

void place(const Program& program, const Descriptors& descriptors, int complaints) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) fail(complaints, program, "/dev/null");
  if (descriptors.log < 0) {
    if (dup2(descriptors.door, kMonitorDoorFd) < 0) fail(complaints, program, "dup2");
  } else {
    // Copies above their final numbers, so that none overwrites another.
    const int door = fcntl(descriptors.door, F_DUPFD, kLogFd + 1);
    const int log = fcntl(descriptors.log, F_DUPFD, kLogFd + 1);
    if (door < 0 || log < 0 ||
        dup2(descriptors.input < 0 ? null : descriptors.input, kMemoryFd) < 0 ||
        dup2(door, kDoorFd) < 0 || dup2(log, kLogFd) < 0) {
      fail(complaints, program, "dup2");
    }
  }
  const int output = descriptors.quiet ? null : descriptors.output;
  if (output >= 0 && (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)) {
    fail(complaints, program, "dup2");
  }
  const unsigned first = descriptors.log < 0 ? STDERR_FILENO + 1 : kLogFd + 1;
  if (!descriptors.inherit && !close_descriptors(first, ~0U, true)) {
    fail(complaints, program, "close_range");
  }
}

}  // namespace

Program monitor_program(std::string name) {
  return {.file = "mandos-monitor",
          .name = std::move(name),
          .capabilities = nullptr,
          .parent_death_signal = SIGKILL};
}

Result<pid_t> spawn(const Program& program, const std::vector<std::string>& arguments,
                    const Descriptors& descriptors) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return errno_error(errno, "fork");
  if (pid > 0) return pid;

  for (int signal = 1; signal < NSIG; ++signal) std::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int complaints = fcntl(descriptors.output < 0 ? STDERR_FILENO : descriptors.output,
                               F_DUPFD_CLOEXEC, kLogFd + 1);
  place(program, descriptors, complaints);
  if (program.capabilities != nullptr) drop(program, complaints);
  // After the change of user, which would clear it.
  if (prctl(PR_SET_PDEATHSIG, program.parent_death_signal, 0, 0, 0) != 0 || getppid() != parent) {
    _exit(kFailed);
  }
  std::vector<char*> argv{const_cast<char*>(program.name.c_str())};
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view key(*variable, std::strcspn(*variable, "="));
    if (program.environment.empty() || std::ranges::count(program.environment, key) > 0) {
      environment.push_back(*variable);
    }
  }
  for (const auto& entry : program.environment) {
    if (entry.find('=') != entry.npos) environment.push_back(const_cast<char*>(entry.data()));
  }
  // Lazy symbol binding, ld.so(8), leaves vector registers, and so secrets, on the stack.
  environment.push_back(const_cast<char*>("LD_BIND_NOW=1"));
  // memcpy(3) leaves the data that it copied in the AVX-512 registers, if it uses them.
  environment.push_back(const_cast<char*>("GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL"));
  environment.push_back(nullptr);
  const std::string path = concat(MANDOS_LIBEXEC_DIR "/", program.file);
  execve(path.c_str(), argv.data(), environment.data());
  fail(complaints, program, path.c_str());
}

}  // namespace mandos::supervisor
