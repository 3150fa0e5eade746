// SPDX-License-Identifier: GPL-3.0-or-later
// Detects by pings whether another process hangs.
#pragma once

namespace mandos {

/// One per watched process. The owner calls tick() at regular intervals, sends a ping when the
/// verdict is kPing, and reports the answer with answered(). The limit is counted in ticks, not
/// read from a clock: if our own process was stopped or busy, the late tick counts once, so the
/// gap is not held against the other process. At most one ping is unanswered at any time.
class Heartbeat {
 public:
  enum class Verdict { kPing, kWait, kHung };

  /// A ping must be answered before the `patience`-th tick after it. The first one, which may reach
  /// the process while it starts, must be answered before the `at_first`-th tick.
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
