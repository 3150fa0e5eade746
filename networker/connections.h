// SPDX-License-Identifier: GPL-3.0-or-later
// All connections: numbers them, carries words between them and the monitor, ends those whose time
// is over.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "common/log.h"
#include "networker/acceptor.h"
#include "networker/admission.h"
#include "networker/connection.h"
#include "networker/crash_note.h"
#include "networker/exemptions.h"
#include "networker/outbox.h"
#include "networker/penalties.h"
#include "networker/tls.h"
#include "proto/networker.h"

namespace mandos::networker {

class Connections {
 public:
  struct Policy {
    Admission::Bounds admission;
    Penalties::Bounds penalties;
    Exemptions exempt;
  };
  /// All references must outlive this, and `loop` must not run after it. A source that `crash_note`
  /// holds is refused from the start, or never refused altogether.
  Connections(EventLoop& loop, Log& log, Door& monitor, Tls& tls, CrashNote& crash_note,
              const Policy& policy, std::vector<UniqueFd> listeners);
  ~Connections();
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  // What the monitor says to connection `number`. Words to one that is over are dropped, since it
  // may have ended while they were under way. False: the monitor broke the rules of the door.
  bool nonce(std::uint32_t number, Bytes nonce);
  bool part(std::uint32_t number, Bytes bytes, bool last);
  bool refused(std::uint32_t number);

 private:
  using Nonce = std::array<unsigned char, door::networker::kNonceSize>;
  struct Guest {
    explicit Guest(UniqueFd fd) : connection(std::move(fd)) {}
    std::uint32_t number = 0;
    Connection connection;
    Source source;
    bool exempt = false;  // from penalties
    std::string address;
    std::optional<Admission::Ticket> ticket;  // while it is a stranger
    bool opened = false;                      // the monitor knows it
    bool watching_write = false;
    std::optional<EventLoop::TimerId> stalled;
  };
  struct Slot {
    std::uint32_t generation = 0;
    std::unique_ptr<Guest> guest;
  };
  /// A number that the monitor knows already, for a peer to come.
  struct Ahead {
    std::uint32_t number;
    Nonce nonce;
    Instant asked;
  };
  /// A warning that strangers can cause: logged at most once a minute, with how often it happened
  /// and by whom in the end.
  struct Complaint {
    const char* text;
    unsigned long count = 0;
    std::string latest{};
    std::optional<EventLoop::TimerId> again{};  // while none is due
  };

  Guest* find(std::uint32_t number);
  std::uint32_t take_number();
  void give_back(std::uint32_t number);
  void say_closed(std::uint32_t number, bool delivered);
  std::optional<Ahead> take_ahead(Instant now);
  std::optional<Instant> wait_for_room();
  std::optional<Instant> exhausted();
  void accepted(UniqueFd fd, const sockaddr_storage& peer);
  void hear(Guest& guest, std::uint32_t events);
  void handle(Guest& guest, Connection::Event event);
  bool progressed(std::uint32_t stranger);
  void watch_write(Guest& guest);
  void check_progress(std::uint32_t number);
  void end(Guest& guest, bool delivered, Offense offense, std::string_view why);
  void punish(const Source& source, Offense offense, std::string_view why);
  void missed();
  void tick();
  void arm_grace();
  void end_overdue();
  void complain(Complaint& complaint, std::string_view latest = {});
  void tell(Complaint& complaint);

  EventLoop& loop_;
  Log& log_;
  Door& monitor_;
  Outbox outbox_;
  Tls& tls_;
  CrashNote& crash_note_;
  const Milliseconds grace_;
  Admission admission_;
  Penalties penalties_;
  const Exemptions exempt_;
  TokenBucket penalty_lines_;  // about who is refused from now on
  std::vector<Slot> slots_;
  // First in, first out, so that a number rests as long as possible before it is used again.
  std::deque<std::uint32_t> free_slots_;
  // For peers whose version line is there when they are let in: a nonce asked for with the proof of
  // another costs the monitor no waking.
  std::deque<Ahead> ahead_;
  std::optional<Ahead> asked_ahead_;
  int asked_ = 0;  // of the monitor since it was last heard out of turn
  int heard_ = 0;  // connections, since then
  std::uint64_t ended_ = 0;
  std::optional<EventLoop::TimerId> grace_timer_;
  std::optional<EventLoop::TimerId> tick_;
  Complaint full_{
      "limit of unauthenticated connections reached (max_connections): closing the oldest"};
  Complaint source_full_{
      "limit of unauthenticated connections of one source reached "
      "(max_connections_per_source): refusing more"};
  Complaint crowded_{
      "limit of connections that wait for their secret reached "
      "(twice max_connections or max_connections_per_source): closing others"};
  Complaint penalized_{"refused connections from sources under a penalty"};
  Complaint unlogged_{"more sources are refused after repeated offenses"};
  Complaint exhausted_{"no descriptor or memory for another connection"};
  Acceptor acceptor_;
};

}  // namespace mandos::networker
