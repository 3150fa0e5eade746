// SPDX-License-Identifier: GPL-3.0-or-later
// The world below the monitor's code, replaced at link time: the clocks, the event loop, the doors'
// sockets, the log, the proof and the random numbers. The monitor's objects are linked as they are;
// of `common` only what is not defined in fakes.cc.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "monitor/proof.h"

namespace mandos::model {

/// What both clocks say. It stands still unless the model moves it.
extern Instant now;

/// The monitor's end of one door, seen from the other side.
struct Port {
  struct Sent {
    std::string bytes;
    std::span<const unsigned char> tail;
  };
  Door::OnDatagram deliver;
  Door::OnClosed closed;
  std::vector<Sent> sent;
};
/// All doors that exist, the youngest last.
std::vector<std::pair<const Door*, Port>>& ports();

/// Log lines since they were last cleared.
extern std::vector<std::string> log_lines;

/// The timers that are pending.
std::map<EventLoop::TimerId, std::function<void()>>& timers(EventLoop& loop);

/// A transcript as the fake check_proof() reads it: it claims that key `key` signed `nonce`. Real
/// signatures would cost a hundred times what the rest of an event does; unit/monitor/proof_test.cc
/// and the hostile tests use those.
std::string transcript(std::uint8_t key, const monitor::Nonce& nonce);
monitor::KeyId key_id(std::uint8_t key);

/// Forgets everything, for another world.
void reset();

}  // namespace mandos::model
