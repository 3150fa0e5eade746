// SPDX-License-Identifier: GPL-3.0-or-later
// Which peers may be connected: the limits that keep a flood of strangers from locking clients out.
// Pure: has no sockets and no clock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/token_bucket.h"
#include "networker/source.h"
#include "proto/networker.h"

namespace mandos::networker {

/// A connection is a stranger until its TLS handshake is complete; then it is established.
class Admission {
 public:
  struct Bounds {
    /// Most strangers. So many times as many may be established; they are counted separately.
    std::size_t connections;
    /// The same limits per source.
    std::size_t per_source;
    /// How long to wait for a stranger's next step.
    Milliseconds grace;
  };
  /// No stranger has to make room for another before it has been waited for this long (or for the
  /// grace time, if that is shorter). If thousands of clients come at once, those in the middle of
  /// their handshake are the oldest, and closing them would serve nobody.
  static constexpr Milliseconds kFairChance{1000};
  /// The same while all slots are taken and no source has a crowd: then many sources come once
  /// each. A client that overflowed the kernel's queue retransmits after up to 3.2 seconds, the
  /// fourth doubling of TCP's shortest retransmission timeout.
  static constexpr Milliseconds kChanceInRush{4000};
  /// A source with this many strangers is a crowd. If room is needed, the oldest stranger of the
  /// largest crowd goes, however recent, for one of a source that has fewer.
  static constexpr std::size_t kCrowd = 8;
  /// How many may enter per second, and at once. The monitor accepts twice as many Opens and ends a
  /// networker that sends more, which peers that only come and go could cause on a fast machine.
  /// Refused peers do not count, or a refused source could delay others.
  static constexpr double kMostPerSecond = door::networker::kMostOpensPerSecond / 2.0;

  struct Stranger {
    std::uint32_t connection;
    Source source;
    /// Since when we wait for it; Instant::max() while it waits for us, because clients must not be
    /// dropped when it is our machine that is slow.
    Instant since;
  };
  /// A stranger's slot; valid until establish() or leave().
  using Ticket = std::list<Stranger>::iterator;

  explicit Admission(const Bounds& bounds) : bounds_(bounds) {}

  bool full() const { return strangers_.size() >= bounds_.connections; }
  /// Whether we wait for any stranger.
  bool waiting() const { return !waited_for_.empty(); }
  bool crowded() const { return !crowds_.empty() && crowds_.rbegin()->first >= kCrowd; }
  /// The stranger waited for the longest, which goes if room is needed. Only if waiting().
  const Stranger& oldest() const { return *waited_for_.begin()->second; }
  /// When that one has had its fair chance. Only if waiting().
  Instant oldest_may_go() const {
    return oldest().since + std::min(crowded() ? kFairChance : kChanceInRush, bounds_.grace);
  }
  /// When that one's grace time is over. Only if waiting().
  Instant oldest_overdue() const { return oldest().since + bounds_.grace; }

  /// Whether one more may enter now, from whatever source.
  bool has_turn(Instant now) const { return TokenBucket(pace_).take(now); }
  struct Answer {
    bool welcome;
    /// This one has to leave first.
    std::optional<std::uint32_t> instead_of = std::nullopt;
    /// Not welcome because its source has reached the limit for one source.
    bool source_full = false;
  };
  /// Whether a newcomer from `source` may enter. It may not if strangers that have not had
  /// their fair chance fill the source's limit. If no slot is free, a larger crowd makes
  /// room. A newcomer of the largest crowd itself replaces the oldest of its own source,
  /// and if there is no crowd, the oldest of all is replaced; both only after their fair
  /// chance.
  Answer ask(const Source& source, Instant now) const;
  /// Admits a newcomer that is welcome; it counts against the rate.
  Ticket enter(std::uint32_t connection, const Source& source, Instant now);
  /// The stranger becomes established. Returns false and changes nothing if there are too many
  /// established ones, in total or from its source.
  bool establish(Ticket ticket);
  void leave(Ticket ticket);
  /// From now on, it waits for us.
  void pause(Ticket ticket);
  /// We have answered it: from now on, we wait for it. A handshake has one or two such answers.
  void answered(Ticket ticket, Instant now);
  void leave_established(const Source& source);
  /// This process did not run for a while, so it could read nothing: every stranger's wait starts
  /// again.
  void missed(Instant now);

 private:
  Milliseconds fair_chance() const { return std::min(kFairChance, bounds_.grace); }
  Answer instead_of_own(const std::vector<Ticket>& places, Instant now) const;
  /// A source that had `before` strangers now has `after`.
  void count(const Source& source, std::size_t before, std::size_t after);

  Bounds bounds_;
  TokenBucket pace_{kMostPerSecond, kMostPerSecond};
  std::list<Stranger> strangers_;
  std::map<std::pair<Instant, std::uint32_t>, Stranger*> waited_for_;
  // Ordered maps, because an attacker chooses the keys.
  std::map<Source, std::vector<Ticket>> by_source_;
  std::set<std::pair<std::size_t, Source>> crowds_;  // number of strangers of each source
  std::size_t established_ = 0;
  std::map<Source, std::size_t> established_by_source_;
};

}  // namespace mandos::networker
