// SPDX-License-Identifier: GPL-3.0-or-later
// Decides when the clients' state goes to disk, and reports when it is there. One transaction is in
// flight at a time; changes made meanwhile go into the next one. The files themselves are the
// affair of Disk.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/event_loop.h"
#include "common/log.h"
#include "monitor/state.h"

namespace mandos::monitor {

/// Where the saver's transactions go: files (FileDisk), or memory in a test.
class Disk {
 public:
  /// The new state of a client; without `saved`, its state is deleted.
  struct Change {
    std::string client;
    std::optional<Saved> saved;
  };
  /// One result for each change, in their order. Ok: the change is durably on disk. Otherwise the
  /// client's old or new state is there.
  using Finished = std::function<void(std::span<const Status> results)>;

  Disk() = default;
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;
  virtual ~Disk() = default;
  /// Starts to bring `changes` to disk. Calls `finished` once, after this has returned. The caller
  /// waits for it before the next begin().
  virtual void begin(std::vector<Change> changes, Finished finished) = 0;
};

class Saver {
 public:
  using Done = std::function<void(const Status&)>;
  /// The client's present state; nothing if the client does not exist any more.
  using Snapshot = std::function<std::optional<Saved>(const std::string& client)>;
  /// The most clients in one transaction.
  static constexpr std::size_t kMost = 128;
  /// How long a change may wait for others before it goes to disk.
  static constexpr Milliseconds kGather = std::chrono::seconds(5);
  /// A transaction that takes longer is mentioned in the log.
  static constexpr Milliseconds kSlow = std::chrono::seconds(10);

  Saver(EventLoop& loop, Log& log, Disk& disk, Snapshot snapshot)
      : loop_(loop), log_(log), disk_(disk), snapshot_(std::move(snapshot)) {}
  ~Saver();
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  /// This client's state has changed, or the client does not exist any more. The change goes to
  /// disk within kGather, and is tried again until it is there.
  void changed(const std::string& client);
  /// Calls `done` with Ok once every change of this client is on disk (at once, if it is), or with
  /// the reason why this attempt failed. All changes of one round of the loop go together, because
  /// each sync costs milliseconds.
  void confirm(const std::string& client, Done done);
  /// Calls `done` after an attempt to save every change made until now, with the first failure if
  /// there was one.
  void flush(Done done);
  /// Whether everything that was changed is on disk.
  bool idle() const { return !flying_ && gathering_.empty() && due_.empty() && urgent_.empty(); }

 private:
  struct InFlight {
    std::string client;
    std::vector<Done> waiting;
  };
  void gather();
  void begin_soon();
  void begin();
  void finished(std::span<const Status> results);
  void remember(const std::string& client, const Status& result);

  EventLoop& loop_;
  Log& log_;
  Disk& disk_;
  Snapshot snapshot_;
  // A client is in one of these three at most; it may be in flight besides, if it changed since.
  std::set<std::string> gathering_;                  // until the timer
  std::set<std::string> due_;                        // as soon as the disk is free
  std::map<std::string, std::vector<Done>> urgent_;  // before those: somebody waits
  bool flying_ = false;
  std::vector<InFlight> flight_;
  std::set<std::string> failed_;  // at the last attempt
  std::vector<std::pair<Done, Status>> flushing_;
  std::optional<EventLoop::TimerId> gather_timer_, begin_timer_, slow_timer_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // for a disk that finishes later
};

}  // namespace mandos::monitor
