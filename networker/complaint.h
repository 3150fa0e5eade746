// SPDX-License-Identifier: GPL-3.0-or-later
// Warnings that peers can cause as often as they like, without filling the log.
#pragma once

#include <string>
#include <string_view>

#include "common/event_loop.h"
#include "common/log.h"
#include "networker/timer.h"

namespace mandos::networker {

/// One warning. It is logged at once, and then at most once a minute, with how often it happened
/// since the last line and who caused it last.
class Complaint {
 public:
  /// References and `text` must outlive this.
  Complaint(EventLoop& loop, Log& log, const char* text) : log_(log), text_(text), again_(loop) {}

  /// It happened again, because of `latest`, if that is known.
  void add(std::string_view latest = {});

 private:
  void write();

  Log& log_;
  const char* text_;
  unsigned long count_ = 0;
  std::string latest_;
  Timer again_;  // set while no line is due
};

}  // namespace mandos::networker
