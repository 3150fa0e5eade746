// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/event_loop.h"

#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <span>
#include <system_error>

namespace mandos {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

EventLoop::EventLoop()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      timer_fd_(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (!epoll_) fail("epoll_create1");
  if (!timer_fd_) fail("timerfd_create");
  watch(timer_fd_.get(), EPOLLIN, [this](std::uint32_t) {
    std::uint64_t expirations = 0;
    static_cast<void>(!read(timer_fd_.get(), &expirations, sizeof expirations));
    armed_ = Instant::max();
  });
}

void EventLoop::watch(int fd, std::uint32_t events, Ready ready) {
  auto entry = std::make_unique<Watch>(Watch{fd, std::move(ready)});
  epoll_event event{.events = events, .data = {.ptr = entry.get()}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl(ADD)");
  watches_[fd] = std::move(entry);
}

void EventLoop::rewatch(int fd, std::uint32_t events) {
  // rewatch() is for what is watched
  epoll_event event{.events = events, .data = {.ptr = watches_.at(fd).get()}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) fail("epoll_ctl(MOD)");
}

void EventLoop::unwatch(int fd) {
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  found->second->fd = -1;
  retired_.push_back(std::move(found->second));
  watches_.erase(found);
}

EventLoop::TimerId EventLoop::at(Instant when, std::function<void()> due) {
  const TimerId id{when, next_timer_++};
  timers_.emplace(id, std::move(due));
  return id;
}

void EventLoop::on_signals(std::initializer_list<int> signals, std::function<void(int)> caught) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) fail("sigprocmask");
  signal_fd_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signal_fd_) fail("signalfd");
  watch(signal_fd_.get(), EPOLLIN, [this, caught = std::move(caught)](std::uint32_t) {
    signalfd_siginfo info{};
    while (read(signal_fd_.get(), &info, sizeof info) == sizeof info) {
      caught(static_cast<int>(info.ssi_signo));
    }
  });
}

// The timer descriptor is set only when the earliest deadline moves forward. When that one was
// cancelled the descriptor fires for nothing, once: cheaper than a system call at every change.
void EventLoop::arm() {
  if (timers_.empty() || timers_.begin()->first.first >= armed_) return;
  armed_ = timers_.begin()->first.first;
  const auto since_boot = std::max(armed_.time_since_epoch(), std::chrono::nanoseconds(1));
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_boot);
  const itimerspec spec{.it_interval = {},
                        .it_value = {.tv_sec = static_cast<time_t>(seconds.count()),
                                     .tv_nsec = static_cast<long>((since_boot - seconds).count())}};
  if (timerfd_settime(timer_fd_.get(), TFD_TIMER_ABSTIME, &spec, nullptr) != 0) {
    fail("timerfd_settime");
  }
}

void EventLoop::notice_gap(Instant now) {
  if (gap_handlers_.empty() || timers_.empty()) return;
  const auto late = now - std::max(timers_.begin()->first.first, noticed_);
  if (late < kGap) return;
  noticed_ = now;
  const auto whole = std::chrono::duration_cast<Milliseconds>(late);
  for (const auto& handler : gap_handlers_) handler(whole);
}

void EventLoop::run_due() {
  const Instant now = BootClock::now();
  for (notice_gap(now); !timers_.empty() && timers_.begin()->first.first <= now && !stopped_;
       notice_gap(BootClock::now())) {
    const auto due = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    due();
  }
}

void EventLoop::run_once(Milliseconds longest) {
  arm();
  std::array<epoll_event, 64> events{};
  const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                               static_cast<int>(longest.count()));
  if (count < 0 && errno != EINTR) fail("epoll_wait");
  for (const auto& event : std::span(events).first(static_cast<std::size_t>(std::max(count, 0)))) {
    // Before each, not once a round: any callback may have blocked, and any moment be that of a
    // stop.
    notice_gap(BootClock::now());
    auto* entry = static_cast<Watch*>(event.data.ptr);
    if (entry->fd >= 0 && !stopped_) entry->ready(event.events);
  }
  retired_.clear();
  if (!stopped_) run_due();
}

int EventLoop::run() {
  while (!stopped_) run_once(Milliseconds(-1));
  return status_;
}

}  // namespace mandos
