// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/doors/bus_agent.h"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "monitor/openpgp.h"

namespace mandos::monitor {
namespace {

using namespace door::bus_agent;

constexpr Channel::Limits kLimits{.receive = kLongestToMonitor, .queue = 32UL * 1024 * 1024};
// If more than this is queued, updates of clients wait and signals are dropped; the rest is
// reserved for messages that must be sent. Ten thousand clients of a few hundred bytes fit twice.
constexpr std::size_t kMostQueued = kLimits.queue / 2;

std::string clipped(const std::string& text, std::size_t most = kLongestText) {
  return text.substr(0, most);
}

std::int64_t on_wire(const std::optional<WallTime>& time) {
  return time ? time->time_since_epoch().count() : 0;
}
std::uint64_t on_wire(Milliseconds duration, std::size_t = 0) {
  return static_cast<std::uint64_t>(duration.count());
}
template <std::integral T>
T on_wire(T number, std::size_t = 0) {
  return number;
}
std::string on_wire(const std::string& text, std::size_t most) { return clipped(text, most); }
std::string on_wire(const std::optional<KeyId>& id, std::size_t) { return id ? id->text() : ""; }

using Out = door::bus_agent::Client;
using enum Property;
// Where the properties that are no settings come from, but for the path, and where they go.
constexpr std::tuple kStates{
    std::tuple(kCreated, &Client::created, &Out::set_created),
    std::tuple(kExpires, &Client::expires_shown, &Out::set_expires),
    std::tuple(kLastApprovalRequest, &Client::last_approval_request,
               &Out::set_last_approval_request),
    std::tuple(kLastCheckedOk, &Client::last_checked_ok, &Out::set_last_checked_ok),
    std::tuple(kLastEnabled, &Client::last_enabled, &Out::set_last_enabled),
    std::tuple(kLastCheckerStatus, &Client::last_checker_status, &Out::set_last_checker_status),
    std::tuple(kApprovalPending, &Client::approval_pending, &Out::set_approval_pending),
    std::tuple(kCheckerRunning, &Client::checker_running, &Out::set_checker_running)};

Out shown(const Client& client, const Properties& which) {
  const auto has = [&which](Property p) { return which.test(static_cast<std::size_t>(p)); };
  Out out;
  out.set_name(client.name);
  if (has(kObjectPath)) out.set_path(clipped(client.object_path, kLongestLabel));
  if (has(kSecret)) out.set_secret(true);
  if (client.settings->secret && (has(kSecret) || has(kObjectPath))) {
    const auto bytes = client.settings->secret->bytes();
    out.set_secret_form(static_cast<std::uint32_t>(
        judge_openpgp({reinterpret_cast<const char*>(bytes.data()), bytes.size()})));
  }
#define IDENTITY(type, name, property, ...) \
  if (has(k##property)) out.set_##name(on_wire(client.settings->name, kLongestLabel));
#define SETTING(type, name, property, ...) \
  if (has(k##property)) out.set_##name(on_wire(client.settings->name, kLongestText));
#define STATE(type, name, property, ...) \
  if (has(k##property)) out.set_##name(on_wire(client.name()));
  MANDOS_CLIENT_SETTINGS(IDENTITY, MANDOS_NO_ROW, SETTING, STATE)
#undef IDENTITY
#undef SETTING
#undef STATE
  const auto state = [&](Property p, auto member, auto set) {
    if (has(p)) (out.*set)(on_wire(std::invoke(member, client)));
  };
  std::apply([&](const auto&... row) { (std::apply(state, row), ...); }, kStates);
  return out;
}

/// What is sent of a client once, when it is new.
constexpr auto kOnce = static_cast<std::size_t>(Property::kObjectPath);
const Properties kAll = Properties().set().reset(static_cast<std::size_t>(Property::kSecret));

/// nullptr if there is no memory.
SecretPtr kept(const SecretString& bytes) try {
  return std::make_shared<const Secret>(as_bytes(bytes));
} catch (const std::bad_alloc&) {
  return nullptr;
}

}  // namespace

std::span<const DoorRow<BusAgentDoor, ToMonitor>> BusAgentDoor::rows() {
  static constexpr DoorRow<BusAgentDoor, ToMonitor> kRows[] = {
      {ToMonitor::kGreeting, "Greeting", kUngreeted, kLongestOther, 1, &BusAgentDoor::greeting},
      {ToMonitor::kSecretPart, "SecretPart", kGreeted | kWithdrawing, kLongestSecretPart,
       kMostPartsPerSecond, &BusAgentDoor::secret_part},
      {ToMonitor::kRequest, "Request", kGreeted | kWithdrawing, kLongestRequest,
       kMostRequestsPerSecond, &BusAgentDoor::request},
      {ToMonitor::kWithdrawn, "Withdrawn", kWithdrawing, kLongestOther, 1,
       &BusAgentDoor::withdrawn},
      {ToMonitor::kPong, "Pong", kAsked, kLongestOther, 1, &BusAgentDoor::pong},
  };
  return kRows;
}

BusAgentDoor::BusAgentDoor(EventLoop& loop, Registry& registry, UniqueFd door, Options options)
    : ChildDoor(
          loop, std::move(door), kLimits, [this](std::string_view bytes) { on_datagram(bytes); },
          [this](const std::string& why) { options_.on_broken(why); }, std::move(options.on_alive)),
      registry_(registry),
      options_(std::move(options)) {
  tell([this](auto& message) { *message.mutable_settings() = options_.settings; });
  registry_.for_each([this](const Client& client) { owed_[client.name] = kAll; });
  door_.on_drained([this] { pay(); });
  pay();
}

void BusAgentDoor::on_datagram(std::string_view bytes) {
  const char* broken = table_.dispatch(*this, bytes);
  door_.wipe_received();
  if (broken != nullptr) door_.fail(broken);
}

void BusAgentDoor::pay() {
  while ((!owed_.empty() || !complete_) && door_.queued() < kMostQueued) {
    ToBusAgent message;
    if (owed_.empty()) {
      message.mutable_complete();
      complete_ = true;
    } else {
      const auto debt = owed_.extract(owed_.begin());
      const auto* entry = registry_.find(debt.key());
      if (entry == nullptr) continue;
      *(debt.mapped().test(kOnce) ? message.mutable_added() : message.mutable_changed()) =
          shown(entry->client, debt.mapped());
    }
    door_.send(message);
  }
}

/// These report events, not state: if one is lost, nothing is lost that could be read.
void BusAgentDoor::send_signal(const ToBusAgent& message) {
  if (owed_.empty() && door_.queued() < kMostQueued) door_.send(message);
}

void BusAgentDoor::added(const Client& client) {
  owed_[client.name] = kAll;
  pay();
}

void BusAgentDoor::removed(const Client& client) {
  owed_.erase(client.name);
  tell([&](auto& message) { message.mutable_removed()->set_name(client.name); });
}

void BusAgentDoor::not_found(const KeyId& key_id, const std::string& address) {
  ToBusAgent message;
  message.mutable_not_found()->set_key_id(key_id.text());
  message.mutable_not_found()->set_address(address);
  send_signal(message);
}

// A refusal is signaled before the change it causes, all else after, as in the original.
void BusAgentDoor::effects(const Client& client, std::span<const Effect> effects) {
  std::vector<ToBusAgent> after;
  for (const auto& effect : effects) {
    ToBusAgent message;
    auto& signal = *message.mutable_signal();
    signal.set_name(client.name);
    if (const auto* decided = std::get_if<Decided>(&effect);
        decided && decided->shown && !granted(decided->verdict)) {
      signal.set_rejected(std::string(text(decided->verdict)));
      send_signal(message);
    } else if (const auto* changed = std::get_if<Changed>(&effect)) {
      owed_[client.name] |= Properties(changed->properties).reset(kOnce);
      pay();
    } else if (const auto* started = std::get_if<StartChecker>(&effect)) {
      signal.set_checker_started(clipped(started->command));
    } else if (const auto* completed = std::get_if<CheckerCompleted>(&effect)) {
      auto& told = *signal.mutable_checker_completed();
      told.set_exit_code(completed->exit_code);
      told.set_wait_status(completed->wait_status);
      told.set_command(clipped(completed->command));
    } else if (const auto* need = std::get_if<NeedApproval>(&effect)) {
      signal.mutable_need_approval()->set_delay(on_wire(need->delay));
      signal.mutable_need_approval()->set_approved_by_default(need->approved_by_default);
    } else if (std::holds_alternative<GotSecret>(effect)) {
      signal.set_got_secret(true);
    }
    if (signal.signal_case() != ToBusAgent::Signal::SIGNAL_NOT_SET && !signal.has_rejected()) {
      after.push_back(std::move(message));
    }
  }
  for (const auto& message : after) send_signal(message);
}

void BusAgentDoor::announce(const ToBusAgent::Announce& announcement) {
  tell([&](auto& message) { *message.mutable_announce() = announcement; });
}

void BusAgentDoor::withdraw() {
  withdrawing_ = true;
  tell([](auto& message) { message.mutable_withdraw(); });
}

void BusAgentDoor::secret_part(const ToMonitor& message) {
  const std::string& part = message.part();
  try {
    // One byte too many is enough to refuse the Request that follows.
    secret_.append(part, 0, kLongestSecret + 1 - std::min(secret_.size(), kLongestSecret + 1));
  } catch (const std::bad_alloc&) {
    secret_found_no_memory_ = true;
  }
  explicit_bzero(const_cast<char*>(part.data()), part.size());
}

void BusAgentDoor::request(const ToMonitor& message) {
  const auto& request = message.request();
  ++unanswered_;
  carry_out(request, [this, serial = request.serial(),
                      alive = std::weak_ptr<int>(alive_)](const Status& done) {
    if (alive.expired()) return;
    --unanswered_;
    tell([&](auto& answer) {
      answer.mutable_reply()->set_serial(serial);
      if (!done) answer.mutable_reply()->set_error(done.error());
    });
  });
  secret_found_no_memory_ = false;
  secret_string().swap(secret_);  // an assignment would keep the old buffer for reuse
}

void BusAgentDoor::carry_out(const ToMonitor::Request& request, Registry::Done done) {
  using enum Property;
  using Request = ToMonitor::Request;
  const std::string who = concat("bus-agent: ", request.who());
  const auto change = [&](const Event& event) {
    registry_.change(request.name(), event, std::move(done), who);
  };
  const auto set = [&](Property property, auto value) {
    if constexpr (std::is_same_v<decltype(value), std::uint64_t>) {
      if (value > on_wire(kLongestDuration)) return done(Error{"longer than 90 years"});
      change(Set{property, Milliseconds(value)});
    } else {
      change(Set{property, std::move(value)});
    }
  };
  switch (request.change_case()) {
#define SETTING(type, name, property, ...) \
  case Request::k##property:               \
    return set(k##property, request.name());
    MANDOS_CLIENT_SETTINGS(MANDOS_NO_ROW, MANDOS_NO_ROW, SETTING, SETTING)
#undef SETTING
    case Request::kCheckerRunning:
      return set(kCheckerRunning, request.checker_running());
    case Request::kSecret:
      if (secret_.size() > kLongestSecret) return done(Error{"a secret longer than 1 MiB"});
      if (auto secret = secret_found_no_memory_ ? nullptr : kept(secret_)) {
        return set(kSecret, std::move(secret));
      }
      return done(Error{kNoSecretMemory});
    case Request::kApprove:
      return change(Approve{request.approve()});
    case Request::kCheckedOk:
      return change(CheckedOk{});
    case Request::kRemove:
      return registry_.remove(request.name(), std::move(done), who);
    case Request::CHANGE_NOT_SET:
      return done(Error{"nothing asked for"});
  }
}

}  // namespace mandos::monitor
