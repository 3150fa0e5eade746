// SPDX-License-Identifier: GPL-3.0-or-later
// Which sources are refused because of what peers there did. Pure: knows neither sockets nor a
// clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "common/clock.h"
#include "common/token_bucket.h"
#include "networker/source.h"

namespace mandos::networker {

/// What a peer did, by how much it weighs.
enum class Offense {
  kNone,       // hung up, or never said a word
  kDeadline,   // began, then let a deadline pass: a slow network looks the same
  kViolation,  // broke the protocol
  kCrash,      // was being handled when a networker died
};

/// A source is whoever shares an address or a /64 network, often one bad peer and many good ones.
/// So offenses are forgiven at a steady rate, and only what exceeds that refuses a source, for a
/// time that grows with the excess. A source where somebody proved the key of a client is never
/// refused altogether.
class Penalties {
 public:
  struct Bounds {
    /// How long a source is refused, for each `threshold` violations; zero: nobody ever is.
    Milliseconds time;
    /// So many violations in excess of those forgiven. At least 1.
    unsigned threshold;
  };
  /// So many violations in a second are forgiven: health checks, old clients and a port scan are
  /// slower, and all that a source can cost us at this rate is a thousandth of a processor.
  static constexpr int kForgivenPerSecond = 4;
  /// A missed deadline weighs a quarter of a violation: a network that fails makes all the clients
  /// behind it miss theirs at once, and how many those can be is bounded elsewhere.
  static constexpr int kDeadlinesPerViolation = 4;
  /// No source is refused for longer than so many times `Bounds::time` from now on.
  static constexpr int kLongest = 6;
  /// Most sources whose offenses are remembered. More make the least offender forgotten, so that
  /// many small ones do not free a great one.
  static constexpr std::size_t kMaxOffenders = 16384;
  /// How long it is remembered that a source proved a key, and of how many sources at most.
  static constexpr std::chrono::hours kProofRemembered{24};
  static constexpr std::size_t kMaxProven = 16384;
  /// Connections that a source which proved a key may still have while it is refused: per second,
  /// and at once. Whoever holds one valid key, or is a neighbor of somebody who does, gets no more.
  static constexpr int kAllowance = 50;

  explicit Penalties(const Bounds& bounds) : bounds_(bounds) {}

  /// Adds an offense of `source`. If the source is refused for it: for how long from now on.
  std::optional<Milliseconds> add(const Source& source, Offense offense, Instant now);
  /// Whether `source` may have one more connection. One that is let in although its source is
  /// refused is taken from the allowance.
  bool admits(const Source& source, Instant now);
  /// A client from `source` got its secret.
  void proved(const Source& source, Instant now);

  std::size_t offenders() const { return offenders_.size(); }
  std::size_t proven() const { return proven_.size(); }

 private:
  struct Offender {
    // When all is forgiven. The further ahead, the more is not.
    Instant clean{};
    Instant refused_until{};
    Instant forgotten() const { return std::max(clean, refused_until); }
  };
  struct Proven {
    Instant last;
    TokenBucket allowance{kAllowance, kAllowance};
  };
  void forget(Instant now);

  Bounds bounds_;
  // Ordered maps: an attacker chooses the keys.
  std::map<Source, Offender> offenders_;
  std::set<std::pair<Instant, Source>> by_end_;  // when each is forgotten
  std::map<Source, Proven> proven_;
  std::set<std::pair<Instant, Source>> by_proof_;
};

}  // namespace mandos::networker
