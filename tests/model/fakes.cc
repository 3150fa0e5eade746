// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/model/fakes.h"

#include <google/protobuf/message_lite.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string_view>

#include "common/log.h"
#include "monitor/state.h"

namespace mandos {
namespace model {

Instant now;
std::vector<std::string> log_lines;

namespace {

std::uint64_t nonces = 0;

// The language lets an explicit instantiation name a private member.
template <auto Member>
struct Timers {
  friend auto timers_of(EventLoop& loop) { return &(loop.*Member); }
};
auto timers_of(EventLoop& loop);
template struct Timers<&EventLoop::timers_>;

Port* port_of(const Door* door) {
  for (auto& [other, port] : ports())
    if (other == door) return &port;
  return nullptr;
}

}  // namespace

std::vector<std::pair<const Door*, Port>>& ports() {
  static std::vector<std::pair<const Door*, Port>> all;
  return all;
}

std::map<EventLoop::TimerId, std::function<void()>>& timers(EventLoop& loop) {
  return *timers_of(loop);
}

std::string transcript(std::uint8_t key, const monitor::Nonce& nonce) {
  std::string bytes(1, static_cast<char>(key));
  bytes.append(nonce.begin(), nonce.end());
  return bytes;
}

monitor::KeyId key_id(std::uint8_t key) {
  monitor::KeyId id;
  id.bytes.fill(static_cast<std::uint8_t>(key + 1));
  return id;
}

void reset() {
  now = Instant(std::chrono::hours(1000));
  nonces = 0;
  ports().clear();
  log_lines.clear();
}

}  // namespace model

// Clocks.

BootClock::time_point BootClock::now() noexcept { return model::now; }

Moment Moment::now() noexcept {
  constexpr WallTime kStart{std::chrono::sys_days{std::chrono::January / 2 / 2030}};
  return {model::now,
          kStart + std::chrono::floor<WallTime::duration>(model::now.time_since_epoch())};
}

// The event loop: timers alone.

EventLoop::EventLoop() = default;
void EventLoop::watch(int, std::uint32_t, Ready) {}
void EventLoop::rewatch(int, std::uint32_t) {}
void EventLoop::unwatch(int) {}
void EventLoop::arm() {}

EventLoop::TimerId EventLoop::at(Instant when, std::function<void()> due) {
  const TimerId id{when, next_timer_++};
  timers_.emplace(id, std::move(due));
  return id;
}

void EventLoop::notice_gap(Instant when) {
  if (timers_.empty()) return;
  const auto late = when - std::max(timers_.begin()->first.first, noticed_);
  if (late < kGap) return;
  noticed_ = when;
  for (const auto& missed : gap_handlers_) {
    missed(std::chrono::duration_cast<Milliseconds>(late));
  }
}

void EventLoop::run_due() {
  notice_gap(model::now);
  while (!timers_.empty() && timers_.begin()->first.first <= model::now) {
    const auto due = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    due();
  }
}

/// Negative: a gap is noticed, and nothing else. Otherwise: what is due.
void EventLoop::run_once(Milliseconds longest) {
  if (longest < Milliseconds(0)) return notice_gap(model::now);
  run_due();
}

// Doors.

Channel::Channel(UniqueFd fd, const Limits& limits) : fd_(std::move(fd)), limits_(limits) {}
void Channel::wipe_received() {}

Door::Door(EventLoop& loop, UniqueFd fd, const Channel::Limits& limits, OnDatagram on_datagram,
           OnClosed on_closed)
    : loop_(loop), channel_(std::move(fd), limits) {
  model::ports().emplace_back(this, model::Port{std::move(on_datagram), std::move(on_closed), {}});
}

Door::~Door() {
  std::erase_if(model::ports(), [this](const auto& entry) { return entry.first == this; });
}

void Door::send(const google::protobuf::MessageLite& message, std::span<const int>,
                Channel::Tail tail) {
  model::port_of(this)->sent.push_back({message.SerializeAsString(), tail.bytes});
}

void Door::fail(std::string why) {
  const OnClosed closed = model::port_of(this)->closed;  // which may destroy us
  closed(why);
}

void Door::serve(std::uint32_t) {}

// The log.

Log Log::to_socket(int, LogLevel level) {
  Log log;
  log.level_ = level;
  return log;
}

void Log::write(LogLevel, std::string_view line) { model::log_lines.emplace_back(line); }

namespace monitor {

// The proof.

Nonce fresh_nonce() {
  Nonce nonce{};
  const std::uint64_t number = ++model::nonces;
  std::memcpy(nonce.data(), &number, sizeof number);
  return nonce;
}

ProofResult check_proof(Bytes transcript, const Nonce& nonce,
                        const std::function<bool(const KeyId&)>& known) {
  if (transcript.size() != 1 + nonce.size() || !std::ranges::equal(transcript.subspan(1), nonce)) {
    return {ProofResult::Verdict::kRefused, {}, "another nonce"};
  }
  const KeyId id = model::key_id(transcript.front());
  return {known(id) ? ProofResult::Verdict::kProven : ProofResult::Verdict::kUnknownKey, id, ""};
}

// Enough to tell the model's secrets apart.
std::array<std::uint8_t, 32> sha256(std::initializer_list<std::span<const unsigned char>> parts) {
  std::array<std::uint8_t, 32> digest{};
  for (const auto part : parts) {
    for (std::size_t i = 0; i < std::min<std::size_t>(part.size(), 16); ++i) {
      digest.at(i) = static_cast<std::uint8_t>(digest.at(i) * 31 + part[i]);
    }
  }
  return digest;
}

}  // namespace monitor
}  // namespace mandos

// What the registry spreads checkers with: the same in every world, or no path could be replayed.
namespace std {
void random_device::_M_init(const std::string&) {}
void random_device::_M_fini() {}
random_device::result_type random_device::_M_getval() { return 1; }
}  // namespace std
