// SPDX-License-Identifier: GPL-3.0-or-later
// Which sources are refused because of the offenses of their peers. Pure: has no sockets and no
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

/// The offense of a peer, by its weight.
enum class Offense {
  kNone,       // hung up, or never sent anything
  kDeadline,   // started, then missed a deadline: a slow network looks the same
  kViolation,  // violated the protocol
  kCrash,      // its bytes were being handled when a networker died
};

/// A source is all peers that share an address or a /64 network, often one bad peer and many good
/// ones. So offenses are forgiven at a steady rate, and only the excess causes a source to be
/// refused, for a time that grows with it. A source where somebody proved the key of a client is
/// never refused completely.
class Penalties {
 public:
  struct Bounds {
    /// How long a source is refused, for each `threshold` violations; zero disables penalties.
    Milliseconds time;
    /// Violations in excess of those forgiven. At least 1.
    unsigned threshold;
  };
  /// Violations that are forgiven per second. Health checks, old clients and a port scan are
  /// slower, and at this rate a source can cost us at most a thousandth of a processor.
  static constexpr int kForgivenPerSecond = 4;
  /// A missed deadline weighs a quarter of a violation: if a network fails, all clients behind it
  /// miss theirs at once, and another limit bounds how many those can be.
  static constexpr int kDeadlinesPerViolation = 4;
  /// No source is refused for longer than this many times `Bounds::time`, counted from now.
  static constexpr int kLongest = 6;
  /// Most sources whose offenses are remembered. Beyond that, the smallest offender is forgotten,
  /// so that many small ones do not free a big one.
  static constexpr std::size_t kMaxOffenders = 16384;
  /// How long we remember that a source proved a key, and of how many sources at most.
  static constexpr std::chrono::hours kProofRemembered{24};
  static constexpr std::size_t kMaxProven = 16384;
  /// Connections that a source with a proved key may still have while it is refused: per second,
  /// and at once. A peer with one valid key, or a neighbor of one, gets no more.
  static constexpr int kAllowance = 50;

  explicit Penalties(const Bounds& bounds) : bounds_(bounds) {}

  /// Adds an offense of `source`. If this causes it to be refused: for how long from now on.
  std::optional<Milliseconds> add(const Source& source, Offense offense, Instant now);
  /// Whether `source` may have one more connection. One that is admitted although its source is
  /// refused counts against the allowance.
  bool admits(const Source& source, Instant now);
  /// A client from `source` got its secret.
  void proved(const Source& source, Instant now);

  std::size_t offenders() const { return offenders_.size(); }
  std::size_t proven() const { return proven_.size(); }

 private:
  struct Offender {
    // When everything is forgiven. The later, the more offenses there are.
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
  // Ordered maps, because an attacker chooses the keys.
  std::map<Source, Offender> offenders_;
  std::set<std::pair<Instant, Source>> by_end_;  // by when each is forgotten
  std::map<Source, Proven> proven_;
  std::set<std::pair<Instant, Source>> by_proof_;
};

}  // namespace mandos::networker
