// SPDX-License-Identifier: GPL-3.0-or-later
// Whom a networker refuses, and that the log says so.
#pragma once

#include <sys/socket.h>

#include <string_view>

#include "common/event_loop.h"
#include "common/log.h"
#include "common/token_bucket.h"
#include "networker/complaint.h"
#include "networker/crash_note.h"
#include "networker/exemptions.h"
#include "networker/penalties.h"
#include "networker/source.h"

namespace mandos::networker {

/// Applies the penalties to sources that are not exempt. What the networkers before this one left
/// in the crash note counts from the start.
class SourcePolicy {
 public:
  /// References must outlive this.
  SourcePolicy(EventLoop& loop, Log& log, CrashNote& crash_note, const Penalties::Bounds& bounds,
               Exemptions exempt);

  /// Whether the peer at `address` is exempt from penalties.
  bool exempts(const sockaddr_storage& address) const { return exempt_.cover(address); }
  /// Whether the peer at `address`, which is not exempt, may connect now.
  bool admits(const sockaddr_storage& address, const Source& source);
  /// A peer of `source` that is not exempt committed `offense`.
  void punish(const Source& source, Offense offense, std::string_view why);
  /// A client from `source` proved its key.
  void proved(const Source& source);

 private:
  Log& log_;
  CrashNote& crash_note_;
  Penalties penalties_;
  const Exemptions exempt_;
  TokenBucket lines_;  // about sources that are refused from now on
  Complaint refused_;
  Complaint unlogged_;
};

}  // namespace mandos::networker
