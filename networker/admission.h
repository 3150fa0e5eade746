// SPDX-License-Identifier: GPL-3.0-or-later
// Who may be connected: the bounds that keep a flood of strangers from locking clients out. Pure:
// knows neither sockets nor a clock.
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

/// A connection is a stranger until its TLS handshake is complete, and established from then on.
class Admission {
 public:
  struct Bounds {
    /// Most strangers. Counted apart, so many times as many may be established.
    std::size_t connections;
    /// The same of one source.
    std::size_t per_source;
    /// How long a stranger is waited for at a time.
    Milliseconds grace;
  };
  /// No stranger has to make room for another before it has been waited for so long (or the grace,
  /// if shorter): when thousands of clients come at once, those in the middle of their handshake
  /// are the oldest, and ending them would get nobody served.
  static constexpr Milliseconds kFairChance{1000};
  /// The same while all places are taken and no source has a crowd: then it is many who come once.
  /// A client that overflowed the kernel's queue says again what was lost after up to 3.2 seconds,
  /// the fourth doubling of TCP's shortest retransmission time.
  static constexpr Milliseconds kChanceInRush{4000};
  /// A source with so many strangers is a crowd: when room is needed, the largest crowd's oldest
  /// goes, however short its stay, for one of a source that has fewer.
  static constexpr std::size_t kCrowd = 8;
  /// Most that enter in a second, and at once. The monitor takes twice as many Opens, and ends
  /// a networker that asks for more: those who only come and go would reach that on a fast machine.
  /// Who is refused does not count, or a refused source would keep others waiting.
  static constexpr double kMostPerSecond = door::networker::kMostOpensPerSecond / 2.0;

  struct Stranger {
    std::uint32_t connection;
    Source source;
    /// Since when it is waited for; Instant::max() while it waits for us: a slow machine must not
    /// end the clients that it is too slow for.
    Instant since;
  };
  /// A stranger's place; valid until establish() or leave().
  using Ticket = std::list<Stranger>::iterator;

  explicit Admission(const Bounds& bounds) : bounds_(bounds) {}

  bool full() const { return strangers_.size() >= bounds_.connections; }
  /// Whether any stranger is waited for.
  bool waiting() const { return !waited_for_.empty(); }
  bool crowded() const { return !crowds_.empty() && crowds_.rbegin()->first >= kCrowd; }
  /// Who is waited for the longest and has to go when room is needed. Only when waiting().
  const Stranger& oldest() const { return *waited_for_.begin()->second; }
  /// When that one has had its fair chance. Only when waiting().
  Instant oldest_may_go() const {
    return oldest().since + std::min(crowded() ? kFairChance : kChanceInRush, bounds_.grace);
  }
  /// When that one's grace is over. Only when waiting().
  Instant oldest_overdue() const { return oldest().since + bounds_.grace; }

  /// Whether one more may enter now, whoever it is.
  bool has_turn(Instant now) const { return TokenBucket(pace_).take(now); }
  struct Answer {
    bool welcome;
    /// This one has to leave first.
    std::optional<std::uint32_t> instead_of = std::nullopt;
    /// Not welcome because its source has all the places that one may have.
    bool source_full = false;
  };
  /// Whether a newcomer from `source` may enter: not if the source has all its places taken by
  /// strangers that have not had their fair chance. When there is no place
  /// at all, a larger crowd makes room; one of the largest crowd itself takes its own source's
  /// oldest place, and only where nobody is a crowd the oldest of all goes, both after their fair
  /// chance.
  Answer ask(const Source& source, Instant now) const;
  /// Takes in a newcomer that was welcome, which takes its turn.
  Ticket enter(std::uint32_t connection, const Source& source, Instant now);
  /// The stranger becomes established. False, and no change, when there are too many of those, of
  /// all or of its source.
  bool establish(Ticket ticket);
  void leave(Ticket ticket);
  /// It waits for us from now on.
  void pause(Ticket ticket);
  /// It was answered: it is waited for from now on. A handshake has one or two such answers.
  void answered(Ticket ticket, Instant now);
  void leave_established(const Source& source);
  /// We did not run for a while, so that nobody could be heard: everybody who is waited for is
  /// waited for anew.
  void missed(Instant now);

 private:
  Milliseconds fair_chance() const { return std::min(kFairChance, bounds_.grace); }
  Answer instead_of_own(const std::vector<Ticket>& places, Instant now) const;
  /// A source that had `before` strangers has `after` now.
  void count(const Source& source, std::size_t before, std::size_t after);

  Bounds bounds_;
  TokenBucket pace_{kMostPerSecond, kMostPerSecond};
  std::list<Stranger> strangers_;
  std::map<std::pair<Instant, std::uint32_t>, Stranger*> waited_for_;
  // Ordered maps: an attacker chooses the keys.
  std::map<Source, std::vector<Ticket>> by_source_;
  std::set<std::pair<std::size_t, Source>> crowds_;  // how many strangers each source has
  std::size_t established_ = 0;
  std::map<Source, std::size_t> established_by_source_;
};

}  // namespace mandos::networker
