// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/admission.h"

#include <algorithm>
#include <iterator>

namespace mandos::networker {

using door::networker::kProvenForEachUnproven;
namespace {

/// Among the strangers of one source, the one that has been waited for the longest.
const Admission::Stranger& oldest_of(const std::vector<Admission::Ticket>& places) {
  return **std::ranges::min_element(places, {}, [](auto ticket) { return ticket->since; });
}

}  // namespace

Admission::Answer Admission::ask(const Source& source, Instant now) const {
  const auto found = by_source_.find(source);
  if (found != by_source_.end() && found->second.size() >= bounds_.per_source) {
    Answer answer = instead_of_own(found->second, now);
    answer.source_full = !answer.welcome;
    return answer;
  }
  if (!full()) return {.welcome = true};
  if (crowded()) {
    const auto& [most, largest] = *crowds_.rbegin();
    const std::size_t own = found == by_source_.end() ? 0 : found->second.size();
    if (own + 1 < most) {
      return {.welcome = true, .instead_of = oldest_of(by_source_.at(largest)).connection};
    }
    // The newcomer belongs to a crowd itself: it never displaces a peer of another source.
    return instead_of_own(found->second, now);
  }
  if (!waiting() || now < oldest_may_go()) return {.welcome = false};
  return {.welcome = true, .instead_of = oldest().connection};
}

Admission::Answer Admission::instead_of_own(const std::vector<Ticket>& places, Instant now) const {
  const Stranger& oldest = oldest_of(places);
  if (now - fair_chance() < oldest.since) return {.welcome = false};
  return {.welcome = true, .instead_of = oldest.connection};
}

Admission::Ticket Admission::enter(std::uint32_t connection, const Source& source, Instant now) {
  pace_.take(now);
  strangers_.push_back({connection, source, now});
  const Ticket ticket = std::prev(strangers_.end());
  waited_for_.emplace(std::pair(now, connection), &*ticket);
  auto& places = by_source_[source];
  places.push_back(ticket);
  count(source, places.size() - 1, places.size());
  return ticket;
}

bool Admission::establish(Ticket ticket) {
  if (established_ >= kProvenForEachUnproven * bounds_.connections) return false;
  const auto own = established_by_source_.try_emplace(ticket->source).first;
  if (own->second >= kProvenForEachUnproven * bounds_.per_source) return false;
  ++own->second;
  ++established_;
  leave(ticket);
  return true;
}

void Admission::leave_established(const Source& source) {
  --established_;
  const auto own = established_by_source_.find(source);
  if (--own->second == 0) established_by_source_.erase(own);
}

void Admission::leave(Ticket ticket) {
  const auto found = by_source_.find(ticket->source);
  std::erase(found->second, ticket);
  count(ticket->source, found->second.size() + 1, found->second.size());
  if (found->second.empty()) by_source_.erase(found);
  waited_for_.erase({ticket->since, ticket->connection});
  strangers_.erase(ticket);
}

void Admission::pause(Ticket ticket) {
  waited_for_.erase({ticket->since, ticket->connection});
  ticket->since = Instant::max();
}

void Admission::answered(Ticket ticket, Instant now) {
  pause(ticket);
  ticket->since = now;
  waited_for_.emplace(std::pair(now, ticket->connection), &*ticket);
}

void Admission::count(const Source& source, std::size_t before, std::size_t after) {
  crowds_.erase({before, source});
  if (after > 0) crowds_.insert({after, source});
}

void Admission::missed(Instant now) {
  decltype(waited_for_) anew;
  for (const auto& [key, stranger] : waited_for_) {
    stranger->since = now;
    anew.emplace(std::pair(now, stranger->connection), stranger);
  }
  waited_for_ = std::move(anew);
}

}  // namespace mandos::networker
