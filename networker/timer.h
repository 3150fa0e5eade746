// SPDX-License-Identifier: GPL-3.0-or-later
// A timer that ends with its owner.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "common/event_loop.h"

namespace mandos::networker {

/// Fires at most once for each set(), and never after its destruction. `due` may set it again, or
/// destroy it.
class Timer {
 public:
  /// `loop` must outlive this.
  explicit Timer(EventLoop& loop) : loop_(loop) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool is_set() const { return id_.has_value(); }
  /// Calls `due` at `when`. Only while it is not set.
  void set(Instant when, std::function<void()> due) {
    id_ = loop_.at(when, [this, due = std::move(due)] {
      id_.reset();
      due();
    });
  }
  void cancel() {
    if (id_) loop_.cancel(*std::exchange(id_, std::nullopt));
  }

 private:
  EventLoop& loop_;
  std::optional<EventLoop::TimerId> id_;
};

}  // namespace mandos::networker
