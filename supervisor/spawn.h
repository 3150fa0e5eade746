// SPDX-License-Identifier: GPL-3.0-or-later
// Fork, drop privileges, execute: how every other process of the server starts.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace mandos::supervisor {

/// One of our programs and what it may keep.
struct Program {
  const char* file;  // in MANDOS_LIBEXEC_DIR
  std::string name;  // argv[0], as ps(1) shows it
  uid_t uid = 0;
  gid_t gid = 0;
  /// Our capabilities that are left until its own jail drops the rest. Null: all of them.
  const std::vector<unsigned>* capabilities = nullptr;
  /// Its environment: names of variables to pass on, or literals NAME=VALUE to set. Empty: pass on
  /// everything.
  std::span<const std::string_view> environment = {};
  /// Sent to it when we die (PR_SET_PDEATHSIG, prctl(2)).
  int parent_death_signal;
};

/// The monitor's program, as root with all our privileges.
Program monitor_program(std::string name);

struct Descriptors {
  int door;
  int log = -1;          // -1: the program has none, and its door is descriptor 0
  int input = -1;        // standard input next to a log socket; -1: /dev/null
  int output = -1;       // standard output and error instead of ours
  bool quiet = true;     // standard output and error are /dev/null
  bool inherit = false;  // everything above 2 that is not close-on-exec stays open
};

/// Starts `program` with `arguments` after its name, an empty signal mask and default handlers. See
/// common/child.h for the door and the log socket. If the child cannot drop privileges or execute
/// the program, it prints the reason to `output` or our standard error and exits with 127.
Result<pid_t> spawn(const Program& program, const std::vector<std::string>& arguments,
                    const Descriptors& descriptors);

}  // namespace mandos::supervisor
