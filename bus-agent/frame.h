// SPDX-License-Identifier: GPL-3.0-or-later
// The frame of a D-Bus message (D-Bus specification, "Message Format"), read where it lies. It
// tells how long a message is before all of it is there, and takes a new secret out of a message
// before GLib makes its copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mandos::bus_agent {

/// The first bytes of every message.
inline constexpr std::size_t kHeadSize = 16;
struct Head {
  bool little_endian;
  std::uint8_t type;
  bool wants_answer;
  std::uint32_t serial;
  std::uint64_t body_at;  // also the length of what is before the body
  std::uint64_t size;     // of the whole message
};
/// Nothing: this is no D-Bus message, or one that is longer than any may be.
std::optional<Head> read_head(std::span<const unsigned char> bytes);

/// What the header says, as far as it matters here; what is missing is empty.
struct Fields {
  std::string_view sender;
  std::string_view signature;
};
/// `header` is the first Head::body_at bytes. Nothing: it is damaged.
std::optional<Fields> read_fields(const Head& head, std::span<const unsigned char> header);

/// Finds the sender in a header that is too long to keep.
class SenderSearch {
 public:
  explicit SenderSearch(const Head& head) : little_endian_(head.little_endian) {}
  /// The next piece of what follows the first kHeadSize bytes, up to Head::body_at.
  void feed(std::span<const unsigned char> piece);
  /// Empty: there is none, or it follows a field that we cannot read.
  const std::string& sender() const { return sender_; }

 private:
  bool little_endian_;
  bool lost_ = false;
  std::vector<unsigned char> field_;  // the first bytes of the field at hand
  std::uint64_t left_ = 0;            // bytes of it that follow those
  std::size_t text_ = 0;              // of these, how many are the sender's name
  std::string sender_;
};

/// A new secret; overwritten when it goes.
struct SecretBytes {
  std::vector<unsigned char> bytes;
  bool valid = true;  // false: it held numbers that are no bytes
  SecretBytes() = default;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();
};
/// Whether take_secret() may find one in the message.
bool may_set_secret(const Fields& fields);
/// Moves the new secret out of a message that sets one, into `secret`: zeros are left in its place.
/// Callers write an array of bytes; those whose language has one kind of number, an array of
/// integers. False: this is no such message, and it is as it was.
bool take_secret(const Head& head, const Fields& fields, std::span<unsigned char> message,
                 SecretBytes& secret);

}  // namespace mandos::bus_agent
