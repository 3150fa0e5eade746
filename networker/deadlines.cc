// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/deadlines.h"

#include <algorithm>
#include <utility>

namespace mandos::networker {
namespace {

// A peer that has been promised its secret must read some of it in this time.
constexpr Milliseconds kMaxStall{60'000};
// While there are connections a timer is never further ahead, so that EventLoop::on_gap works.
constexpr Milliseconds kTick{2000};

}  // namespace

Deadlines::Deadlines(EventLoop& loop, const Admission& admission, Callbacks callbacks)
    : loop_(loop),
      admission_(admission),
      callbacks_(std::move(callbacks)),
      grace_(loop),
      tick_(loop) {
  loop_.on_gap([this](Milliseconds) { callbacks_.missed(BootClock::now()); });
}

void Deadlines::opened() {
  ++connections_;
  if (!tick_.is_set()) tick();
}

void Deadlines::closed(std::uint32_t connection) {
  --connections_;
  readers_.erase(connection);
}

void Deadlines::tick() {
  if (connections_ == 0) return;
  tick_.set(BootClock::now() + kTick, [this] { tick(); });
}

void Deadlines::watch_strangers() {
  if (grace_.is_set() || !admission_.waiting()) return;
  // Never before now, so that others have their turn.
  grace_.set(std::max(admission_.oldest_overdue(), BootClock::now()), [this] { end_overdue(); });
}

void Deadlines::end_overdue() {
  const Instant now = BootClock::now();
  for (int i = 0; i < kHeardPerRound && admission_.waiting() && admission_.oldest_overdue() <= now;
       ++i) {
    callbacks_.overdue(admission_.oldest().connection);
  }
  watch_strangers();
}

void Deadlines::watch_reader(std::uint32_t connection) {
  if (!readers_.contains(connection)) look_at_reader(connection);
}

// Looks again no sooner than it could matter: progress does not move the timer.
void Deadlines::look_at_reader(std::uint32_t connection) {
  const auto last_read = callbacks_.last_read(connection);
  if (!last_read) {
    readers_.erase(connection);
  } else if (const Instant limit = *last_read + kMaxStall; BootClock::now() < limit) {
    readers_.try_emplace(connection, loop_).first->second.set(limit, [this, connection] {
      look_at_reader(connection);
    });
  } else {
    callbacks_.stalled(connection);
  }
}

}  // namespace mandos::networker
