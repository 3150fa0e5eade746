// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/source_policy.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace mandos::networker {
namespace {

// Lines about sources that are refused from now on: an administrator sees the first few at once.
constexpr double kLinesPerSecond = 0.1;
constexpr double kMostLines = 5;

std::string in_seconds(Milliseconds time) {
  return concat(std::chrono::ceil<std::chrono::seconds>(time).count(), " s");
}

}  // namespace

SourcePolicy::SourcePolicy(EventLoop& loop, Log& log, CrashNote& crash_note,
                           const Penalties::Bounds& bounds, Exemptions exempt)
    : log_(log),
      crash_note_(crash_note),
      penalties_(bounds),
      exempt_(std::move(exempt)),
      lines_(kLinesPerSecond, kMostLines),
      refused_(loop, log, "refused connections from sources under a penalty"),
      unlogged_(loop, log, "more sources are refused after repeated offenses") {
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

bool SourcePolicy::admits(const sockaddr_storage& address, const Source& source) {
  if (penalties_.admits(source, BootClock::now())) return true;
  refused_.add(address_text(address));
  return false;
}

void SourcePolicy::punish(const Source& source, Offense offense, std::string_view why) {
  const Instant now = BootClock::now();
  const auto refused = penalties_.add(source, offense, now);
  if (!refused) return;
  if (!lines_.take(now)) return unlogged_.add(source_text(source));
  log_.warning("refusing ", source_text(source), " for ", in_seconds(*refused),
               " after repeated offenses, the last: ", why,
               "; see source_penalty_time, source_penalty_threshold and source_penalty_exempt in "
               "mandos.conf(5)");
}

void SourcePolicy::proved(const Source& source) {
  const Instant now = BootClock::now();
  penalties_.proved(source, now);
  crash_note_.proved(source, now);
}

}  // namespace mandos::networker
