// SPDX-License-Identifier: GPL-3.0-or-later
// Where secrets lie: never on a swap device or in a core file, and wiped when they are given back.
#include "monitor/secret.h"

#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "tests/support/sanitized.h"

namespace mandos::monitor {
namespace {

// More than the pieces that share a page with others.
constexpr std::size_t kSize = 1000;

/// Secret memory is made once in a process, so each case has its own. `act` returns 0 if all is
/// well.
int in_a_process(const std::function<int()>& act) {
  const pid_t child = fork();
  if (child == 0) _exit(act());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

#ifndef MANDOS_SANITIZED
/// A kernel without memfd_secret(2) from now on.
void refuse_memfd_secret() {
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(memfd_secret), 0) != 0 ||
      seccomp_load(filter) != 0) {
    _exit(100);
  }
  seccomp_release(filter);
}
#endif

std::unique_ptr<Secret> some_secret() {
  const std::vector<unsigned char> bytes(kSize, 's');
  return std::make_unique<Secret>(bytes);
}

/// What the kernel says of the mapping that holds `address` (proc(5), /proc/PID/smaps): its first
/// line and its flags, with a space behind each.
std::string mapping_of(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  std::string found;
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      const auto at = reinterpret_cast<unsigned long>(address);
      here = begin <= at && at < end;
      if (here) found = line + " ";
    }
    if (here && line.starts_with("VmFlags:")) return found + line + " ";
  }
  return found;
}

bool has(const std::string& mapping, const char* word) {
  return mapping.find(word) != std::string::npos;
}

TEST(SecretMemory, IsMemfdSecretWhereTheKernelHasIt) {
  const UniqueFd probe(static_cast<int>(syscall(SYS_memfd_secret, 0)));
  if (!probe) GTEST_SKIP() << "no memfd_secret";
  EXPECT_EQ(in_a_process([] {
              const auto secret = some_secret();
              if (secret_memory_kind() != "memfd_secret") return 1;
              return has(mapping_of(secret->bytes().data()), "secretmem") ? 0 : 2;
            }),
            0);
}

#ifndef MANDOS_SANITIZED  // for which mlock(2) does nothing
TEST(SecretMemory, IsLockedAndNotDumpedWhereTheKernelHasNoMemfdSecret) {
  EXPECT_EQ(in_a_process([] {
              refuse_memfd_secret();
              const auto secret = some_secret();
              if (!secret_memory_kind().starts_with("mlock")) return 1;
              const std::string mapping = mapping_of(secret->bytes().data());
              if (!has(mapping, " lo ")) return 2;
              return has(mapping, " dd ") ? 0 : 3;
            }),
            0);
}

TEST(SecretMemory, IsNotGivenUnlocked) {
  for (const bool with_memfd_secret : {true, false}) {
    EXPECT_EQ(in_a_process([with_memfd_secret] {
                const rlimit none{0, 0};
                // Root may lock without a limit.
                if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || setresuid(65534, 65534, 65534) != 0) {
                  return 1;
                }
                if (!with_memfd_secret) refuse_memfd_secret();
                try {
                  some_secret();
                } catch (const std::bad_alloc&) {
                  return 0;
                }
                return 2;
              }),
              0);
  }
}
#endif

TEST(SecretMemory, IsWipedWhenItIsGivenBack) {
  EXPECT_EQ(in_a_process([] {
              const auto neighbor = some_secret();  // keeps the page
              auto secret = some_secret();
              const volatile unsigned char* const bytes = secret->bytes().data();
              if (bytes[0] != 's' || bytes[kSize - 1] != 's') return 1;
              secret.reset();
              return std::all_of(bytes, bytes + kSize, [](auto byte) { return byte == 0; }) ? 0 : 2;
            }),
            0);
}

TEST(SecretMemory, AStringThatGrowsLeavesNothingBehind) {
  EXPECT_EQ(in_a_process([] {
              const auto neighbor = some_secret();
              SecretString text(kSize, 's', &secret_memory());
              const volatile char* const before = text.data();
              text.append(kSize, 's');
              if (text.data() == before) return 1;
              return std::all_of(before, before + kSize, [](char c) { return c == 0; }) ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace mandos::monitor
