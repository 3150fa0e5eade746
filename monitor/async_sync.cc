// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/async_sync.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

namespace mandos::monitor {

AsyncSync::AsyncSync(EventLoop& loop, Log& log)
    : loop_(loop), log_(log), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_ || syscall(SYS_io_setup, kMost, &context_) != 0) {
    fall_back(errno);
    return;
  }
  loop_.watch(event_.get(), EPOLLIN, [this](std::uint32_t) { completed(); });
}

AsyncSync::~AsyncSync() {
  if (context_ != 0) syscall(SYS_io_destroy, context_);
  loop_.unwatch(event_.get());
}

void AsyncSync::fall_back(int error) {
  if (std::exchange(fell_back_, true)) return;
  log_.warning("the kernel does not support asynchronous fsync (", std::strerror(error),
               "): nobody is served while the disk is busy with a change");
}

void AsyncSync::sync(std::vector<int> fds, Done done) {
  fds_ = std::move(fds);
  done_ = std::move(done);
  errors_.assign(fds_.size(), 0);
  left_ = fds_.size();
  by_hand_.clear();
  requests_.assign(fds_.size(), iocb{});
  std::vector<iocb*> order;
  for (std::size_t i = 0; i < fds_.size(); ++i) {
    requests_[i].aio_data = i;
    requests_[i].aio_lio_opcode = IOCB_CMD_FSYNC;
    requests_[i].aio_fildes = static_cast<std::uint32_t>(fds_[i]);
    requests_[i].aio_flags = IOCB_FLAG_RESFD;
    requests_[i].aio_resfd = static_cast<std::uint32_t>(event_.get());
    order.push_back(&requests_[i]);
  }
  std::size_t taken = 0;
  while (context_ != 0 && taken < order.size()) {
    const long more =
        syscall(SYS_io_submit, context_, static_cast<long>(order.size() - taken), &order[taken]);
    if (more <= 0) {
      fall_back(errno);
      break;
    }
    taken += static_cast<std::size_t>(more);
  }
  for (; taken < fds_.size(); ++taken) by_hand_.push_back(taken);
  if (left_ == 0 || !by_hand_.empty()) loop_.at(BootClock::now(), [this] { by_hand(); });
}

// One per round of the loop, so that others are served between two of them.
void AsyncSync::by_hand() {
  if (left_ == 0) return finish();
  const std::size_t index = by_hand_.back();
  by_hand_.pop_back();
  if (!by_hand_.empty()) loop_.at(BootClock::now(), [this] { by_hand(); });
  ended(index, fsync(fds_[index]) == 0 ? 0 : errno);
}

void AsyncSync::completed() {
  std::uint64_t count = 0;
  static_cast<void>(!read(event_.get(), &count, sizeof count));
  std::array<io_event, kMost> events{};
  const long got = syscall(SYS_io_getevents, context_, 0L, long{kMost}, events.data(), nullptr);
  for (const auto& event : std::span(events).first(static_cast<std::size_t>(std::max(got, 0L)))) {
    ended(static_cast<std::size_t>(event.data), event.res < 0 ? static_cast<int>(-event.res) : 0);
  }
}

}  // namespace mandos::monitor
