// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/penalties.h"

#include <algorithm>

namespace mandos::networker {
namespace {

// The weight of an offense is the time that it takes to be forgiven.
constexpr std::chrono::nanoseconds kViolation =
    std::chrono::nanoseconds(std::chrono::seconds(1)) / Penalties::kForgivenPerSecond;

}  // namespace

std::optional<Milliseconds> Penalties::add(const Source& source, Offense offense, Instant now) {
  if (bounds_.time == Milliseconds(0) || offense == Offense::kNone) return std::nullopt;
  const auto limit = kViolation * bounds_.threshold;
  const auto [found, is_new] = offenders_.try_emplace(source);
  Offender& offender = found->second;
  if (!is_new) by_end_.erase({offender.forgotten(), source});
  offender.clean = std::max(offender.clean, now) + (offense == Offense::kCrash ? limit
                                                    : offense == Offense::kViolation
                                                        ? kViolation
                                                        : kViolation / kDeadlinesPerViolation);
  std::optional<Milliseconds> refused;
  if (offender.clean - now >= limit) {
    offender.clean -= limit;
    offender.refused_until = std::min(std::max(offender.refused_until, now) + bounds_.time,
                                      now + kLongest * bounds_.time);
    refused = std::chrono::ceil<Milliseconds>(offender.refused_until - now);
  }
  by_end_.emplace(offender.forgotten(), source);
  forget(now);
  return refused;
}

bool Penalties::admits(const Source& source, Instant now) {
  forget(now);
  const auto offender = offenders_.find(source);
  if (offender == offenders_.end() || offender->second.refused_until <= now) return true;
  const auto proven = proven_.find(source);
  return proven != proven_.end() && proven->second.allowance.take(now);
}

void Penalties::proved(const Source& source, Instant now) {
  const auto [found, is_new] = proven_.try_emplace(source);
  if (!is_new) by_proof_.erase({found->second.last, source});
  found->second.last = now;
  by_proof_.emplace(now, source);
  forget(now);
}

void Penalties::forget(Instant now) {
  while (!by_end_.empty() && (by_end_.begin()->first <= now || by_end_.size() > kMaxOffenders)) {
    offenders_.erase(by_end_.begin()->second);
    by_end_.erase(by_end_.begin());
  }
  while (!by_proof_.empty() &&
         (by_proof_.begin()->first + kProofRemembered <= now || by_proof_.size() > kMaxProven)) {
    proven_.erase(by_proof_.begin()->second);
    by_proof_.erase(by_proof_.begin());
  }
}

}  // namespace mandos::networker
