// SPDX-License-Identifier: GPL-3.0-or-later
// What may come through a door is data: one row a message, and nothing that has no row gets in.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "common/clock.h"
#include "common/heartbeat.h"
#include "common/token_bucket.h"

namespace mandos::monitor {

/// Each tick of the monitor asks every child whether it is alive. A child that hangs is replaced
/// at the latest four ticks after its last answer, or five after its start.
inline constexpr Milliseconds kTick{2000};

/// One row: the message, in which states of what it is about (a bit mask, as Room::state_of()
/// gives it), its greatest length, its highest rate over the whole door, and who handles it.
template <class Room, class Message>
struct DoorRow {
  int message;  // the oneof case
  const char* name;
  unsigned states;
  std::size_t most_bytes;
  unsigned per_second;  // twice as many at once
  void (Room::*handle)(const Message&);
};

template <class Room, class Message>
class DoorTable {
 public:
  explicit DoorTable(std::span<const DoorRow<Room, Message>> rows) : rows_(rows) {
    for (const auto& row : rows) rates_.emplace_back(row.per_second, 2.0 * row.per_second);
  }

  /// Has the message that `bytes` are handled by `room`. Returns null, or which rule it broke; then
  /// nothing was done.
  const char* dispatch(Room& room, std::string_view bytes) {
    if (!message_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return "not a message of this door";
    }
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const auto& row = rows_[i];
      if (row.message != message_.message_case()) continue;
      if (bytes.size() > row.most_bytes) return "longer than this message may be";
      if ((row.states & room.state_of(message_)) == 0) return "not allowed in this state";
      if (!rates_[i].take(BootClock::now())) return "more often than allowed";
      (room.*row.handle)(message_);
      return nullptr;
    }
    return "a message that is not in the table";
  }

 private:
  std::span<const DoorRow<Room, Message>> rows_;
  std::vector<TokenBucket> rates_;
  Message message_;  // kept, so that its memory is
};

/// What the doors to all children have: `Room` is one of them.
template <class Room, class ToMonitor, class ToChild>
class ChildDoor {
 public:
  /// Asks whether the child is alive, once a kTick. False: it hangs.
  bool ask_alive() {
    const auto verdict = heartbeat_.tick();
    if (verdict == Heartbeat::Verdict::kPing) {
      ToChild message;
      message.mutable_ping();
      door_.send_first(message);
    }
    return verdict != Heartbeat::Verdict::kHung;
  }

 protected:
  /// Sends what `fill` makes of an empty message.
  template <class Fill>
  void tell(const Fill& fill) {
    ToChild message;
    fill(message);
    door_.send(message);
  }
  /// `on_alive` is called once, when the child answers its first Ping.
  ChildDoor(EventLoop& loop, UniqueFd door, const Channel::Limits& limits,
            std::function<void(std::string_view bytes)> on_datagram, Door::OnClosed on_closed,
            std::function<void()> on_alive)
      : on_alive_(std::move(on_alive)),
        table_(Room::rows()),
        door_(
            loop, std::move(door), limits,
            [on_datagram = std::move(on_datagram)](const Channel::Datagram& datagram) {
              on_datagram(datagram.bytes);
            },
            std::move(on_closed)) {}

  bool asked(const ToMonitor& message) const { return message.has_pong() && heartbeat_.asked(); }
  void pong(const ToMonitor&) {
    heartbeat_.answered();
    if (const auto first = std::exchange(on_alive_, {})) first();
  }

  Heartbeat heartbeat_{3, 5};
  std::function<void()> on_alive_;
  DoorTable<Room, ToMonitor> table_;
  Door door_;
};

}  // namespace mandos::monitor
