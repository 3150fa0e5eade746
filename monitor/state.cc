// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "monitor/key_id.h"

namespace mandos::monitor {
namespace {

constexpr std::string_view kSuffix = ".client";
constexpr std::string_view kNew = ".new";
constexpr std::string_view kDamaged = ".damaged";
constexpr std::size_t kHead = SHA256_DIGEST_SIZE + sizeof(std::uint32_t);
constexpr std::size_t kLargest = 16 << 20;

}  // namespace

std::array<std::uint8_t, 32> sha256(std::initializer_list<std::span<const unsigned char>> parts) {
  sha256_ctx context;
  sha256_init(&context);
  for (const auto part : parts) sha256_update(&context, part.size(), part.data());
  std::array<std::uint8_t, 32> digest{};
  sha256_digest(&context, digest.size(), digest.data());
  explicit_bzero(&context, sizeof context);  // the end of a secret
  return digest;
}

std::string state_file_name(std::string_view client) {
  static constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  constexpr std::size_t kLongest = 200;  // of the 255 that a file system allows
  std::string name;
  for (const char c : client) {
    const auto byte = static_cast<unsigned char>(c);
    if (kPlain.find(c) != std::string_view::npos) {
      name += c;
    } else {
      name += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  if (name.size() > kLongest) {
    name = concat(name.substr(0, kLongest / 2), "%%", KeyId{sha256({as_bytes(client)})}.text());
  }
  return name + std::string(kSuffix);
}

Error StateStore::file_error(int errno_value, std::string_view file) const {
  return errno_error(errno_value, path_, "/", escaped(file));
}

Error StateStore::error(int errno_value, std::string_view client) const {
  return file_error(errno_value, state_file_name(client));
}

StateStore::StateStore(std::string path, std::vector<std::string>& warnings)
    : path_(std::move(path)) {
  // O_NOFOLLOW looks at the last part of a path, which must not be empty.
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  if (auto opened = open(warnings); !opened) {
    why_ = opened.error();
    directory_.reset();
    warnings.push_back(concat(why_, "; what changes at run time will not outlive the server"));
  }
}

Status StateStore::open(std::vector<std::string>& warnings) {
  const bool made = mkdir(path_.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) return errno_error(errno, path_, ": cannot be made");
  directory_.reset(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!directory_ || fstat(directory_.get(), &status) != 0) {
    return errno_error(errno, path_, ": is not a directory that can be opened");
  }
  if (flock(directory_.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno_error(errno, path_, ": another server uses it");
  }
  if (status.st_uid != geteuid()) {
    if (fchown(directory_.get(), geteuid(), getegid()) != 0) {
      return errno_error(errno, path_, ": cannot be taken over from user ", status.st_uid);
    }
    warnings.push_back(concat(path_, ": taken over from user ", status.st_uid));
  }
  if ((status.st_mode & 07777) != 0700 && fchmod(directory_.get(), 0700) != 0) {
    warnings.push_back(errno_error(errno, path_, ": its mode is not 0700").text);
  }
  if (made) {
    const UniqueFd parent(openat(directory_.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent || fsync(parent.get()) != 0) {
      warnings.push_back(errno_error(errno, path_, ": is not safely on disk").text);
    }
  }
  return Ok{};
}

std::map<std::string, Saved> StateStore::load(std::vector<std::string>& warnings) const {
  std::map<std::string, Saved> clients;
  if (!directory_) return clients;
  const int list_fd = openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> list(list_fd < 0 ? nullptr : fdopendir(list_fd),
                                                 &closedir);
  if (!list) {
    warnings.push_back(file_error(errno, "").text);
    return clients;
  }
  std::vector<std::string> files;
  while (const dirent* entry = readdir(list.get())) files.emplace_back(entry->d_name);
  for (const auto& file : files) {
    if (file == "." || file == ".." || file.ends_with(kDamaged)) continue;
    if (file.ends_with(concat(kSuffix, kNew))) {
      if (unlinkat(directory_.get(), file.c_str(), 0) != 0) {
        warnings.push_back(file_error(errno, file).text);
      }
    } else if (file == "clients.pickle") {
      warnings.push_back(concat(path_, "/", file, ": the Python server's saved state is not read"));
    } else if (!file.ends_with(kSuffix)) {
      warnings.push_back(concat(path_, "/", escaped(file), ": nothing of ours, left alone"));
    } else if (auto saved = read(file)) {
      std::string name = saved->client.name();
      clients.emplace(std::move(name), std::move(*saved));
    } else {
      const std::string aside = concat(file, kDamaged);
      const bool moved =
          renameat(directory_.get(), file.c_str(), directory_.get(), aside.c_str()) == 0;
      warnings.push_back(concat(
          path_, "/", escaped(file), ": ", saved.error(),
          ": what was changed of this client at run time is lost; the file is ",
          moved ? concat("kept as ", escaped(aside)) : concat("left: ", std::strerror(errno))));
    }
  }
  return clients;
}

Result<Saved> StateStore::read(const std::string& file) const {
  // A pipe would block without O_NONBLOCK.
  const UniqueFd fd(openat(directory_.get(), file.c_str(),
                           O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd && errno == ELOOP) return Error{"a symbolic link, which is not followed"};
  if (!fd) return errno_error(errno, "cannot be opened");
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return errno_error(errno, "fstat");
  if (!S_ISREG(status.st_mode)) return Error{"not a file"};
  if (status.st_uid != geteuid()) return Error{concat("belongs to user ", status.st_uid)};
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size < kHead || size > kLargest) return Error{concat("has ", size, " bytes")};
  try {
    SecretString bytes(size, '\0', &secret_memory());
    for (std::size_t at = 0; at < size;) {
      const ssize_t part = ::read(fd.get(), bytes.data() + at, size - at);
      if (part < 0 && errno == EINTR) continue;
      if (part < 0) return errno_error(errno, "cannot be read");
      if (part == 0) return Error{"became shorter"};
      at += static_cast<std::size_t>(part);
    }
    const auto all = as_bytes(bytes);
    const auto checked = all.subspan(SHA256_DIGEST_SIZE);
    if (!std::ranges::equal(sha256({checked}), all.first(SHA256_DIGEST_SIZE))) {
      return Error{"damaged (checksum)"};
    }
    std::uint32_t length = 0;
    std::memcpy(&length, checked.data(), sizeof length);
    const auto content = all.subspan(kHead);
    Saved saved;
    if (length > content.size() ||
        !saved.client.ParseFromArray(content.data(), static_cast<int>(length))) {
      return Error{"damaged (format)"};
    }
    if (saved.client.version() != 1) {
      return Error{concat("of version ", saved.client.version(), ", which is not known")};
    }
    if (state_file_name(saved.client.name()) != file) return Error{"another client's file"};
    if (saved.client.own_secret()) {
      saved.secret = std::make_shared<const Secret>(content.subspan(length));
    }
    return saved;
  } catch (const std::bad_alloc&) {
    return Error{kNoSecretMemory};
  }
}

Result<UniqueFd> StateStore::write(const Saved& saved) const {
  if (!directory_) return Error{why_};
  const std::string file = state_file_name(saved.client.name()) + std::string(kNew);
  std::string message = saved.client.SerializeAsString();
  const auto secret = saved.secret ? saved.secret->bytes() : std::span<const unsigned char>();
  const auto length = static_cast<std::uint32_t>(message.size());
  std::string head(SHA256_DIGEST_SIZE, '\0');
  head.append(reinterpret_cast<const char*>(&length), sizeof length);
  const auto digest =
      sha256({as_bytes(head).subspan(SHA256_DIGEST_SIZE), as_bytes(message), secret});
  std::ranges::copy(digest, head.begin());
  std::array<iovec, 3> parts{iovec{head.data(), head.size()}, iovec{message.data(), message.size()},
                             iovec{const_cast<unsigned char*>(secret.data()), secret.size()}};
  const std::size_t size = head.size() + message.size() + secret.size();
  if (size > kLargest) return Error{concat(path_, "/", file, ": too large")};
  // What lies there now may have been made by a stranger, or be a link to something.
  unlinkat(directory_.get(), file.c_str(), 0);
  UniqueFd fd(openat(directory_.get(), file.c_str(),
                     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return file_error(errno, file);
  const ssize_t written = writev(fd.get(), parts.data(), static_cast<int>(parts.size()));
  if (written == static_cast<ssize_t>(size)) return fd;
  auto why = file_error(written < 0 ? errno : ENOSPC, file);
  unlinkat(directory_.get(), file.c_str(), 0);
  return why;
}

Status StateStore::put(std::string_view client) const {
  const std::string file = state_file_name(client);
  const std::string temporary = concat(file, kNew);
  if (renameat(directory_.get(), temporary.c_str(), directory_.get(), file.c_str()) == 0) {
    return Ok{};
  }
  auto why = file_error(errno, file);
  unlinkat(directory_.get(), temporary.c_str(), 0);
  return why;
}

void StateStore::discard(std::string_view client) const {
  unlinkat(directory_.get(), concat(state_file_name(client), kNew).c_str(), 0);
}

Status StateStore::remove(std::string_view client) const {
  if (!directory_) return Error{why_};
  const std::string file = state_file_name(client);
  if (unlinkat(directory_.get(), file.c_str(), 0) == 0 || errno == ENOENT) return Ok{};
  return file_error(errno, file);
}

}  // namespace mandos::monitor
