// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/connections.h"

#include <malloc.h>
#include <sys/epoll.h>

namespace mandos::networker {
namespace {

using Event = Connection::Event;

constexpr Milliseconds kExhaustedPause{100};
constexpr Milliseconds kMonitorPause{10};
// What sessions leave free lies scattered in the heap, which would grow under a long flood. After
// so many connections it costs nothing beside them to give back what is free.
constexpr std::uint64_t kTrimInterval = 8192;
constexpr std::uint32_t kAlways = EPOLLIN | EPOLLRDHUP;

}  // namespace

Connections::Connections(EventLoop& loop, Log& log, Door& monitor, Tls& tls, CrashNote& crash_note,
                         const Policy& policy, std::vector<UniqueFd> listeners)
    : loop_(loop),
      log_(log),
      tls_(tls),
      crash_note_(crash_note),
      monitor_(loop, monitor),
      admission_(policy.admission),
      sources_(loop, log, crash_note, policy.penalties, policy.exempt),
      spare_nonces_(policy.admission.grace),
      deadlines_(loop, admission_,
                 {.overdue = [this](std::uint32_t stranger) { overdue(stranger); },
                  .last_read = [this](std::uint32_t number) { return last_read(number); },
                  .stalled =
                      [this](std::uint32_t number) {
                        end(*guests_.find(number), false, Offense::kDeadline,
                            "the peer does not read");
                      },
                  .missed = [this](Instant now) { missed(now); }}),
      acceptor_(
          loop, log, std::move(listeners),
          {.wait_for_room = [this] { return wait_for_room(); },
           .exhausted = [this] { return exhausted(); },
           .accepted = [this](UniqueFd fd,
                              const sockaddr_storage& peer) { accepted(std::move(fd), peer); }}) {}

Connections::~Connections() {
  guests_.for_each([this](Guest& guest) { loop_.unwatch(guest.connection.fd()); });
}

// Newcomers: room for them is made as late as possible, when it is known who they are.

std::optional<Instant> Connections::wait_for_room() {
  const Instant now = BootClock::now();
  if (monitor_.is_behind()) return now + kMonitorPause;
  for (int heard = 0; admission_.full() && !admission_.crowded(); ++heard) {
    if (!admission_.waiting()) return now + kMonitorPause;
    if (now < admission_.oldest_may_go()) return admission_.oldest_may_go();
    if (heard == Deadlines::kHeardPerRound) return now;
    if (!progressed(admission_.oldest().connection)) break;
  }
  if (!admission_.has_turn(now)) return now + kMonitorPause;
  return std::nullopt;
}

std::optional<Instant> Connections::exhausted() {
  exhausted_.add();
  const Instant now = BootClock::now();
  if (!admission_.waiting() || now < admission_.oldest_may_go()) return now + kExhaustedPause;
  const std::uint32_t oldest = admission_.oldest().connection;
  if (!progressed(oldest)) {
    end(*guests_.find(oldest), false, Offense::kNone, "its descriptor is needed");
  }
  if (guests_.find(oldest) != nullptr) return now + kExhaustedPause;
  return std::nullopt;
}

void Connections::accepted(UniqueFd fd, const sockaddr_storage& peer) {
  const Instant now = BootClock::now();
  const Source source = source_of(peer);
  const bool exempt = sources_.exempts(peer);
  if (!exempt && !sources_.admits(peer, source)) return;
  auto answer = admission_.ask(source, now);
  for (int heard = 0; heard < Deadlines::kHeardPerRound && answer.instead_of; ++heard) {
    // wait_for_room() has heard the oldest of all already: to find now that it went on would leave
    // no place for the newcomer.
    if (admission_.full() && !admission_.crowded() &&
        *answer.instead_of == admission_.oldest().connection) {
      break;
    }
    if (!progressed(*answer.instead_of)) break;
    answer = admission_.ask(source, now);
  }
  if (!answer.welcome) return (answer.source_full ? source_full_ : full_).add(address_text(peer));
  if (answer.instead_of) {
    full_.add();
    end(*guests_.find(*answer.instead_of), false, Offense::kNone, "has to make room");
  }
  auto arrival = std::make_unique<Guest>(std::move(fd));
  Guest& guest = *arrival;
  guest.source = source;
  guest.exempt = exempt;
  const CrashNote::Handling noted(crash_note_, source);
  // The version line is often there already, and a nonce for it.
  const Event event = guest.connection.ready(EPOLLIN, tls_);
  std::optional<SpareNonces::Spare> spare;
  if (event == Event::kSpoke) {
    spare = spare_nonces_.take(now, [this](std::uint32_t expired) {
      monitor_.closed(expired, false);
      guests_.remove(expired);
    });
  }
  const std::uint32_t number = spare ? spare->number : guests_.take_number();
  guest.number = number;
  guests_.put(number, std::move(arrival));
  guest.address = address_text(peer);
  guest.ticket = admission_.enter(number, source, now);
  deadlines_.opened();
  deadlines_.watch_strangers();
  loop_.watch(guest.connection.fd(), kAlways, [this, number](std::uint32_t events) {
    monitor_.let_speak();
    if (Guest* const found = guests_.find(number)) hear(*found, events);
  });
  log_.debug("connection ", number, " from ", guest.address);
  if (!spare) return handle(guest, event);
  guest.opened = true;
  handle(guest, guest.connection.nonce(spare->nonce, tls_));
}

// What happens to a connection.

void Connections::hear(Guest& guest, std::uint32_t events) {
  const CrashNote::Handling noted(crash_note_, guest.source);
  handle(guest, guest.connection.ready(events, tls_));
}

void Connections::handle(Guest& guest, Event event) {
  switch (event) {
    case Event::kNone:
      break;
    case Event::kSpoke:
      admission_.pause(*guest.ticket);
      guest.opened = true;
      monitor_.open(guest.number);
      break;
    case Event::kAnswered:
      admission_.answered(*guest.ticket, BootClock::now());
      deadlines_.watch_strangers();
      break;
    case Event::kProved: {
      if (!admission_.establish(*guest.ticket)) {
        crowded_.add();
        return end(guest, false, Offense::kNone, "too many wait");
      }
      guest.ticket.reset();
      std::optional<std::uint32_t> spare;
      if (spare_nonces_.wanted()) {
        spare = guests_.take_number();
        spare_nonces_.requested(*spare, BootClock::now());
      }
      monitor_.prove(guest.number, guest.connection.take_transcript(), guest.address, spare);
      acceptor_.resume();
      break;
    }
    case Event::kWritten:
      monitor_.next_part(guest.number);
      break;
    case Event::kDelivered:
      return end(guest, true, Offense::kNone, "delivered");
    case Event::kGone:
      return end(guest, false, Offense::kNone, guest.connection.problem());
    case Event::kBroken:
      return end(guest, false, Offense::kViolation, guest.connection.problem());
  }
  watch_write(guest);
}

/// Before a stranger is ended because it keeps others waiting: what it sent may lie unread when we
/// are what is slow. Reads it; true if that brought the handshake further or to its end.
bool Connections::progressed(std::uint32_t stranger) {
  Guest* guest = guests_.find(stranger);
  const Instant since = (*guest->ticket)->since;
  hear(*guest, EPOLLIN);
  guest = guests_.find(stranger);
  return guest == nullptr || !guest->ticket || (*guest->ticket)->since != since;
}

void Connections::watch_write(Guest& guest) {
  const bool wanted = guest.connection.wants_write();
  if (wanted == guest.watching_write) return;
  guest.watching_write = wanted;
  loop_.rewatch(guest.connection.fd(), wanted ? kAlways | EPOLLOUT : kAlways);
  if (wanted) deadlines_.watch_reader(guest.number);
}

void Connections::end(Guest& guest, bool delivered, Offense offense, std::string_view why) {
  const CrashNote::Handling noted(crash_note_, guest.source);  // to take a session down, too
  log_.debug("connection ", guest.number, " from ", guest.address, " is over: ", why);
  if (!guest.exempt) sources_.punish(guest.source, offense, why);
  if (guest.ticket) {
    admission_.leave(*guest.ticket);
  } else {
    admission_.leave_established(guest.source);
  }
  loop_.unwatch(guest.connection.fd());
  const std::uint32_t number = guest.number;
  const bool opened = guest.opened;
  deadlines_.closed(number);
  guests_.remove(number);
  if (opened) monitor_.closed(number, delivered);
  if (++ended_ % kTrimInterval == 0) malloc_trim(0);
  acceptor_.resume();
}

// What the deadlines call for.

void Connections::overdue(std::uint32_t stranger) {
  if (progressed(stranger)) return;
  Guest& guest = *guests_.find(stranger);
  // A health check may only connect.
  const Offense offense = guest.connection.silent() ? Offense::kNone : Offense::kDeadline;
  end(guest, false, offense, "no handshake within its time");
}

std::optional<Instant> Connections::last_read(std::uint32_t number) {
  const Guest& guest = *guests_.find(number);
  if (!guest.connection.wants_write()) return std::nullopt;
  return guest.connection.last_progress();
}

void Connections::missed(Instant now) {
  admission_.missed(now);
  guests_.for_each([now](Guest& guest) { guest.connection.wait_anew(now); });
}

// What the monitor says.

bool Connections::nonce(std::uint32_t number, Bytes nonce) {
  if (nonce.size() != door::networker::kNonceSize) return false;
  if (spare_nonces_.received(number, nonce)) return true;
  Guest* const guest = guests_.find(number);
  if (guest == nullptr) return true;
  if (!guest->connection.wants_nonce()) return false;
  const CrashNote::Handling noted(crash_note_, guest->source);
  handle(*guest, guest->connection.nonce(nonce, tls_));
  return true;
}

bool Connections::part(std::uint32_t number, Bytes bytes, bool last) {
  Guest* const guest = guests_.find(number);
  if (guest == nullptr) return true;
  if (!guest->connection.wants_part()) return false;
  const CrashNote::Handling noted(crash_note_, guest->source);
  sources_.proved(guest->source);
  handle(*guest, guest->connection.part(bytes, last, tls_));
  return true;
}

bool Connections::refused(std::uint32_t number) {
  Guest* const guest = guests_.find(number);
  if (guest == nullptr) return true;
  if (!guest->opened) return false;
  end(*guest, false, Offense::kNone, "refused by the monitor");
  return true;
}

}  // namespace mandos::networker
