// SPDX-License-Identifier: GPL-3.0-or-later
// Fork, drop, execute: how every other process of the server begins.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace mandos::supervisor {

/// A program of ours and what it may keep.
struct Program {
  const char* file;  // in MANDOS_LIBEXEC_DIR
  std::string name;  // argv[0], as ps(1) shows it
  uid_t uid = 0;
  gid_t gid = 0;
  /// What is left of our capabilities until its own jail takes the rest. Null: all of them.
  const std::vector<unsigned>* capabilities = nullptr;
  /// The environment variables that it gets, by name, or as literals NAME=VALUE that are set.
  /// Empty: all of them.
  std::span<const std::string_view> environment = {};
  /// Sent to it when we die (PR_SET_PDEATHSIG, prctl(2)).
  int parent_death_signal;
};

/// The monitor's program, as root with all that we have.
Program monitor_program(std::string name);

struct Descriptors {
  int door;
  int log = -1;          // -1: the program has none, and its door is descriptor 0
  int input = -1;        // standard input beside a log socket; -1: /dev/null
  int output = -1;       // standard output and error instead of ours
  bool quiet = true;     // standard output and error are /dev/null
  bool inherit = false;  // everything above 2 that is not close-on-exec stays open
};

/// Starts `program` with `arguments` behind its name, an empty signal mask and default handlers.
/// The door and a log socket go where common/child.h says. A program that cannot be dropped or
/// executed ends with status 127 and says why on `output`, or on our standard error.
Result<pid_t> spawn(const Program& program, const std::vector<std::string>& arguments,
                    const Descriptors& descriptors);

}  // namespace mandos::supervisor
