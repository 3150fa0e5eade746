// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/agent.h"

#include <glib-unix.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <utility>
#include <variant>

#include "bus-agent/client_object.h"
#include "bus-agent/main_loop.h"
#include "bus-agent/server_object.h"
#include "proto/bus_agent.h"

namespace mandos::bus_agent {
namespace {

using door::bus_agent::kLongestPart;

// Room for several secrets.
constexpr Channel::Limits kLimits{.receive = door::bus_agent::kLongestToBusAgent,
                                  .queue = 8 * door::bus_agent::kLongestSecret};
// How many requests the monitor may have to handle at a time; later callers wait.
constexpr std::size_t kMostOutstanding = door::bus_agent::kMostUnanswered / 2;
constexpr unsigned kRequestsPerSecond = 2000;
static_assert(kRequestsPerSecond < door::bus_agent::kMostRequestsPerSecond);
constexpr unsigned kRateWaitMs = 10;
constexpr int kDatagramsPerRound = 64;
constexpr unsigned kLateMs = 1000;
// Log lines about calls without authority: an administrator sees the first few at once.
constexpr double kAttemptLinesPerSecond = 0.1;
constexpr double kMostAttemptLines = 5;
// For how long suppressed lines are counted before their number is logged.
constexpr unsigned kReportMs = 10'000;

}  // namespace

Agent::Agent(Log& log, UniqueFd door, std::string bus_path, Access access,
             std::function<void(int status)> on_end)
    : log_(log),
      channel_(std::move(door), kLimits),
      on_end_(std::move(on_end)),
      bus_(log, std::move(bus_path), std::move(access),
           {.on_call = [this](Message& call) { return handle(call); },
            .on_signal = [this](GDBusMessage* signal) { announcer_.told(signal); },
            .on_connected = [this] { announcer_.connected(); },
            .on_lost = [this](const std::string& why) { announcer_.lost(why); }}),
      announcer_(log, bus_),
      emit_([this](const std::string& path, const char* interface, const char* member,
                   GVariant* parameters) { bus_.emit(path, interface, member, parameters); }),
      statistics_(std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now())
                      .time_since_epoch()
                      .count()),
      attempt_lines_(kAttemptLinesPerSecond, kMostAttemptLines),
      rate_(kRequestsPerSecond, kRequestsPerSecond / 10.0) {
  watch();
  ToMonitor greeting;
  greeting.mutable_greeting();
  send(greeting);
}

Agent::~Agent() { g_source_remove(watch_); }

void Agent::watch() {
  if (watch_ != 0 && watching_write_ == channel_.waiting()) return;
  if (watch_ != 0) g_source_remove(watch_);
  watching_write_ = channel_.waiting();
  const int events = G_IO_IN | G_IO_HUP | G_IO_ERR | (watching_write_ ? G_IO_OUT : 0);
  watch_ = g_unix_fd_add_full(
      // Higher than calls on the bus: events are signaled before anybody asks about them.
      G_PRIORITY_HIGH, channel_.fd(), static_cast<GIOCondition>(events),
      [](gint, GIOCondition condition, gpointer self) -> gboolean {
        return static_cast<Agent*>(self)->ready(condition) ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
      },
      this, nullptr);
}

bool Agent::ready(GIOCondition condition) {
  const guint mine = watch_;
  const auto end = [this](int status) {
    on_end_(status);
    return true;
  };
  if ((condition & G_IO_OUT) != 0) {
    if (!channel_.flush()) return end(0);
    watch();
  }
  for (int i = 0; i < kDatagramsPerRound; ++i) {
    const auto received = channel_.receive();
    if (!received) {
      log_.debug("the monitor's door: ", received.error());
      return end(0);
    }
    if (!*received) break;
    ToBusAgent message;
    const auto bytes = (*received)->bytes;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !obey(message)) {
      log_.critical("the monitor violated the rules of the door");
      return end(1);
    }
  }
  return watch_ == mine;
}

bool Agent::obey(const ToBusAgent& message) {
  switch (message.message_case()) {
    case ToBusAgent::kSettings:
      log_.set_level(static_cast<LogLevel>(message.settings().log_level()));
      dbus_ = message.settings().dbus();
      return true;
    case ToBusAgent::kAdded: {
      if (!dbus_) return true;
      const auto client = mirror_.add(message.added());
      if (client && complete_) emit_added(*client, emit_);
      return client.has_value();
    }
    case ToBusAgent::kComplete:
      if (dbus_) bus_.serve_names();
      complete_ = true;
      return true;
    case ToBusAgent::kChanged:
      if (const auto client = mirror_.change(message.changed())) {
        if (pace_.admits(message.changed(), BootClock::now())) {
          emit_changed(*client, message.changed(), emit_);
        } else {
          emit_later();
        }
      }
      return true;
    case ToBusAgent::kRemoved:
      pace_.forget(message.removed().name());
      if (const auto client = mirror_.remove(message.removed().name())) {
        emit_removed(*client, emit_);
      }
      return true;
    case ToBusAgent::kSignal:
      // Includes signals that are suppressed on the bus.
      statistics_.count(message.signal());
      if (const auto client = mirror_.by_name(message.signal().name())) {
        if (pace_.admits(message.signal(), BootClock::now())) {
          emit_signal(*client, message.signal(), emit_);
        } else {
          report_later();
        }
      }
      return true;
    case ToBusAgent::kNotFound:
      statistics_.count(message.not_found());
      emit_not_found(message.not_found(), emit_);
      return true;
    case ToBusAgent::kRestarts:
      statistics_.restarts(message.restarts());
      return true;
    case ToBusAgent::kAnnounce:
      announcer_.announce({.name = message.announce().service(),
                           .port = static_cast<std::uint16_t>(message.announce().port()),
                           .interface = message.announce().interface(),
                           .ipv4 = message.announce().ipv4(),
                           .ipv6 = message.announce().ipv6()});
      return true;
    case ToBusAgent::kWithdraw:
      announcer_.withdraw([this] {
        ToMonitor answer;
        answer.mutable_withdrawn();
        send(answer);
      });
      return true;
    case ToBusAgent::kReply:
      replied(message.reply());
      return true;
    case ToBusAgent::kPing: {
      ToMonitor pong;
      pong.mutable_pong();
      if (!channel_.send_first(pong)) on_end_(1);
      watch();
      return true;
    }
    case ToBusAgent::MESSAGE_NOT_SET:
      break;
  }
  return false;
}

void Agent::emit_later() {
  if (std::exchange(late_is_due_, true)) return;
  run_after(kLateMs, [this] {
    late_is_due_ = false;
    pace_.take_late([this](const Client& change) {
      if (const auto client = mirror_.by_name(change.name())) emit_changed(*client, change, emit_);
    });
  });
}

void Agent::attempted(guint32 user, const char* what) {
  if (attempt_lines_.take(BootClock::now())) return log_.warning("user ", user, what);
  ++attempts_left_out_;
  report_later();
}

void Agent::report_later() {
  if (!std::exchange(report_is_due_, true)) run_after(kReportMs, [this] { report(); });
}

void Agent::report() {
  report_is_due_ = false;
  if (attempts_left_out_ > 0) {
    log_.warning("attempts without authority that were not logged: ",
                 std::exchange(attempts_left_out_, 0));
  }
  pace_.take_left_out([this](const std::string& name, unsigned long count) {
    log_.warning(count, " signals of client ", escaped(name), " were suppressed");
  });
}

void Agent::send(const ToMonitor& message, Channel::Tail tail) {
  if (!channel_.send(message, {}, std::move(tail))) return on_end_(1);
  watch();
}

Bus::Handled Agent::handle(Message& call) {
  const Bus::Caller* caller = bus_.caller_of(call.get());
  if (caller == nullptr) return Bus::Handled::kUnsure;
  if (!caller->may_read) {
    attempted(caller->user, " has no authority on the bus and was refused");
    bus_.refuse(std::move(call), errors::kAccessDenied, "this account has no authority here");
    return Bus::Handled::kYes;
  }
  const auto text = [](const char* value) { return value == nullptr ? "" : value; };
  GVariant* body = g_dbus_message_get_body(call.get());
  const Variant none = own(g_variant_new("()"));
  const Method method{text(g_dbus_message_get_interface(call.get())),
                      text(g_dbus_message_get_member(call.get())),
                      body == nullptr ? none.get() : body};
  Outcome outcome = bus_agent::call({mirror_, statistics_, announcer_.name()},
                                    text(g_dbus_message_get_path(call.get())), method);
  if (const auto* answer = std::get_if<Answer>(&outcome)) {
    bus_.answer(std::move(call), answer->body.get());
    return Bus::Handled::kYes;
  }
  if (const auto* refusal = std::get_if<Refusal>(&outcome)) {
    bus_.refuse(std::move(call), refusal->error, refusal->text);
    return Bus::Handled::kYes;
  }
  auto& change = std::get<Change>(outcome);
  if (!caller->may_change) {
    attempted(caller->user, " was refused a change");
    bus_.refuse(std::move(call), errors::kAccessDenied, "only administrators may change this");
    return Bus::Handled::kYes;
  }
  SecretBytes* secret = change.request.has_secret() ? secret_of(call.get()) : nullptr;
  if (change.request.has_secret() && (secret == nullptr || !secret->valid)) {
    bus_.refuse(std::move(call), errors::kInvalidArgs,
                "Secret: found a number that is not 0 to 255");
    return Bus::Handled::kYes;
  }
  if (outstanding_.size() >= kMostOutstanding || channel_.waiting()) return Bus::Handled::kLater;
  if (!rate_.take(BootClock::now())) {
    if (!std::exchange(waiting_, true)) {
      run_after(kRateWaitMs, [this] {
        waiting_ = false;
        bus_.resume();
      });
    }
    return Bus::Handled::kLater;
  }
  if (secret != nullptr) send_secret(*secret);
  change.request.set_serial(next_serial_);
  change.request.set_who(caller->who);
  ToMonitor message;
  *message.mutable_request() = std::move(change.request);
  outstanding_[next_serial_++] = std::move(call);
  send(message);
  return Bus::Handled::kYes;
}

void Agent::send_secret(SecretBytes& secret) {
  // The channel sends what it can before it returns; the rest stays queued, and so do the bytes.
  const auto bytes = std::make_shared<SecretBytes>();
  bytes->bytes.swap(secret.bytes);
  for (std::size_t at = 0; at < bytes->bytes.size(); at += kLongestPart) {
    ToMonitor message;
    message.mutable_secret_part();
    const std::size_t size = std::min(kLongestPart, bytes->bytes.size() - at);
    send(message, {ToMonitor::kPartFieldNumber, std::span(bytes->bytes).subspan(at, size), bytes});
  }
}

void Agent::replied(const ToBusAgent::Reply& reply) {
  const auto found = outstanding_.find(reply.serial());
  if (found == outstanding_.end()) return;
  Message call = std::move(found->second);
  outstanding_.erase(found);
  if (reply.error().empty()) {
    bus_.answer(std::move(call), nothing().body.get());
  } else {
    const Variant why = own(text_variant(reply.error()));
    bus_.refuse(std::move(call), errors::kFailed, g_variant_get_string(why.get(), nullptr));
  }
  if (!waiting_) bus_.resume();
}

}  // namespace mandos::bus_agent
