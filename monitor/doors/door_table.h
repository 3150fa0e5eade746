// SPDX-License-Identifier: GPL-3.0-or-later
// What may come through a door is a table with one row per message; others are refused.
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

/// On each tick, the monitor asks every child whether it is alive. It replaces a child that hangs
/// at most four ticks after the child's last answer, or five after its start.
inline constexpr Milliseconds kTick{2000};

/// One row: the message, in which states it is allowed (a bit mask of what Room::state_of() returns
/// for it), its greatest length, its highest rate over the whole door, and its handler.
template <class Room, class Message>
struct DoorRow {
  int message;  // the oneof case
  const char* name;
  unsigned states;
  std::size_t most_bytes;
  unsigned per_second;  // a burst may have twice as many
  void (Room::*handle)(const Message&);
};

template <class Room, class Message>
class DoorTable {
 public:
  explicit DoorTable(std::span<const DoorRow<Room, Message>> rows) : rows_(rows) {
    for (const auto& row : rows) rates_.emplace_back(row.per_second, 2.0 * row.per_second);
  }

  /// Has `room` handle the message in `bytes`. Returns null, or the rule that the message broke; it
  /// was then not handled.
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
  Message message_;  // reused, to save allocations
};

/// What the doors to all children have in common. `Room` is the class of the door.
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
