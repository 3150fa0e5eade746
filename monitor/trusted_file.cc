// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/trusted_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/unique_fd.h"
#include "monitor/accounts.h"

namespace mandos::monitor {

Result<std::optional<SecretString>> read_file(const std::string& path, const FileRules& rules,
                                              bool* denied) {
  // O_NONBLOCK: opening a pipe must not wait for its other end.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  const int failed = errno;
  struct stat status {};
  if (!fd && failed == ENOENT) {
    // What a link leads to may come back, with clients in it that are known.
    if (lstat(path.c_str(), &status) == 0) {
      return Error{concat(path, ": leads nowhere; restore what it leads to, or remove it")};
    }
    if (errno == ENOENT && !rules.must_exist) return std::optional<SecretString>();
  }
  if (!fd && failed == EACCES && denied != nullptr) *denied = true;
  // Why a file cannot be opened, its owner or mode may say.
  if ((fd ? fstat(fd.get(), &status) : stat(path.c_str(), &status)) != 0) {
    return errno_error(errno, path, ": as user ", user_name(geteuid()));
  }
  const auto refused = [&](const auto&... why) { return Error{concat(path, ": ", why...)}; };
  if (rules.is_folder ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode)) {
    return refused("expected a ", rules.is_folder ? "folder" : "regular file");
  }
  if (status.st_uid != 0 && status.st_uid != geteuid()) {
    return refused("found owner ", user_name(status.st_uid), ", expected root; run: chown root ",
                   path);
  }
  const mode_t readers = status.st_gid == 0 ? S_IROTH : S_IROTH | S_IRGRP;
  if ((status.st_mode & (S_IWGRP | S_IWOTH | (rules.is_private ? readers : 0))) != 0) {
    return refused("found mode 0", status.st_mode >> 6 & 7, status.st_mode >> 3 & 7,
                   status.st_mode & 7, ", expected one that lets only its owner ",
                   rules.is_private ? "read or write, such as 0600; run: chmod go= "
                                    : "write; run: chmod go-w ",
                   path);
  }
  if (!fd) return errno_error(failed, path, ": as user ", user_name(geteuid()));
  SecretString content(&secret_memory());
  if (rules.is_folder) return std::optional(std::move(content));
  if (std::cmp_greater(status.st_size, rules.limit)) {
    return refused("found ", status.st_size, " bytes, expected at most ", rules.limit);
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  content.resize(size);
  for (std::size_t got = 0; got < content.size();) {
    const auto n = read(fd.get(), content.data() + got, size - got);
    if (n < 0) return errno_error(errno, path);
    got += static_cast<std::size_t>(n);
    if (n == 0) content.resize(got);  // it has become shorter
  }
  return std::optional(std::move(content));
}

}  // namespace mandos::monitor
