// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace mandos::ctl {

/// The server's counters: its interface se.recompile.Mandos.Statistics, see mandos(8). It counts
/// from `start` on, in milliseconds since 1970; `restarts` count from the server's start on.
struct Statistics {
  std::int64_t start = 0;
  std::uint64_t grants = 0;
  std::map<std::string, std::uint64_t> refusals{};  // by reason
  std::uint64_t checks_passed = 0;
  std::uint64_t checks_failed = 0;
  std::uint64_t unknown_keys = 0;
  std::map<std::string, std::uint64_t> restarts{};  // by process
  std::string service{};                            // the announced name; empty: none
};

}  // namespace mandos::ctl
