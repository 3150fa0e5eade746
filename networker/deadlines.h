// SPDX-License-Identifier: GPL-3.0-or-later
// The deadlines of connections. Nobody is ended for time in which this process did not run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "common/event_loop.h"
#include "networker/admission.h"
#include "networker/timer.h"

namespace mandos::networker {

class Deadlines {
 public:
  struct Callbacks {
    /// The grace of the stranger `connection` is over: end it, unless it has made progress.
    std::function<void(std::uint32_t connection)> overdue;
    /// When the peer of `connection` last read something of what waits for it; nothing if nothing
    /// waits.
    std::function<std::optional<Instant>(std::uint32_t connection)> last_read;
    /// The peer of `connection` has read nothing for a minute: end it.
    std::function<void(std::uint32_t connection)> stalled;
    /// This process did not run for a while: every deadline begins anew.
    std::function<void(Instant now)> missed;
  };
  /// Strangers that are heard before they are ended in one round of the loop: each may have a
  /// handshake to finish.
  static constexpr int kHeardPerRound = 64;

  /// References must outlive this, and `loop` must not run after it.
  Deadlines(EventLoop& loop, const Admission& admission, Callbacks callbacks);

  /// A connection has begun.
  void opened();
  /// One of those has ended.
  void closed(std::uint32_t connection);
  /// `admission` waits for somebody, perhaps for nobody before.
  void watch_strangers();
  /// Something waits for the peer of `connection`.
  void watch_reader(std::uint32_t connection);

 private:
  void end_overdue();
  void look_at_reader(std::uint32_t connection);
  void tick();

  EventLoop& loop_;
  const Admission& admission_;
  Callbacks callbacks_;
  // The grace is the same for all, so the stranger that has been waited for longest is the first
  // for whom it is over, and one timer serves all.
  Timer grace_;
  std::map<std::uint32_t, Timer> readers_;
  std::size_t connections_ = 0;
  Timer tick_;
};

}  // namespace mandos::networker
