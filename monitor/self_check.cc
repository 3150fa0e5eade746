// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/self_check.h"

#include <nettle/eddsa.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "common/inspection.h"
#include "monitor/clients_conf.h"
#include "monitor/state.h"

namespace mandos::monitor {
namespace {

class Report {
 public:
  void say(bool good, const std::string& what) {
    std::printf("%s%s\n", good ? inspection::kGood : inspection::kBad, what.c_str());
    failures_ += good ? 0 : 1;
  }
  void problems(const std::string& what, const std::vector<std::string>& problems,
                const std::vector<std::string>& warnings) {
    for (const auto& warning : warnings) std::printf("warning: %s\n", warning.c_str());
    for (const auto& problem : problems) say(false, problem);
    if (problems.empty()) say(true, what);
  }
  int failures() const { return failures_; }

 private:
  int failures_ = 0;
};

/// RFC 8032 section 7.1, test 2: one octet is signed.
bool ed25519_works() {
  const auto key = KeyId::parse("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  const auto one = KeyId::parse("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da");
  const auto two = KeyId::parse("085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
  std::array<std::uint8_t, ED25519_SIGNATURE_SIZE> signature{};
  std::ranges::copy(one->bytes, signature.begin());
  std::ranges::copy(two->bytes, signature.begin() + 32);
  const std::uint8_t message = 0x72;
  const bool good = ed25519_sha512_verify(key->bytes.data(), 1, &message, signature.data()) == 1;
  signature.back() ^= 1;
  return good && ed25519_sha512_verify(key->bytes.data(), 1, &message, signature.data()) == 0;
}

bool program_is_ours(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
         (status.st_mode & 022) == 0 && (status.st_mode & 0111) != 0;
}

/// The networker says on standard output what is wrong with it. No value: it may not be run by us
/// (SELinux).
std::optional<bool> priority_is_usable(const std::string& priority) {
  std::string program = MANDOS_LIBEXEC_DIR "/mandos-networker";
  std::string option = "--judge-priority";
  std::string value = priority;
  std::array<char*, 4> arguments{program.data(), option.data(), value.data(), nullptr};
  pid_t pid = -1;
  int status = -1;
  const int failed =
      posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments.data(), environ);
  if (failed == EACCES || failed == EPERM) return std::nullopt;
  return failed == 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

}  // namespace

int self_check(const LoadedSettings& loaded) {
  Report report;
  report.say(KeyId{sha256({})} == kKeyIdOfNothing, "SHA-256 of nothing");
  report.say(ed25519_works(), "Ed25519 verifies a good signature and refuses a bad one");
  try {
    const Secret secret(as_bytes("a secret"));
    report.say(secret.bytes().size() == 8, concat("secret memory: ", secret_memory_kind()));
  } catch (const std::bad_alloc&) {
    report.say(false, "secret memory: no page can be locked (RLIMIT_MEMLOCK)");
  }
  for (const char* name : {"monitor", "networker", "checker-runner"}) {
    const std::string path = concat(MANDOS_LIBEXEC_DIR "/mandos-", name);
    report.say(program_is_ours(path), concat(path, ": a program that only root may write"));
  }
  for (const char* name : {MANDOS_NETWORKER_USER, MANDOS_CHECKER_USER, MANDOS_BUS_USER}) {
    report.say(getpwnam(name) != nullptr, concat("account ", name));
  }
  report.problems(concat(loaded.settings.configdir, "/mandos.conf"), loaded.problems,
                  loaded.warnings);
  std::fflush(stdout);
  if (const auto usable = priority_is_usable(loaded.settings.priority); usable) {
    report.say(*usable, concat("priority \"", escaped(loaded.settings.priority), "\""));
  }
  const auto clients = load_clients(loaded.settings.configdir);
  report.problems(concat(clients.clients.size(), " clients in ", loaded.settings.configdir),
                  clients.problems, clients.warnings);
  return report.failures();
}

}  // namespace mandos::monitor
