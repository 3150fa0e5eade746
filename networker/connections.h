// SPDX-License-Identifier: GPL-3.0-or-later
// The connections of a networker, each from its accept to its end.
#pragma once

#include <sys/socket.h>

#include <cstdint>
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
#include "networker/complaint.h"
#include "networker/connection.h"
#include "networker/crash_note.h"
#include "networker/deadlines.h"
#include "networker/door_protocol.h"
#include "networker/exemptions.h"
#include "networker/penalties.h"
#include "networker/slot_table.h"
#include "networker/source.h"
#include "networker/source_policy.h"
#include "networker/spare_nonces.h"
#include "networker/tls.h"

namespace mandos::networker {

/// Makes room for newcomers, and carries out what each connection's state machine, the monitor and
/// the deadlines call for.
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

  // What the monitor says to connection `number`. If it has ended meanwhile, that is ignored.
  // False: the monitor broke the rules of the door.
  bool nonce(std::uint32_t number, Bytes nonce);
  bool part(std::uint32_t number, Bytes bytes, bool last);
  bool refused(std::uint32_t number);

 private:
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
  };

  std::optional<Instant> wait_for_room();
  std::optional<Instant> exhausted();
  void accepted(UniqueFd fd, const sockaddr_storage& peer);
  void hear(Guest& guest, std::uint32_t events);
  void handle(Guest& guest, Connection::Event event);
  bool progressed(std::uint32_t stranger);
  void watch_write(Guest& guest);
  void end(Guest& guest, bool delivered, Offense offense, std::string_view why);
  void overdue(std::uint32_t stranger);
  std::optional<Instant> last_read(std::uint32_t number);
  void missed(Instant now);

  EventLoop& loop_;
  Log& log_;
  Tls& tls_;
  CrashNote& crash_note_;
  DoorProtocol monitor_;
  Admission admission_;
  SourcePolicy sources_;
  SpareNonces spare_nonces_;
  SlotTable<Guest> guests_;
  Deadlines deadlines_;
  std::uint64_t ended_ = 0;
  Complaint full_{
      loop_, log_,
      "limit of unauthenticated connections reached (max_connections): closing the oldest"};
  Complaint source_full_{loop_, log_,
                         "limit of unauthenticated connections of one source reached "
                         "(max_connections_per_source): refusing more"};
  Complaint crowded_{loop_, log_,
                     "limit of connections that wait for their secret reached "
                     "(twice max_connections or max_connections_per_source): closing others"};
  Complaint exhausted_{loop_, log_, "no descriptor or memory for another connection"};
  Acceptor acceptor_;
};

}  // namespace mandos::networker
