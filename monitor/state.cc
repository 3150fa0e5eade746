// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <utility>

#include "monitor/accounts.h"
#include "monitor/key_id.h"

namespace mandos::monitor {
namespace {

constexpr std::string_view kSuffix = ".client";
constexpr std::string_view kNew = ".new";
constexpr std::string_view kDamaged = ".damaged";
constexpr std::string_view kUnrestored = ".unrestored";
// A file beside the Python server's state, once a start has been told to go on without it. Its name
// is no client's, and it goes with all *.client that an administrator deletes.
constexpr const char* kGoOn = "%python-state-is-known.client";
constexpr const char* kPickle = "clients.pickle";
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
  constexpr std::size_t kLongest = 200;  // of the 255 that a file system allows
  std::string name;
  for (const char c : client) {
    const auto byte = static_cast<unsigned char>(c);
    if (kPlain.find(c) != std::string_view::npos) {
      name += c;
    } else {
      name += {'%', kUpperHex[byte >> 4], kUpperHex[byte & 15]};
    }
  }
  if (name.size() > kLongest) {
    name = concat(name.substr(0, kLongest / 2), "%%", KeyId{sha256({as_bytes(client)})}.text());
  }
  return name + std::string(kSuffix);
}

std::string directory_at(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 ? concat(status.st_dev, ":", status.st_ino) : "";
}

Error StateStore::file_error(int errno_value, std::string_view file) const {
  return errno_error(errno_value, path_, "/", escaped(file));
}

Result<StateStore> StateStore::open(std::string path, bool read, std::vector<std::string>& warnings,
                                    bool* in_use, bool look) {
  // O_NOFOLLOW looks at the last part of a path, which must not be empty.
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  StateStore store("");
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), store.boot_id_);
  const bool made = !look && mkdir(path.c_str(), 0700) == 0;
  const auto parent = path.substr(0, path.rfind('/') + 1);
  const bool absent =
      look && faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
  if (absent ? access(parent.empty() ? "." : parent.c_str(), W_OK) != 0
             : !look && !made && errno != EEXIST) {
    return Error{concat(errno_error(errno, path, ": does not exist and cannot be made").text,
                        "; make it, or name another one with --statedir")};
  }
  store.path_ = path;
  store.looks_ = look;
  if (absent) return store;
  store.directory_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const int why = errno;
  struct stat status {};
  if (!store.directory_) {
    if (lstat(path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
      return Error{concat(path, ": found ", S_ISLNK(status.st_mode) ? "a symbolic link" : "a file",
                          ", expected a directory; name the directory itself with --statedir")};
    }
    return errno_error(why, path, ": of user ", user_name(status.st_uid), ", cannot be opened");
  }
  if (flock(store.directory_.get(), (look ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error(errno, path, ": cannot be locked");
    if (in_use != nullptr) *in_use = true;
    if (!look)
      return Error{concat(path, ": another server uses it; stop that one, or give this one a ",
                          "directory of its own with --statedir")};
  }
  if (look) flock(store.directory_.get(), LOCK_UN);
  if (look && access(path.c_str(), W_OK) != 0) {
    warnings.push_back(errno_error(errno, path, ": nothing could be saved there").text);
  }
  if (fstat(store.directory_.get(), &status) != 0) return errno_error(errno, path, ": fstat");
  std::vector<std::string> others;
  const auto ours = store.list(&others);
  if (!ours) return Error{ours.error()};
  const bool has_pickle = std::ranges::count(others, kPickle) > 0;
  if (read && ours->empty() && has_pickle) {
    return Error{concat(path, ": holds the state of the Python server (", kPickle, ") and none of ",
                        "this one: clients that were disabled at run time would be enabled; carry ",
                        "it over with mandos-import-state, or delete it, see mandos(8)")};
  }
  // Twice: until it is ours alone, files could be planted in it.
  for (bool taken = false; status.st_uid != geteuid() || (status.st_mode & 022) != 0;
       taken = true) {
    const auto files = store.list();
    if (!files || (read && !files->empty())) {
      // The next start must not take it for ours.
      static_cast<void>(taken && fchmod(store.directory_.get(), status.st_mode & 07777) == 0 &&
                        fchown(store.directory_.get(), status.st_uid, status.st_gid) == 0);
      if (!files) return Error{files.error()};
      return Error{concat(path, "/", escaped(files->front()), ": found in a directory of user ",
                          user_name(status.st_uid),
                          (status.st_mode & 022) != 0 ? " that others may write" : "",
                          ", so it may be planted; remove it, or chown it and the directory to ",
                          "root, mode 0700, if nobody else could write there")};
    }
    if (look) break;
    if (taken) {
      warnings.push_back(concat(path, ": taken over from user ", user_name(status.st_uid)));
      break;
    }
    if (fchown(store.directory_.get(), geteuid(), getegid()) != 0 ||
        fchmod(store.directory_.get(), 0700) != 0) {
      return Error{concat(errno_error(errno, path, ": belongs to user ", user_name(status.st_uid),
                                      ", and cannot be taken over")
                              .text,
                          "; chown it to root, but not the files in it")};
    }
  }
  if (!look && (status.st_mode & 07777) != 0700 && fchmod(store.directory_.get(), 0700) != 0) {
    warnings.push_back(errno_error(errno, path, ": its mode is not 0700").text);
  }
  if (has_pickle && read && std::ranges::count(*ours, kGoOn) == 0) {
    warnings.push_back(concat(path, "/", kPickle, ": the Python server's saved state is not read"));
  }
  if (has_pickle && !look) {
    const UniqueFd mark(
        openat(store.directory_.get(), kGoOn, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (mark ? fsync(store.directory_.get()) != 0 : errno != EEXIST) {
      warnings.push_back(store.file_error(errno, kGoOn).text);
    }
  }
  if (made) {
    const UniqueFd above(openat(store.directory_.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!above || fsync(above.get()) != 0) {
      warnings.push_back(errno_error(errno, path, ": is not safely on disk").text);
    }
  }
  return store;
}

// Clients' files, half written and damaged ones too; what else is there goes to `others`.
Result<std::vector<std::string>> StateStore::list(std::vector<std::string>* others) const {
  const int list_fd = openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> list(list_fd < 0 ? nullptr : fdopendir(list_fd),
                                                 &closedir);
  if (!list) return errno_error(errno, path_, ": cannot be listed");
  std::vector<std::string> files;
  errno = 0;
  while (const dirent* entry = readdir(list.get())) {
    const std::string_view name(entry->d_name);
    if (name.ends_with(kSuffix) || name.ends_with(concat(kSuffix, kNew)) ||
        name.ends_with(concat(kSuffix, kDamaged))) {
      files.emplace_back(name);
    } else if (others != nullptr && name != "." && name != ".." && !name.ends_with(kUnrestored)) {
      others->emplace_back(name);
    }
  }
  if (errno != 0) return errno_error(errno, path_, ": cannot be listed");
  return files;
}

Result<StateStore::Loaded> StateStore::load(std::vector<std::string>& warnings) const {
  std::vector<std::string> others;
  const auto files = directory_ ? list(&others) : Result(std::vector<std::string>());
  if (!files) return Error{files.error()};
  for (const auto& file : others) {
    if (file != kPickle) {  // of which open() warns
      warnings.push_back(concat(path_, "/", escaped(file), ": nothing of ours, left alone"));
    }
  }
  Loaded loaded;
  std::vector<std::string> problems;
  for (const auto& file : *files) {
    if (file == kGoOn) continue;
    if (file.ends_with(kNew)) {
      if (!looks_ && unlinkat(directory_.get(), file.c_str(), 0) != 0) {
        warnings.push_back(file_error(errno, file).text);
      }
      continue;
    }
    if (file.ends_with(kDamaged)) {
      // Its client may not have been saved since.
      loaded.damaged.insert(file.substr(0, file.size() - kDamaged.size()));
      continue;
    }
    auto saved = read(file);
    if (looks_ && faccessat(directory_.get(), file.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
      continue;  // its client was removed meanwhile
    }
    if (!saved) {
      problems.push_back(concat(path_, "/", escaped(file), ": ", saved.error()));
    } else if (*saved) {
      loaded.clients.emplace((*saved)->client.name(), std::move(**saved));
    } else {
      loaded.damaged.insert(file);
      const std::string aside = concat(file, kDamaged);
      warnings.push_back(
          concat(path_, "/", escaped(file), ": damaged; the file is ",
                 looks_ ? "to be kept"
                 : renameat(directory_.get(), file.c_str(), directory_.get(), aside.c_str()) == 0
                     ? concat("kept as ", escaped(aside))
                     : concat("left: ", std::strerror(errno))));
    }
  }
  for (const auto& [name, saved] : loaded.clients) {
    // Saved since: if that file is deleted, its client is a new one, as any other.
    const std::string file = state_file_name(name) + std::string(kDamaged);
    if (loaded.damaged.erase(state_file_name(name)) == 0) continue;
    if (looks_) continue;
    renameat(directory_.get(), file.c_str(), directory_.get(), concat(file, kUnrestored).c_str());
  }
  if (problems.empty()) return loaded;
  return Error{problems.size() == 1
                   ? problems.front()
                   : concat(problems.front(), " (and ", problems.size() - 1, " more like it)")};
}

Status StateStore::look() const {
  if (!directory_) return Ok{};
  struct stat held {};
  struct stat found {};
  if (fstat(directory_.get(), &held) != 0 || lstat(path_.c_str(), &found) != 0 ||
      held.st_dev != found.st_dev || held.st_ino != found.st_ino || found.st_uid != geteuid() ||
      (found.st_mode & 022) != 0) {
    return Error{concat(path_, ": is not the directory of this server any more, or not its alone")};
  }
  const auto files = list();
  if (!files) return Error{files.error()};
  for (const auto& file : *files) {
    if (file == kGoOn || !file.ends_with(kSuffix)) continue;
    const auto saved = read(file);
    if (!saved) return Error{concat(path_, "/", escaped(file), ": ", saved.error())};
  }
  return Ok{};
}

Status StateStore::set_all_aside(std::vector<std::string>& warnings) const {
  auto files = list();
  if (!files) return Error{files.error()};
  std::erase(*files, kGoOn);
  for (const auto& file : *files) {
    const std::string aside = concat(file, kUnrestored);
    if (renameat(directory_.get(), file.c_str(), directory_.get(), aside.c_str()) != 0) {
      return file_error(errno, file);
    }
  }
  if (files->empty()) return Ok{};
  // Or a crash could bring them back, beside what is saved from now on.
  if (fsync(directory_.get()) != 0) return file_error(errno, "");
  warnings.push_back(concat(
      path_, ": not restored, so clients that were disabled are enabled again: ", files->size(),
      " files are kept there, their names with ", kUnrestored,
      " added, until the next start without restoring"));
  return Ok{};
}

Result<std::optional<Saved>> StateStore::read(const std::string& file) const {
  // A pipe would block without O_NONBLOCK.
  const UniqueFd fd(openat(directory_.get(), file.c_str(),
                           O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd && errno == ELOOP) return Error{"found a symbolic link, expected a file"};
  if (!fd) return errno_error(errno, "cannot be opened");
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return errno_error(errno, "fstat");
  if (!S_ISREG(status.st_mode)) return Error{"found something that is not a file"};
  if (status.st_uid != geteuid()) {
    return Error{
        concat("belongs to user ", user_name(status.st_uid), ", expected ", user_name(geteuid()))};
  }
  if ((status.st_mode & 022) != 0) return Error{"others than its owner may write it"};
  if (std::cmp_greater(status.st_size, kLargest)) {
    return Error{concat("has ", status.st_size, " bytes, expected at most ", kLargest)};
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size < SHA256_DIGEST_SIZE) return std::optional<Saved>();
  try {
    SecretString bytes(size, '\0', &secret_memory());
    for (std::size_t at = 0; at < size;) {
      const ssize_t part = ::read(fd.get(), bytes.data() + at, size - at);
      if (part < 0 && errno == EINTR) continue;
      if (part < 0) return errno_error(errno, "cannot be read");
      if (part == 0) return Error{"became shorter while it was read"};
      at += static_cast<std::size_t>(part);
    }
    const auto all = as_bytes(bytes);
    const auto checked = all.subspan(SHA256_DIGEST_SIZE);
    if (!std::ranges::equal(sha256({checked}), all.first(SHA256_DIGEST_SIZE))) {
      return std::optional<Saved>();
    }
    std::uint32_t length = 0;
    if (size >= kHead) std::memcpy(&length, checked.data(), sizeof length);
    const auto content = all.subspan(std::min(size, kHead));
    Saved saved;
    // Nothing was damaged: another version of the server, or another machine, wrote it so.
    if (size < kHead || length > content.size() ||
        !saved.client.ParseFromArray(content.data(), static_cast<int>(length))) {
      return Error{"written by another version; the server that wrote it can read it"};
    }
    if (saved.client.version() != 1) {
      return Error{concat("of version ", saved.client.version(),
                          ", expected 1; the server that wrote it can read it")};
    }
    if (state_file_name(saved.client.name()) != file) {
      return Error{concat("holds the state of client \"", escaped(saved.client.name()),
                          "\", whose file is ", escaped(state_file_name(saved.client.name())))};
    }
    if (boot_id_.empty() || saved.client.boot_id() != boot_id_) {
      saved.client.clear_saved_since_boot();
    }
    saved.client.clear_boot_id();
    if (saved.client.own_secret()) {
      saved.secret = std::make_shared<const Secret>(content.subspan(length));
    }
    return std::optional<Saved>(std::move(saved));
  } catch (const std::bad_alloc&) {
    return Error{kNoSecretMemory};
  }
}

Result<UniqueFd> StateStore::write(const Saved& saved) const {
  if (!directory_) return Error{why_};
  const std::string file = state_file_name(saved.client.name()) + std::string(kNew);
  state::SavedClient client = saved.client;
  client.set_boot_id(boot_id_);
  std::string message = client.SerializeAsString();
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
