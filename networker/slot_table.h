// SPDX-License-Identifier: GPL-3.0-or-later
// Which connection has which number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

namespace mandos::networker {

/// Finds each `T` by its number in constant time. A number is a slot and, above it, how often the
/// slot was used before. So a message to a connection that has ended does not reach the one that
/// has its slot now.
template <class T>
class SlotTable {
 public:
  /// A number that nobody has. It is taken until remove().
  std::uint32_t take_number() {
    if (free_.empty()) {
      free_.push_back(slots_.size());
      slots_.push_back({static_cast<std::uint32_t>(slots_.size()) - kUses, nullptr});
    }
    Slot& slot = slots_[free_.front()];
    free_.pop_front();
    return slot.number += kUses;
  }
  /// Gives `number`, which was taken, to `entry`.
  void put(std::uint32_t number, std::unique_ptr<T> entry) {
    slots_[number % kUses].entry = std::move(entry);
  }
  /// Null if nobody has `number`.
  T* find(std::uint32_t number) {
    const std::size_t slot = number % kUses;
    return slot < slots_.size() && slots_[slot].number == number ? slots_[slot].entry.get()
                                                                 : nullptr;
  }
  /// Destroys the entry that has `number`, which was taken, if there is one, and frees the number.
  void remove(std::uint32_t number) {
    slots_[number % kUses].entry.reset();
    free_.push_back(number % kUses);
  }
  template <class Function>
  void for_each(Function function) {
    for (auto& slot : slots_) {
      if (slot.entry != nullptr) function(*slot.entry);
    }
  }

 private:
  static constexpr std::uint32_t kUses = 1U << 20;  // more than there can be connections
  struct Slot {
    std::uint32_t number;  // the latest that it had
    std::unique_ptr<T> entry;
  };
  std::vector<Slot> slots_;
  // First in, first out, so that a number rests as long as possible before its slot is used again.
  std::deque<std::size_t> free_;
};

}  // namespace mandos::networker
