// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/text.h"

namespace mandos {

std::string escaped(std::string_view bytes, std::size_t limit) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x20 && byte < 0x7f && byte != '\\' && byte != '"';
    if (out.size() + (plain ? 1 : 4) > limit) return out + "...";
    if (plain) {
      out += c;
    } else {
      out += {'\\', 'x', kLowerHex[byte >> 4], kLowerHex[byte & 15]};
    }
  }
  return out;
}

}  // namespace mandos
