// SPDX-License-Identifier: GPL-3.0-or-later
// Each process has one loop: epoll(7) for descriptors, one timerfd(2) on CLOCK_BOOTTIME for all
// timers, signalfd(2) for signals. No threads.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace mandos {

class EventLoop {
 public:
  /// Called with the epoll events that are due.
  using Ready = std::function<void(std::uint32_t events)>;
  /// Identifies a timer; never used twice by one loop.
  using TimerId = std::pair<Instant, std::uint64_t>;

  /// Throws std::system_error when the kernel gives no epoll or timer descriptor.
  EventLoop();

  /// Calls `ready` whenever `fd` has one of `events` (level-triggered). The caller owns the
  /// descriptor and must unwatch it before closing it. May be called from within callbacks.
  void watch(int fd, std::uint32_t events, Ready ready);
  void rewatch(int fd, std::uint32_t events);
  void unwatch(int fd);

  /// Calls `due` once, in the first round of the loop at or after `when`.
  TimerId at(Instant when, std::function<void()> due);
  TimerId after(Milliseconds delay, std::function<void()> due) {
    return at(BootClock::now() + delay, std::move(due));
  }
  /// No effect on a timer that has fired.
  void cancel(const TimerId& timer) { timers_.erase(timer); }

  /// If a timer fires this much too late, the process is taken not to have run meanwhile.
  static constexpr Milliseconds kGap{1000};
  /// Calls `missed` when a timer fires at least kGap too late: this process was stopped (SIGSTOP, a
  /// suspended machine), or one callback took that long. `late` is the delay; no time is reported
  /// twice. The call comes before any later descriptor or timer is served, so that owners of
  /// deadlines can postpone those that nobody could meet. A gap is noticed only if there is a
  /// timer, which every owner of deadlines has.
  void on_gap(std::function<void(Milliseconds late)> missed) {
    gap_handlers_.push_back(std::move(missed));
  }

  /// The timerfd, for a seccomp filter that allows reading from no other descriptor.
  int timer_fd() const { return timer_fd_.get(); }

  /// Blocks `signals` in this process and calls `caught` with each that arrives.
  void on_signals(std::initializer_list<int> signals, std::function<void(int)> caught);

  /// Runs until stop(); returns its argument.
  int run();
  void stop(int status) {
    stopped_ = true;
    status_ = status;
  }
  /// One round: waits for at most `longest` (negative: no limit), then calls what is due.
  void run_once(Milliseconds longest);

 private:
  struct Watch {
    int fd;
    Ready ready;
  };
  void arm();
  void notice_gap(Instant now);
  void run_due();

  UniqueFd epoll_;
  UniqueFd timer_fd_;
  UniqueFd signal_fd_;
  std::unordered_map<int, std::unique_ptr<Watch>> watches_;
  // Unwatched during a round: kept until its end, since its events may lie in the batch at hand.
  std::vector<std::unique_ptr<Watch>> retired_;
  std::map<TimerId, std::function<void()>> timers_;
  std::vector<std::function<void(Milliseconds)>> gap_handlers_;
  std::uint64_t next_timer_ = 0;
  Instant armed_ = Instant::max();
  Instant noticed_{};  // the end of the last gap
  bool stopped_ = false;
  int status_ = 0;
};

}  // namespace mandos
