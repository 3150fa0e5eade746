// SPDX-License-Identifier: GPL-3.0-or-later
// The frame of a D-Bus message (D-Bus specification, "Message Format"), parsed in place. It gives
// the length of a message before all of it has arrived, and lets us take a new secret out of a
// message before GLib copies it.
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
  std::size_t body_at;  // also the length of everything before the body
  std::size_t size;     // of the whole message
};
/// Nothing: this is not a D-Bus message, or is longer than any may be.
std::optional<Head> read_head(std::span<const unsigned char> bytes);

/// The relevant parts of the header; what is missing is empty.
struct Fields {
  std::string_view sender;
  std::string_view signature;
};
/// `header` is the first Head::body_at bytes. Nothing: it is damaged.
std::optional<Fields> read_fields(const Head& head, std::span<const unsigned char> header);

/// Finds the sender in a header that is too long to buffer.
class SenderSearch {
 public:
  explicit SenderSearch(const Head& head) : little_endian_(head.little_endian) {}
  /// Adds the next piece of what follows the first kHeadSize bytes, up to Head::body_at.
  void feed(std::span<const unsigned char> piece);
  /// Empty: there is none, or it comes after a field that we cannot parse.
  const std::string& sender() const { return sender_; }

 private:
  bool little_endian_;
  bool lost_ = false;
  std::vector<unsigned char> field_;  // the first bytes of the present field
  std::uint64_t left_ = 0;            // the field's bytes after those
  std::size_t text_ = 0;              // how many of these are the sender's name
  std::string sender_;
};

/// A new secret; wiped when it is destroyed.
struct SecretBytes {
  std::vector<unsigned char> bytes;
  bool valid = true;  // false: it contained numbers out of range
  SecretBytes() = default;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();
};
/// Whether take_secret() might find one in the message.
bool may_set_secret(const Fields& fields);
/// Moves the new secret from a message that sets one to `secret`, leaving zeros in its place.
/// Callers send an array of bytes, or an array of integers if their language has only one type of
/// number. False: this is not such a message, and it is unchanged.
bool take_secret(const Head& head, const Fields& fields, std::span<unsigned char> message,
                 SecretBytes& secret);

}  // namespace mandos::bus_agent
