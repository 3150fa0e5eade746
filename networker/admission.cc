// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/admission.h"

#include <algorithm>
#include <iterator>

namespace mandos::networker {

Admission::Answer Admission::ask(const Source& source, Instant now) {
  forget_served(now);
  if (punished_until_.contains(source)) return {.welcome = false};
  const auto found = by_source_.find(source);
  if (found != by_source_.end() && found->second.size() >= bounds_.per_source) {
    const Stranger& first = *found->second.front();
    if (now < first.since + fair_chance()) return {.welcome = false};
    return {.welcome = true, .instead_of = first.connection};
  }
  if (!full()) return {.welcome = true};
  if (crowded()) {
    const auto& [most, largest] = *crowds_.rbegin();
    const std::size_t own = found == by_source_.end() ? 0 : found->second.size();
    if (own + 1 < most) {
      return {.welcome = true, .instead_of = by_source_.at(largest).front()->connection};
    }
    // One of a crowd itself: never at the expense of who came alone.
    const Stranger& first = *found->second.front();
    if (now < first.since + fair_chance()) return {.welcome = false};
    return {.welcome = true, .instead_of = first.connection};
  }
  if (empty() || now < oldest_may_go()) return {.welcome = false};
  return {.welcome = true, .instead_of = oldest().connection};
}

Admission::Ticket Admission::enter(std::uint32_t connection, const Source& source, Instant now) {
  strangers_.push_back({connection, source, now});
  const Ticket ticket = std::prev(strangers_.end());
  auto& places = by_source_[source];
  places.push_back(ticket);
  count(source, places.size() - 1, places.size());
  return ticket;
}

bool Admission::establish(Ticket ticket) {
  if (established_ >= bounds_.connections) return false;
  leave(ticket);
  ++established_;
  return true;
}

void Admission::leave(Ticket ticket) {
  const auto found = by_source_.find(ticket->source);
  std::erase(found->second, ticket);
  count(ticket->source, found->second.size() + 1, found->second.size());
  if (found->second.empty()) by_source_.erase(found);
  strangers_.erase(ticket);
}

void Admission::count(const Source& source, std::size_t before, std::size_t after) {
  crowds_.erase({before, source});
  if (after > 0) crowds_.insert({after, source});
}

void Admission::punish(const Source& source, Instant now) {
  if (bounds_.penalty == Milliseconds::zero()) return;
  const Instant until = now + bounds_.penalty;
  punished_until_[source] = until;
  punished_.emplace_back(until, source);
  forget_served(now);
}

void Admission::forget_served(Instant now) {
  while (!punished_.empty() &&
         (punished_.front().first <= now || punished_.size() > kMaxPunished)) {
    const auto found = punished_until_.find(punished_.front().second);
    if (found != punished_until_.end() && found->second == punished_.front().first) {
      punished_until_.erase(found);
    }
    punished_.pop_front();
  }
}

}  // namespace mandos::networker
