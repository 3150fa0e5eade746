// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/networker.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace mandos::networker {
namespace {

using door::networker::ToMonitor;
using door::networker::ToNetworker;

// No new peer is admitted while something waits, so this is one transcript per connection.
constexpr std::size_t kMaxQueued = 256UL * 1024 * 1024;
// Other than connections and listening sockets: standard streams, door, log, epoll, timer, and a
// connection that is accepted to be refused.
constexpr std::size_t kOtherFiles = 10;
constexpr std::size_t kMaxConnections = 300'000;

}  // namespace

Networker::Networker(EventLoop& loop, Log& log, UniqueFd door, std::size_t max_files,
                     CrashNote& crash_note)
    : loop_(loop),
      log_(log),
      max_files_(max_files),
      crash_note_(crash_note),
      door_(
          loop, std::move(door),
          {.receive = door::networker::kLongestToNetworker,
           .queue = kMaxQueued,
           .descriptors = door::networker::kMostListeners},
          [this](Channel::Datagram datagram) { received(std::move(datagram)); },
          [this](const std::string&) {
            if (!stopped_) loop_.stop(0);
          }) {}

void Networker::stop(std::string_view why) {
  log_.critical(why);
  stopped_ = true;
  loop_.stop(1);
}

void Networker::received(Channel::Datagram datagram) {
  if (stopped_) return;
  if (!message_.ParseFromArray(datagram.bytes.data(), static_cast<int>(datagram.bytes.size()))) {
    return stop("the monitor sent an invalid message");
  }
  if (connections_) {
    const bool obeyed = datagram.descriptors.empty() && obey();
    if (message_.has_part()) {
      explicit_bzero(message_.mutable_blob()->data(), message_.blob().size());
      door_.wipe_received();
    }
    if (!obeyed) stop("the monitor violated the rules of the door");
    return;
  }
  if (!message_.has_settings()) return stop("the monitor's first message is not Settings");
  const Status started = start(message_.settings(), std::move(datagram.descriptors));
  ToMonitor greeting;
  greeting.mutable_greeting();
  if (!started) {
    greeting.mutable_greeting()->set_problem(
        started.error().substr(0, door::networker::kLongestProblem));
  }
  Outbox(loop_, door_).send(greeting);
  if (started) return;
  stopped_ = true;  // the monitor logs the reason
  loop_.stop(1);
}

Status Networker::start(const ToNetworker::Settings& settings, std::vector<UniqueFd> listeners) {
  log_.set_level(static_cast<LogLevel>(settings.log_level()));
  if (settings.tls_debug_level() > 0) Tls::set_debug(log_, settings.tls_debug_level());
  auto tls = Tls::make(settings.priority());
  if (!tls) return Error{concat(settings.priority_place(), tls.error())};
  tls_ = *std::move(tls);
  if (settings.max_connections() == 0 || settings.max_per_source() == 0 ||
      settings.login_grace_ms() == 0) {
    return Error{"the bounds on connections must not be zero"};
  }
  if (listeners.empty()) return Error{"no listening socket"};

  auto exempt = Exemptions::parse(settings.penalty_exempt());
  if (!exempt) return Error{concat(settings.exempt_place(), exempt.error())};

  Admission::Bounds bounds{
      .connections = settings.max_connections(),
      .per_source = settings.max_per_source(),
      .grace = Milliseconds(settings.login_grace_ms()),
  };
  // Room for this many strangers and the established connections.
  const std::size_t others = kOtherFiles + listeners.size();
  const std::size_t left = max_files_ > others ? max_files_ - others : 0;
  const std::size_t possible = std::clamp(left / (1 + door::networker::kProvenForEachUnproven),
                                          std::size_t{1}, kMaxConnections);
  if (bounds.connections > possible) {
    log_.warning("at most ", possible, " connections instead of ", bounds.connections,
                 ": the limit on open files is ", max_files_);
    bounds.connections = possible;
  }
  connections_.emplace(
      loop_, log_, door_, *tls_, crash_note_,
      Connections::Policy{.admission = bounds,
                          .penalties = {Milliseconds(settings.penalty_ms()),
                                        std::max(settings.penalty_threshold(), 1U)},
                          .exempt = *std::move(exempt)},
      std::move(listeners));
  return Ok{};
}

bool Networker::obey() {
  switch (message_.message_case()) {
    case ToNetworker::kNonce:
      return connections_->nonce(message_.connection(), as_bytes(message_.nonce().nonce()));
    case ToNetworker::kPart:
      return connections_->part(message_.connection(), as_bytes(message_.blob()),
                                message_.part().last());
    case ToNetworker::kRefused:
      return connections_->refused(message_.connection());
    case ToNetworker::kPing: {
      // Goes ahead of the queue, or it would look as if we hung although we are only busy.
      ToMonitor pong;
      pong.mutable_pong();
      door::networker::Datagram answer;
      pong.SerializeToString(answer.add_messages());
      door_.send_first(answer);
      return true;
    }
    default:
      return false;
  }
}

}  // namespace mandos::networker
