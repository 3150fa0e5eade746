// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/as_networker.h"

#include <cap-ng.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "config.h"

namespace mandos::test {

void die(const char* what) {
  std::perror(what);
  _exit(1);
}

void provide_root() {
  const std::filesystem::path root(MANDOS_EMPTY_DIR);
  std::error_code error;
  if (std::filesystem::is_directory(root, error)) return;
  std::filesystem::path existing = root;
  while (!std::filesystem::is_directory(existing, error)) existing = existing.parent_path();
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("none", existing.c_str(), "tmpfs", 0, "mode=755") != 0 ||
      !std::filesystem::create_directories(root, error)) {
    die(MANDOS_EMPTY_DIR);
  }
}

void drop_to(uid_t id, const std::vector<unsigned>& capabilities) {
  constexpr auto kSets = static_cast<capng_type_t>(
      CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE | CAPNG_BOUNDING_SET | CAPNG_AMBIENT);
  capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned capability : capabilities) capng_update(CAPNG_ADD, kSets, capability);
  if (capng_apply(CAPNG_SELECT_BOUNDS) != 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 ||
      setgroups(0, nullptr) != 0 || setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0 ||
      capng_apply(CAPNG_SELECT_CAPS) != 0 || capng_apply(CAPNG_SELECT_AMBIENT) != 0) {
    die("dropping privileges");
  }
}

void drop_to_networker(uid_t id) { drop_to(id, {CAP_SYS_CHROOT, CAP_SETPCAP}); }

}  // namespace mandos::test
