// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/complaint.h"

#include <utility>

namespace mandos::networker {
namespace {

constexpr Milliseconds kInterval{60'000};

}  // namespace

void Complaint::add(std::string_view latest) {
  ++count_;
  latest_ = latest;
  if (!again_.is_set()) write();
}

void Complaint::write() {
  log_.warning(text_, " (times: ", std::exchange(count_, 0),
               latest_.empty() ? "" : concat(", latest: ", latest_), ")");
  again_.set(BootClock::now() + kInterval, [this] {
    if (count_ > 0) write();
  });
}

}  // namespace mandos::networker
