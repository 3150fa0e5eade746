// SPDX-License-Identifier: GPL-3.0-or-later
// The layers that confine a process, and the one function that puts them on in the right order.
// Each process has its own table of them in its folder (FOLDER/jail.cc).
#pragma once

#include <cap-ng.h>
#include <seccomp.h>
#include <sys/resource.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"

namespace mandos::jail {

inline constexpr auto kCapabilitySets = static_cast<capng_type_t>(
    CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE | CAPNG_BOUNDING_SET | CAPNG_AMBIENT);

/// One thing that a process does, and all the system calls that do it. Which of them is used
/// depends on the architecture and the C library: 32-bit machines have mmap2 for mmap, 64-bit
/// times have calls of their own, and newer C libraries use statx.
struct Operation {
  struct Call {
    int number;              // SCMP_SYS(name)
    unsigned arguments = 6;  // it has so many; a rule's comparisons of others are left out
  };
  int named;  // how the tables name it: its best-known call
  std::vector<Call> calls;
  bool comparable = true;  // false: the calls have their arguments in different places
};
/// All operations that have more than the call they are named by.
const std::vector<Operation>& operations();

/// An operation, optionally only with certain arguments. All comparisons of one rule must hold.
struct SyscallRule {
  int number;  // SCMP_SYS(name) of a system call, or what an operation is named by
  std::vector<scmp_arg_cmp> arguments = {};
  int error = 0;  // that a refused call gets, instead of the filter's usual one
};

/// seccomp(2) filter. With `allow_list`, any call that is not listed kills the process. Without it,
/// any call that is not listed is allowed, and those in `refused` fail with EPERM.
struct Filter {
  bool allow_list = true;
  std::vector<SyscallRule> allowed = {};
  /// Fail with an error instead of killing, so that libraries fall back: EACCES in an allow-list.
  std::vector<SyscallRule> refused = {};
};

/// landlock(7) rules. In the whole file system, everything that is not listed is forbidden.
struct Landlock {
  std::vector<std::string> readable = {};
  std::vector<std::string> writable = {};    // files made, written, renamed and removed; read too
  std::vector<std::string> executable = {};  // read too
  std::vector<std::string> unrestricted = {};
  bool forbid_reading = true;  // false: only writing is confined
  bool forbid_tcp = true;      // bind and connect
};

/// Comparisons. The kernel looks only at the lower half of an int argument, and so do these.
scmp_arg_cmp is(unsigned argument, unsigned value);
/// The argument has all bits of `required`, and none outside `allowed`.
scmp_arg_cmp has_only(unsigned argument, unsigned allowed, unsigned required = 0);

/// Where clone(2) has its flags.
#ifdef __s390__
constexpr unsigned kCloneFlags = 1;
#else
constexpr unsigned kCloneFlags = 0;
#endif

/// What allocators need, including hardened ones: to reserve private anonymous memory without
/// access, to make it accessible, and to give it back. It is never executable.
std::vector<SyscallRule> memory_calls();

/// Calls that neither a checker command nor the supervisor needs: debugging other processes,
/// mounting, kernel modules, key rings, namespaces and the like.
std::vector<SyscallRule> dangerous_calls();

struct Jail {
  /// The process must not run as user or group 0 nor with supplementary groups.
  bool unprivileged = true;
  /// New root directory, or null.
  const char* root = nullptr;
  /// The capabilities that stay (bounding set, permitted, effective, inheritable, ambient).
  std::vector<unsigned> capabilities = {};
  /// setrlimit(2): hard and soft. RLIMIT_CORE 0 is always set.
  std::vector<std::pair<__rlimit_resource_t, rlim_t>> limits = {};
  std::optional<Landlock> landlock = std::nullopt;
  Filter filter = {};
};

/// Whether the bounding set has the capability. If not, neither we nor our children can get it.
bool within_bounds(unsigned capability);
/// Whether root's right to read and write what belongs to others counts, where this process has it.
/// Throws std::system_error where the kernel does not let it say so.
void override_permissions(bool allowed);

/// Puts every layer on and verifies each: root directory, capabilities, no_new_privs, undumpable,
/// limits, Landlock, seccomp last. The caller takes care of descriptors. Returns one line for the
/// log that names the layers, with the reason for each that the kernel does not have (only Landlock
/// may be missing). After an Error, a mandatory layer has failed, and the process must exit.
Result<std::string> enter(const Jail& jail);

}  // namespace mandos::jail
