// SPDX-License-Identifier: GPL-3.0-or-later
// fsync(2) that does not block the loop: io_submit(2) with IOCB_CMD_FSYNC; an eventfd reports the
// end. Threads of the kernel wait for the disk, none of ours.
#pragma once

#include <linux/aio_abi.h>

#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"

namespace mandos::monitor {

class AsyncSync {
 public:
  /// The most descriptors in one call of sync().
  static constexpr unsigned kMost = 128;
  /// Called with an errno value for each descriptor, in their order; 0: it is on disk.
  using Done = std::function<void(std::span<const int> errors)>;

  /// Must be constructed before the jail is entered. If the kernel has no AIO, this is logged, and
  /// each fsync(2) blocks the loop.
  AsyncSync(EventLoop& loop, Log& log);
  /// Waits until the kernel has finished every sync in flight, as the end of the process would.
  ~AsyncSync();
  AsyncSync(const AsyncSync&) = delete;
  AsyncSync& operator=(const AsyncSync&) = delete;

  /// Calls `done` once all of them are done, after this has returned. The descriptors must stay
  /// open, and this must not be called again, before that.
  void sync(std::vector<int> fds, Done done);

 private:
  void fall_back(int error);
  void by_hand();
  void completed();
  // The index is ours even where the kernel gives it back, and of this transaction: the next one
  // does not begin before `left_` is 0.
  void ended(std::size_t index, int error) {
    errors_[index] = error;
    if (--left_ == 0) finish();
  }
  void finish() {
    const auto done = std::exchange(done_, nullptr);
    done(std::exchange(errors_, {}));
  }

  EventLoop& loop_;
  Log& log_;
  aio_context_t context_ = 0;
  UniqueFd event_;
  bool fell_back_ = false;
  std::vector<int> fds_;
  std::vector<iocb> requests_;
  std::vector<int> errors_;
  std::vector<std::size_t> by_hand_;  // of fds_, those that the kernel did not take
  std::size_t left_ = 0;
  Done done_;
};

}  // namespace mandos::monitor
