// SPDX-License-Identifier: GPL-3.0-or-later
// without-calls ERRNO CALL... -- COMMAND...: runs the command where those system calls fail, as
// they do in a container (EPERM) or with an older kernel (ENOSYS). Needs root.
#include <seccomp.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

int main(int argc, char** argv) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  if (argc < 3 || filter == nullptr) return 2;
  const auto error = static_cast<std::uint16_t>(std::atoi(argv[1]));
  int next = 2;
  for (; next < argc && std::string_view(argv[next]) != "--"; ++next) {
    const int number = seccomp_syscall_resolve_name(argv[next]);
    if (number == __NR_SCMP_ERROR ||
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), number, 0) != 0) {
      std::fprintf(stderr, "without-calls: %s\n", argv[next]);
      return 2;
    }
  }
  // Root may do without no_new_privs, which the command would inherit.
  if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) != 0 || seccomp_load(filter) != 0 ||
      next + 1 >= argc) {
    return 2;
  }
  execvp(argv[next + 1], argv + next + 1);
  return 127;
}
