// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/connections.h"

#include <malloc.h>
#include <sys/epoll.h>

#include <algorithm>
#include <chrono>
#include <cstddef>

#include "networker.pb.h"

namespace mandos::networker {
namespace {

using Event = Connection::Event;
using door::networker::ToMonitor;

// A connection's number is its slot and, above, how often the slot was used before: a word of the
// monitor to a connection that is over cannot hit its successor.
constexpr unsigned kSlotBits = 20;
constexpr std::uint32_t kSlotMask = (1U << kSlotBits) - 1;

// A peer that has been promised its blob must take some of it in this time.
constexpr Milliseconds kMaxStall{60'000};
// Opens and proofs sent to the monitor before its answers are looked for; a look brings twice as
// many.
constexpr int kMostAsked = 8;
// Connections that are heard before the monitor is: a Ping of its must not wait for thousands.
constexpr int kMostHeard = 256;
// While there are connections a timer is never further ahead, so that EventLoop::on_gap works.
constexpr Milliseconds kTick{2000};
// Nonces for peers to come.
constexpr std::size_t kMostAhead = door::networker::kMostAhead / 2;
constexpr Milliseconds kExhaustedPause{100};
constexpr Milliseconds kMonitorPause{10};
constexpr Milliseconds kComplaintInterval{60'000};
// Lines about sources that are refused from now on: an administrator sees the first few at once.
constexpr double kPenaltyLinesPerSecond = 0.1;
constexpr double kMostPenaltyLines = 5;
// Strangers that are heard before they are ended: each may have a handshake to finish.
constexpr int kHeardPerRound = 64;
// What sessions leave free lies scattered in the heap, which would grow under a long flood. After
// so many connections it costs nothing beside them to give back what is free.
constexpr std::uint64_t kTrimInterval = 8192;
constexpr std::uint32_t kAlways = EPOLLIN | EPOLLRDHUP;

std::string in_seconds(Milliseconds time) {
  return concat(std::chrono::ceil<std::chrono::seconds>(time).count(), " s");
}

}  // namespace

Connections::Connections(EventLoop& loop, Log& log, Door& monitor, Tls& tls, CrashNote& crash_note,
                         const Policy& policy, std::vector<UniqueFd> listeners)
    : loop_(loop),
      log_(log),
      monitor_(monitor),
      outbox_(loop, monitor),
      tls_(tls),
      crash_note_(crash_note),
      grace_(policy.admission.grace),
      admission_(policy.admission),
      penalties_(policy.penalties),
      exempt_(policy.exempt),
      penalty_lines_(kPenaltyLinesPerSecond, kMostPenaltyLines),
      acceptor_(
          loop, log, std::move(listeners),
          {.wait_for_room = [this] { return wait_for_room(); },
           .exhausted = [this] { return exhausted(); },
           .accepted = [this](UniqueFd fd,
                              const sockaddr_storage& peer) { accepted(std::move(fd), peer); }}) {
  loop_.on_gap([this](Milliseconds) { missed(); });
  const Instant now = BootClock::now();
  for (const auto& proof : crash_note_.proofs(now)) penalties_.proved(proof.source, proof.last);
  for (const auto& deadly : crash_note_.take(now)) {
    std::optional<Milliseconds> refused;
    if (!exempt_.cover(deadly.source)) {
      refused = penalties_.add(deadly.source, Offense::kCrash, deadly.found);
    }
    if (deadly.found != now) continue;
    log_.warning("the process before this one died while it handled what ",
                 source_text(deadly.source), " sent",
                 refused ? concat(", which is refused for ", in_seconds(*refused)) : "");
  }
}

Connections::~Connections() {
  if (grace_timer_) loop_.cancel(*grace_timer_);
  for (const auto* complaint :
       {&full_, &source_full_, &crowded_, &penalized_, &unlogged_, &exhausted_}) {
    if (complaint->again) loop_.cancel(*complaint->again);
  }
  if (tick_) loop_.cancel(*tick_);
  for (auto& slot : slots_) {
    if (slot.guest == nullptr) continue;
    if (slot.guest->stalled) loop_.cancel(*slot.guest->stalled);
    loop_.unwatch(slot.guest->connection.fd());
  }
}

Connections::Guest* Connections::find(std::uint32_t number) {
  const std::uint32_t slot = number & kSlotMask;
  if (slot >= slots_.size() || slots_[slot].guest == nullptr) return nullptr;
  return slots_[slot].guest->number == number ? slots_[slot].guest.get() : nullptr;
}

std::uint32_t Connections::take_number() {
  std::uint32_t slot = static_cast<std::uint32_t>(slots_.size());
  if (free_slots_.empty()) {
    slots_.emplace_back();
  } else {
    slot = free_slots_.front();
    free_slots_.pop_front();
  }
  return slots_[slot].generation++ << kSlotBits | slot;
}

void Connections::give_back(std::uint32_t number) { free_slots_.push_back(number & kSlotMask); }

void Connections::say_closed(std::uint32_t number, bool delivered) {
  ToMonitor message;
  message.set_connection(number);
  message.mutable_closed()->set_delivered(delivered);
  outbox_.add(message);
}

std::optional<Connections::Ahead> Connections::take_ahead(Instant now) {
  while (!ahead_.empty()) {
    const Ahead first = ahead_.front();
    ahead_.pop_front();
    if (now - first.asked < grace_) return first;
    say_closed(first.number, false);
    give_back(first.number);
  }
  return std::nullopt;
}

// Newcomers: room for them is made as late as possible, when it is known who they are.

std::optional<Instant> Connections::wait_for_room() {
  // A monitor that is behind must not be buried.
  if (!monitor_.drained()) return BootClock::now() + kMonitorPause;
  const Instant now = BootClock::now();
  for (int heard = 0; admission_.full() && !admission_.crowded(); ++heard) {
    if (!admission_.waiting()) return now + kMonitorPause;
    if (now < admission_.oldest_may_go()) return admission_.oldest_may_go();
    if (heard == kHeardPerRound) return now;
    if (!progressed(admission_.oldest().connection)) break;
  }
  if (!admission_.has_turn(now)) return now + kMonitorPause;
  return std::nullopt;
}

std::optional<Instant> Connections::exhausted() {
  complain(exhausted_);
  const Instant now = BootClock::now();
  if (!admission_.waiting() || now < admission_.oldest_may_go()) return now + kExhaustedPause;
  const std::uint32_t oldest = admission_.oldest().connection;
  if (!progressed(oldest)) end(*find(oldest), false, Offense::kNone, "its descriptor is needed");
  if (find(oldest) != nullptr) return now + kExhaustedPause;
  return std::nullopt;
}

void Connections::accepted(UniqueFd fd, const sockaddr_storage& peer) {
  const Instant now = BootClock::now();
  const Source source = source_of(peer);
  const bool exempt = exempt_.cover(peer);
  if (!exempt && !penalties_.admits(source, now)) return complain(penalized_, address_text(peer));
  auto answer = admission_.ask(source, now);
  for (int heard = 0; heard < kHeardPerRound && answer.instead_of; ++heard) {
    // wait_for_room() has heard the oldest of all already: to find now that it went on would leave
    // no place for the newcomer.
    if (admission_.full() && !admission_.crowded() &&
        *answer.instead_of == admission_.oldest().connection) {
      break;
    }
    if (!progressed(*answer.instead_of)) break;
    answer = admission_.ask(source, now);
  }
  if (!answer.welcome) {
    return complain(answer.source_full ? source_full_ : full_, address_text(peer));
  }
  if (answer.instead_of) {
    complain(full_);
    end(*find(*answer.instead_of), false, Offense::kNone, "has to make room");
  }
  auto arrival = std::make_unique<Guest>(std::move(fd));
  Guest& guest = *arrival;
  guest.source = source;
  guest.exempt = exempt;
  const CrashNote::Handling noted(crash_note_, source);
  // The version line is often there already, and a nonce for it.
  const Event event = guest.connection.ready(EPOLLIN, tls_);
  std::optional<Ahead> ahead;
  if (event == Event::kSpoke) ahead = take_ahead(now);
  guest.number = ahead ? ahead->number : take_number();
  const std::uint32_t number = guest.number;
  slots_[number & kSlotMask].guest = std::move(arrival);
  guest.address = address_text(peer);
  guest.ticket = admission_.enter(number, source, now);
  arm_grace();
  if (!tick_) tick();
  loop_.watch(guest.connection.fd(), kAlways, [this, number](std::uint32_t events) {
    // The monitor's answers come first: in a rush they would queue up behind everybody's requests.
    if (asked_ >= kMostAsked || ++heard_ >= kMostHeard) {
      asked_ = heard_ = 0;
      monitor_.serve();
    }
    if (Guest* const found = find(number)) hear(*found, events);
  });
  log_.debug("connection ", number, " from ", guest.address);
  if (!ahead) return handle(guest, event);
  guest.opened = true;
  handle(guest, guest.connection.nonce(ahead->nonce, tls_));
}

// What happens to a connection.

void Connections::hear(Guest& guest, std::uint32_t events) {
  const CrashNote::Handling noted(crash_note_, guest.source);
  handle(guest, guest.connection.ready(events, tls_));
}

void Connections::handle(Guest& guest, Event event) {
  ToMonitor message;
  message.set_connection(guest.number);
  switch (event) {
    case Event::kNone:
      break;
    case Event::kSpoke:
      admission_.pause(*guest.ticket);
      message.mutable_open();
      guest.opened = true;
      outbox_.send(message);
      ++asked_;
      break;
    case Event::kAnswered:
      admission_.answered(*guest.ticket, BootClock::now());
      arm_grace();
      break;
    case Event::kProved:
      if (!admission_.establish(*guest.ticket)) {
        complain(crowded_);
        return end(guest, false, Offense::kNone, "too many wait");
      }
      guest.ticket.reset();
      message.mutable_proof()->set_transcript(guest.connection.take_transcript());
      message.mutable_proof()->set_address(guest.address);
      if (!asked_ahead_ && ahead_.size() < kMostAhead) {
        // The monitor has to be woken anyway.
        outbox_.add(message);
        asked_ahead_ = {take_number(), {}, BootClock::now()};
        message.set_connection(asked_ahead_->number);
        message.mutable_open();
      }
      outbox_.send(message);
      ++asked_;
      acceptor_.resume();
      break;
    case Event::kWritten:
      message.mutable_next_part();
      outbox_.send(message);
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
  Guest* guest = find(stranger);
  const Instant since = (*guest->ticket)->since;
  hear(*guest, EPOLLIN);
  guest = find(stranger);
  return guest == nullptr || !guest->ticket || (*guest->ticket)->since != since;
}

void Connections::watch_write(Guest& guest) {
  const bool wanted = guest.connection.wants_write();
  if (wanted == guest.watching_write) return;
  guest.watching_write = wanted;
  loop_.rewatch(guest.connection.fd(), wanted ? kAlways | EPOLLOUT : kAlways);
  if (wanted && !guest.stalled) check_progress(guest.number);
}

// Looks again no sooner than it could matter: progress does not move the timer.
void Connections::check_progress(std::uint32_t number) {
  Guest* const guest = find(number);
  if (guest == nullptr) return;
  guest->stalled.reset();
  if (!guest->connection.wants_write()) return;
  const Instant limit = guest->connection.last_progress() + kMaxStall;
  if (BootClock::now() >= limit) {
    return end(*guest, false, Offense::kDeadline, "the peer does not read");
  }
  guest->stalled = loop_.at(limit, [this, number] { check_progress(number); });
}

void Connections::end(Guest& guest, bool delivered, Offense offense, std::string_view why) {
  const CrashNote::Handling noted(crash_note_, guest.source);  // to take a session down, too
  log_.debug("connection ", guest.number, " from ", guest.address, " is over: ", why);
  if (!guest.exempt) punish(guest.source, offense, why);
  if (guest.ticket) {
    admission_.leave(*guest.ticket);
  } else {
    admission_.leave_established(guest.source);
  }
  if (guest.stalled) loop_.cancel(*guest.stalled);
  loop_.unwatch(guest.connection.fd());
  const std::uint32_t number = guest.number;
  const bool opened = guest.opened;
  slots_[number & kSlotMask].guest.reset();
  give_back(number);
  if (opened) say_closed(number, delivered);
  if (++ended_ % kTrimInterval == 0) malloc_trim(0);
  acceptor_.resume();
}

void Connections::punish(const Source& source, Offense offense, std::string_view why) {
  const Instant now = BootClock::now();
  const auto refused = penalties_.add(source, offense, now);
  if (!refused) return;
  if (!penalty_lines_.take(now)) return complain(unlogged_, source_text(source));
  log_.warning("refusing ", source_text(source), " for ", in_seconds(*refused),
               " after repeated offenses, the last: ", why,
               "; see source_penalty_time, source_penalty_threshold and source_penalty_exempt in "
               "mandos.conf(5)");
}

/// We did not run for a while: nobody is ended for what we could not hear.
void Connections::missed() {
  const Instant now = BootClock::now();
  admission_.missed(now);
  for (auto& slot : slots_) {
    if (slot.guest != nullptr) slot.guest->connection.wait_anew(now);
  }
}

void Connections::tick() {
  const bool any =
      std::ranges::any_of(slots_, [](const Slot& slot) { return slot.guest != nullptr; });
  tick_.reset();
  if (any) tick_ = loop_.after(kTick, [this] { tick(); });
}

// The grace is the same for all, so who is waited for the longest is the first that it is over for,
// and one timer serves all.

void Connections::arm_grace() {
  if (grace_timer_ || !admission_.waiting()) return;
  // Never before now, so that others have their turn.
  grace_timer_ =
      loop_.at(std::max(admission_.oldest_overdue(), BootClock::now()), [this] { end_overdue(); });
}

void Connections::end_overdue() {
  grace_timer_.reset();
  const Instant now = BootClock::now();
  for (int i = 0; i < kHeardPerRound && admission_.waiting() && admission_.oldest_overdue() <= now;
       ++i) {
    const std::uint32_t number = admission_.oldest().connection;
    if (progressed(number)) continue;
    Guest& guest = *find(number);
    // A health check may only connect.
    const Offense offense = guest.connection.silent() ? Offense::kNone : Offense::kDeadline;
    end(guest, false, offense, "no handshake within its time");
  }
  arm_grace();
}

void Connections::complain(Complaint& complaint, std::string_view latest) {
  ++complaint.count;
  complaint.latest = latest;
  if (!complaint.again) tell(complaint);
}

void Connections::tell(Complaint& complaint) {
  log_.warning(complaint.text, " (times: ", std::exchange(complaint.count, 0),
               complaint.latest.empty() ? "" : concat(", latest: ", complaint.latest), ")");
  complaint.again = loop_.after(kComplaintInterval, [this, &complaint] {
    complaint.again.reset();
    if (complaint.count > 0) tell(complaint);
  });
}

// What the monitor says.

bool Connections::nonce(std::uint32_t number, Bytes nonce) {
  if (nonce.size() != Nonce{}.size()) return false;
  if (asked_ahead_ && asked_ahead_->number == number) {
    std::ranges::copy(nonce, asked_ahead_->nonce.begin());
    ahead_.push_back(*std::exchange(asked_ahead_, std::nullopt));
    return true;
  }
  Guest* const guest = find(number);
  if (guest == nullptr) return true;
  if (!guest->connection.wants_nonce()) return false;
  const CrashNote::Handling noted(crash_note_, guest->source);
  handle(*guest, guest->connection.nonce(nonce, tls_));
  return true;
}

bool Connections::part(std::uint32_t number, Bytes bytes, bool last) {
  Guest* const guest = find(number);
  if (guest == nullptr) return true;
  if (!guest->connection.wants_part()) return false;
  const CrashNote::Handling noted(crash_note_, guest->source);
  const Instant now = BootClock::now();
  penalties_.proved(guest->source, now);
  crash_note_.proved(guest->source, now);
  handle(*guest, guest->connection.part(bytes, last, tls_));
  return true;
}

bool Connections::refused(std::uint32_t number) {
  Guest* const guest = find(number);
  if (guest == nullptr) return true;
  if (!guest->opened) return false;
  end(*guest, false, Offense::kNone, "refused by the monitor");
  return true;
}

}  // namespace mandos::networker
