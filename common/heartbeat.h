// SPDX-License-Identifier: GPL-3.0-or-later
// Whether another process hangs, judged by its answers to pings.
#pragma once

namespace mandos {

/// One for each process that is watched. Its owner calls tick() at regular intervals, pings when
/// told to, and reports the answer. Patience is counted in ticks and never read from a clock: after
/// our own process was stopped or busy, the late tick counts once, so the gap costs the other
/// process nothing. At most one ping is unanswered at any time.
class Heartbeat {
 public:
  enum class Verdict { kPing, kWait, kHung };

  /// A ping must be answered before the tick number `patience` after it; the first one, which the
  /// process may get while it starts, before the tick number `at_first`.
  explicit Heartbeat(unsigned patience, unsigned at_first) : patience_(patience), left_(at_first) {}

  Verdict tick() {
    if (!asked_) {
      asked_ = true;
      return Verdict::kPing;
    }
    return left_ == 0 || --left_ > 0 ? Verdict::kWait : Verdict::kHung;  // that once
  }
  bool asked() const { return asked_; }
  void answered() {
    asked_ = false;
    left_ = patience_;
  }

 private:
  unsigned patience_;
  unsigned left_;  // ticks until the unanswered ping is too old
  bool asked_ = false;
};

}  // namespace mandos
