// SPDX-License-Identifier: GPL-3.0-or-later
// spawn-floor COUNT RATE: what COUNT checkers cost at the least, `sh -c true` by posix_spawn(3),
// RATE a second as checkers come (a processor that slept in between does the same work more slowly
// than one that never does), or with 0 one after the other. Prints the CPU of one in microseconds,
// ours and the shell's together.
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <thread>

#include "common/text.h"

namespace {

/// Microseconds of CPU.
long long spent(int whose) {
  rusage usage{};
  getrusage(whose, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000LL + usage.ru_utime.tv_usec +
         usage.ru_stime.tv_usec;
}

long long all_spent() { return spent(RUSAGE_SELF) + spent(RUSAGE_CHILDREN); }

}  // namespace

int main(int argc, char** argv) {
  unsigned count = 0;
  unsigned rate = 0;
  if (argc != 3 || !mandos::parse_number(std::string_view(argv[1]), count) || count == 0 ||
      !mandos::parse_number(std::string_view(argv[2]), rate)) {
    std::fputs("Usage: spawn-floor COUNT RATE\n", stderr);
    return 2;
  }
  const long long before = all_spent();
  const auto start = std::chrono::steady_clock::now();
  for (unsigned i = 0; i < count; ++i) {
    if (rate > 0)
      std::this_thread::sleep_until(start + std::chrono::microseconds(1'000'000ULL * i / rate));
    std::array<char*, 4> arguments{const_cast<char*>("/bin/sh"), const_cast<char*>("-c"),
                                   const_cast<char*>("true"), nullptr};
    pid_t pid = 0;
    int status = 0;
    if (posix_spawn(&pid, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0 ||
        waitpid(pid, &status, 0) != pid || status != 0) {
      std::fputs("spawn-floor: the shell cannot be run\n", stderr);
      return 1;
    }
  }
  std::printf("%.2f\n", static_cast<double>(all_spent() - before) / count);
}
