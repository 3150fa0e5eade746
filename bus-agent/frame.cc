// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/frame.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace mandos::bus_agent {
namespace {

constexpr std::uint8_t kNoReplyExpected = 1;
constexpr std::uint8_t kVersion = 1;
constexpr std::uint64_t kLongestMessage = 128UL * 1024 * 1024;
constexpr std::uint8_t kSender = 7;
constexpr std::uint8_t kSignature = 8;
constexpr std::uint64_t kLongestBusName = 255;

/// Reads one value after another. After the first missing one, every value is empty.
class Reader {
 public:
  Reader(std::span<const unsigned char> bytes, bool little_endian, std::size_t at)
      : bytes_(bytes), little_(little_endian), at_(at) {}

  bool ok() const { return ok_; }
  bool at_end() const { return at_ >= bytes_.size(); }
  std::size_t at() const { return at_; }

  void align(std::size_t to) {
    const std::size_t over = at_ % to;
    if (over != 0) take(to - over);
  }
  std::uint64_t number(std::size_t size) {
    align(size);
    std::uint64_t value = 0;
    const auto found = take(size);
    for (std::size_t i = 0; i < found.size(); ++i) {
      value = value << 8 | found[little_ ? found.size() - 1 - i : i];
    }
    return value;
  }
  std::string_view text() { return characters(number(4)); }
  std::string_view signature() { return characters(number(1)); }
  std::span<const unsigned char> take(std::uint64_t size) {
    ok_ = ok_ && size <= bytes_.size() - at_;
    if (!ok_) return {};
    const auto taken = bytes_.subspan(at_, static_cast<std::size_t>(size));
    at_ += taken.size();
    return taken;
  }

 private:
  std::string_view characters(std::uint64_t size) {
    const auto found = take(size + 1);  // followed by a zero byte
    if (found.empty()) return {};
    return {reinterpret_cast<const char*>(found.data()), found.size() - 1};
  }

  std::span<const unsigned char> bytes_;
  bool little_;
  std::size_t at_;
  bool ok_ = true;
};

/// Size of an integer or a boolean, by its type code; 0 for other types.
std::size_t size_of(char type) {
  switch (type) {
    case 'y':
      return 1;
    case 'n':
    case 'q':
      return 2;
    case 'b':
    case 'i':
    case 'u':
      return 4;
    case 'x':
    case 't':
      return 8;
    default:
      return 0;
  }
}

}  // namespace

std::optional<Head> read_head(std::span<const unsigned char> bytes) {
  if (bytes.size() < kHeadSize || (bytes[0] != 'l' && bytes[0] != 'B') || bytes[3] != kVersion) {
    return std::nullopt;
  }
  Head head{.little_endian = bytes[0] == 'l',
            .type = bytes[1],
            .wants_answer = (bytes[2] & kNoReplyExpected) == 0,
            .serial = 0,
            .body_at = 0,
            .size = 0};
  Reader reader(bytes, head.little_endian, 4);
  const std::uint64_t body = reader.number(4);
  head.serial = static_cast<std::uint32_t>(reader.number(4));
  const std::uint64_t body_at = kHeadSize + (reader.number(4) + 7) / 8 * 8;
  if (head.serial == 0 || body_at + body > kLongestMessage) return std::nullopt;
  head.body_at = static_cast<std::size_t>(body_at);
  head.size = static_cast<std::size_t>(body_at + body);
  return head;
}

std::optional<Fields> read_fields(const Head& head, std::span<const unsigned char> header) {
  if (header.size() < head.body_at) return std::nullopt;
  Reader length(header, head.little_endian, kHeadSize - 4);
  const std::uint64_t end = kHeadSize + length.number(4);
  if (end > header.size()) return std::nullopt;
  Reader reader(header.first(static_cast<std::size_t>(end)), head.little_endian, kHeadSize);
  Fields fields;
  while (!reader.at_end()) {
    reader.align(8);
    const std::uint64_t code = reader.number(1);
    const std::string_view type = reader.signature();
    std::string_view text;
    if (type == "s" || type == "o") {
      text = reader.text();
    } else if (type == "g") {
      text = reader.signature();
    } else if (type == "u") {
      reader.number(4);
    } else {
      return std::nullopt;
    }
    if (!reader.ok()) return std::nullopt;
    if (code == kSender) fields.sender = text;
    if (code == kSignature) fields.signature = text;
  }
  return fields;
}

// A field starts at a multiple of 8 with its code, the length of its type, and its type of one
// character. The rest of its first 8 bytes determines its length.
void SenderSearch::feed(std::span<const unsigned char> piece) {
  constexpr std::size_t kFieldHead = 8;
  while (!piece.empty() && !lost_) {
    if (field_.size() < kFieldHead) {
      field_.push_back(piece.front());
      piece = piece.subspan(1);
      if (field_.size() < kFieldHead) continue;
      const std::uint64_t size = Reader(field_, little_endian_, 4).number(4);
      const char type = field_[1] == 1 ? static_cast<char>(field_[2]) : '\0';
      text_ = 0;
      if (type == 's' || type == 'o') {
        left_ = (size + 1 + 7) / 8 * 8;
        if (field_[0] == kSender && size <= kLongestBusName) {
          sender_.clear();
          text_ = static_cast<std::size_t>(size);
        }
      } else if (type == 'g') {  // three bytes of it have been read
        left_ = (std::max<std::uint64_t>(field_[4] + 2U, 4) - 4 + 7) / 8 * 8;
      } else if (type == 'u') {
        left_ = 0;
      } else {
        lost_ = true;
      }
    }
    const auto taken = left_ < piece.size() ? piece.first(static_cast<std::size_t>(left_)) : piece;
    const auto text = taken.first(std::min(text_, taken.size()));
    sender_.append(text.begin(), text.end());
    text_ -= text.size();
    left_ -= taken.size();
    piece = piece.subspan(taken.size());
    if (left_ == 0) field_.clear();
  }
}

SecretBytes::~SecretBytes() {
  if (!bytes.empty()) explicit_bzero(bytes.data(), bytes.size());
}

bool may_set_secret(const Fields& fields) { return fields.signature == "ssv"; }

bool take_secret(const Head& head, const Fields& fields, std::span<unsigned char> message,
                 SecretBytes& secret) {
  if (!may_set_secret(fields)) return false;
  // Alignment is relative to the start of the message; the body starts at a multiple of 8.
  Reader reader(message, head.little_endian, head.body_at);
  reader.text();
  if (reader.text() != "Secret") return false;
  const std::string_view type = reader.signature();
  const std::size_t each = type.size() == 2 && type[0] == 'a' ? size_of(type[1]) : 0;
  if (each == 0) return false;
  const std::uint64_t announced = reader.number(4);
  reader.align(each);
  const std::size_t begin = reader.at();
  const std::size_t size = message.size() - begin;
  if (!reader.ok() || size % each != 0 || announced != size) return false;
  secret.bytes.reserve(size / each);
  for (std::size_t i = 0; i < size / each; ++i) {
    const std::uint64_t value = reader.number(each);
    secret.valid = secret.valid && value <= 0xff;
    secret.bytes.push_back(static_cast<unsigned char>(value));
  }
  explicit_bzero(message.data() + begin, size);
  return true;
}

}  // namespace mandos::bus_agent
