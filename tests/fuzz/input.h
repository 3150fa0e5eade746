// SPDX-License-Identifier: GPL-3.0-or-later
// An input taken apart, and what a target does when a promise is broken.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

namespace mandos::fuzz {

/// Ends the process, which the fuzzer takes for a crash, unless `promise` holds.
inline void require(bool promise, std::string_view what, std::string_view detail = {}) {
  if (promise) return;
  static_cast<void>(std::fprintf(
      stderr, "broken promise: %.*s%s%.*s\n", static_cast<int>(what.size()), what.data(),
      detail.empty() ? "" : ": ", static_cast<int>(detail.size()), detail.data()));
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Bytes from the front, zeros and nothing behind the end.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(text_of(data, size)) {}

  bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    const auto taken = bytes(1);
    return taken.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(taken[0]);
  }
  bool flag() { return (byte() & 1) != 0; }
  /// From 0 to `limit` - 1.
  unsigned below(unsigned limit) { return byte() % limit; }
  /// `width` bytes, the least significant first.
  std::uint64_t number(unsigned width) {
    std::uint64_t out = 0;
    for (unsigned i = 0; i < width; ++i) out |= std::uint64_t{byte()} << 8 * i;
    return out;
  }
  /// The same, as far as it fits.
  std::size_t size(unsigned width) { return static_cast<std::size_t>(number(width)); }
  std::string_view bytes(std::size_t size) {
    const auto taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  /// Behind their length in `width` bytes.
  std::string_view sized(unsigned width) { return bytes(size(width)); }
  std::string_view rest() { return bytes(rest_.size()); }

 private:
  std::string_view rest_;
};

}  // namespace mandos::fuzz
