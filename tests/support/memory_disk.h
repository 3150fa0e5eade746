// SPDX-License-Identifier: GPL-3.0-or-later
// The saver's disk in memory, for tests: by itself each transaction is there as soon as the loop
// comes round; a test that sets `automatic` to false says itself when the disk has finished, and
// how.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/event_loop.h"
#include "monitor/saver.h"

namespace mandos::monitor::test {

class MemoryDisk final : public Disk {
 public:
  explicit MemoryDisk(EventLoop& loop) : loop_(loop) {}
  ~MemoryDisk() override {
    if (timer_) loop_.cancel(*timer_);
  }

  void begin(std::vector<Change> changes, Finished finished) override {
    in_flight_.emplace(std::move(changes), std::move(finished));
    ++begun;
    if (on_begin) on_begin(in_flight_->first);
    if (!automatic) return;
    timer_ = loop_.at(BootClock::now(), [this] {
      timer_.reset();
      failure ? fail(*failure) : finish();
    });
  }

  bool busy() const { return in_flight_.has_value(); }
  /// What is in flight; only while busy().
  const std::vector<Change>& in_flight() const { return in_flight_->first; }
  /// The disk has taken what is in flight.
  void finish() {
    for (const auto& change : in_flight_->first) apply(change);
    answer(Ok{});
  }
  /// It has not, or has, and says that it has not: both are allowed.
  void fail(const std::string& why, bool applied = false) {
    for (const auto& change : in_flight_->first)
      if (applied) apply(change);
    answer(Error{why});
  }
  /// Power is cut: nobody is told.
  void forget() { in_flight_.reset(); }

  std::map<std::string, Saved> kept;
  bool automatic = true;
  std::optional<std::string> failure;  // when automatic: every transaction fails with this
  std::size_t begun = 0;
  std::function<void(const std::vector<Change>&)> on_begin;

 private:
  void apply(const Change& change) {
    kept.erase(change.client);
    if (change.saved) kept.emplace(change.client, *change.saved);
  }
  void answer(const Status& result) {
    auto [changes, finished] = *std::exchange(in_flight_, std::nullopt);
    finished(std::vector<Status>(changes.size(), result));
  }

  EventLoop& loop_;
  std::optional<std::pair<std::vector<Change>, Finished>> in_flight_;
  std::optional<EventLoop::TimerId> timer_;
};

}  // namespace mandos::monitor::test
