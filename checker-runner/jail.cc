// SPDX-License-Identifier: GPL-3.0-or-later
#include "checker-runner/jail.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "config.h"

namespace mandos::checker_runner {
namespace {

namespace fs = std::filesystem;

void collect(const fs::path& directory, const std::vector<std::string>& excluded,
             std::vector<std::string>& found) {
  std::error_code failed;  // an unreadable directory counts as empty
  for (const auto& entry : fs::directory_iterator(directory, failed)) {
    const std::string& path = entry.path().native();
    if (entry.is_symlink(failed) || std::ranges::count(excluded, path) > 0) continue;
    if (std::ranges::any_of(excluded, [inside = path + "/"](const std::string& other) {
          return other.starts_with(inside);
        })) {
      collect(path, excluded, found);
    } else {
      found.push_back(path);
    }
  }
}

}  // namespace

std::vector<std::string> all_but(const std::string& top, const std::vector<std::string>& excluded) {
  std::vector<std::string> resolved;
  for (const auto& path : excluded) {
    std::error_code failed;
    resolved.push_back(fs::weakly_canonical(path, failed).native());
  }
  std::vector<std::string> found;
  collect(top, resolved, found);
  return found;
}

jail::Jail checker_jail() {
  jail::Jail jail;
  // For fping and ping. Podman, for example, does not grant it.
  if (jail::within_bounds(CAP_NET_RAW)) jail.capabilities = {CAP_NET_RAW};
  // Reading is unrestricted: secrets are readable by root only. So are TCP and other sockets.
  jail.landlock = {.unrestricted = all_but("/", {"/boot", "/etc", "/usr", MANDOS_CONFIG_DIR,
                                                 MANDOS_LIBEXEC_DIR, MANDOS_STATE_DIR}),
                   .forbid_reading = false,
                   .forbid_tcp = false};
  jail.filter = {.allow_list = false, .allowed = {}, .refused = jail::dangerous_calls()};
  auto& refused = jail.filter.refused;
  for (const int number : {SCMP_SYS(chroot), SCMP_SYS(quotactl_fd), SCMP_SYS(nfsservctl),
                           SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(uselib)}) {
    refused.push_back({number});
  }
  // Asking for it is harmless.
  refused.push_back({SCMP_SYS(personality), {scmp_arg_cmp{0, SCMP_CMP_NE, 0xffffffff, 0}}});
  // These could type into the terminal that shows the checkers' output.
  for (const int request : {TIOCSTI, TIOCLINUX}) {
    refused.push_back({SCMP_SYS(ioctl), {jail::is(1, static_cast<unsigned>(request))}});
  }
  // User namespaces. The flags of clone3 are in memory; if it is refused, libraries use clone.
  refused.push_back(
      {SCMP_SYS(clone),
       {scmp_arg_cmp{jail::kCloneFlags, SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER}}});
  refused.push_back({SCMP_SYS(clone3), {}, ENOSYS});
  return jail;
}

}  // namespace mandos::checker_runner
