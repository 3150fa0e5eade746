// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/spare_nonces.h"

#include <algorithm>
#include <utility>

namespace mandos::networker {

bool SpareNonces::received(std::uint32_t number, std::span<const unsigned char> nonce) {
  if (!requested_ || requested_->number != number) return false;
  std::ranges::copy(nonce, requested_->nonce.begin());
  spares_.push_back(*std::exchange(requested_, std::nullopt));
  return true;
}

std::optional<SpareNonces::Spare> SpareNonces::take(
    Instant now, const std::function<void(std::uint32_t number)>& expired) {
  while (!spares_.empty()) {
    const Spare first = spares_.front();
    spares_.pop_front();
    if (now - first.requested < lifetime_) return first;
    expired(first.number);
  }
  return std::nullopt;
}

}  // namespace mandos::networker
