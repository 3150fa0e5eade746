// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/saver.h"

#include <algorithm>

namespace mandos::monitor {

Saver::~Saver() {
  for (const auto& timer : {gather_timer_, begin_timer_, slow_timer_})
    if (timer) loop_.cancel(*timer);
}

void Saver::changed(const std::string& client) {
  if (urgent_.contains(client) || due_.contains(client)) return;
  gathering_.insert(client);
  gather();
}

void Saver::confirm(const std::string& client, Done done) {
  if (gathering_.erase(client) + due_.erase(client) > 0) urgent_[client];
  if (const auto found = urgent_.find(client); found != urgent_.end()) {
    found->second.push_back(std::move(done));
    return begin_soon();
  }
  const auto flying = std::ranges::find(flight_, client, &InFlight::client);
  if (flying != flight_.end()) return flying->waiting.push_back(std::move(done));
  done(Ok{});
}

void Saver::flush(Done done) {
  due_.merge(std::exchange(gathering_, {}));
  flushing_.emplace_back(std::move(done), Ok{});
  begin_soon();
}

// Not while other changes are due: on a slow disk, clients late in the order would never be
// saved.
void Saver::gather() {
  if (gather_timer_ || gathering_.empty() || !due_.empty()) return;
  gather_timer_ = loop_.after(kGather, [this] {
    gather_timer_.reset();
    due_.merge(std::exchange(gathering_, {}));
    begin_soon();
  });
}

void Saver::begin_soon() {
  if (flying_ || begin_timer_) return;
  begin_timer_ = loop_.at(BootClock::now(), [this] {
    begin_timer_.reset();
    begin();
  });
}

void Saver::begin() {
  // Due changes get a quarter; otherwise changes that callers wait for could starve them.
  const std::size_t others = std::min(due_.size(), kMost / 4);
  while (!urgent_.empty() && flight_.size() < kMost - others) {
    auto first = urgent_.extract(urgent_.begin());
    flight_.push_back({first.key(), std::move(first.mapped())});
  }
  while (!due_.empty() && flight_.size() < kMost) {
    flight_.push_back({std::move(due_.extract(due_.begin()).value()), {}});
  }
  if (flight_.empty()) return finished({});
  std::vector<Disk::Change> changes;
  for (const auto& [client, waiting] : flight_) changes.push_back({client, snapshot_(client)});
  flying_ = true;
  slow_timer_ = loop_.after(kSlow, [this] {
    slow_timer_.reset();
    log_.warning("state: the disk has been busy with ", flight_.size(), " changes for ",
                 kSlow.count() / 1000, " s; none of them is confirmed yet");
  });
  disk_.begin(std::move(changes), [this, alive = std::weak_ptr<int>(alive_)](const auto results) {
    if (!alive.expired()) finished(results);
  });
}

void Saver::finished(std::span<const Status> results) {
  if (slow_timer_) loop_.cancel(*slow_timer_);
  slow_timer_.reset();
  flying_ = false;
  auto flight = std::exchange(flight_, {});
  for (std::size_t i = 0; i < flight.size(); ++i) remember(flight[i].client, results[i]);
  std::vector<std::pair<Done, Status>> flushed;
  if (urgent_.empty() && due_.empty()) {
    flushed.swap(flushing_);
    gather();
  } else {
    begin_soon();
  }
  for (std::size_t i = 0; i < flight.size(); ++i)
    for (const auto& done : flight[i].waiting) done(results[i]);
  for (const auto& [done, status] : flushed) done(status);
}

void Saver::remember(const std::string& client, const Status& result) {
  if (result) {
    if (failed_.erase(client) > 0 && failed_.empty()) log_.warning("state is on disk again");
    return;
  }
  if (failed_.empty()) log_.error("state is not on disk, retrying: ", result.error());
  failed_.insert(client);
  changed(client);
  for (auto& [done, status] : flushing_)
    if (status) status = result;
}

}  // namespace mandos::monitor
