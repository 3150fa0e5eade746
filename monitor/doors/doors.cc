// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/doors/doors.h"

#include <algorithm>
#include <span>

#include "common/descriptors.h"
#include "proto/networker.h"

namespace mandos::monitor {
namespace {

using enum door::supervisor::Role;

const char* label(Role role) {
  return role == NETWORKER        ? "networker: "
         : role == CHECKER_RUNNER ? "checker-runner: "
                                  : "bus-agent: ";
}

door::networker::ToNetworker::Settings networker_settings(const Settings& settings) {
  door::networker::ToNetworker::Settings message;
  message.set_priority(settings.priority);
  message.set_priority_place(settings.place("priority"));
  message.set_exempt_place(settings.place("source_penalty_exempt"));
  message.set_log_level(static_cast<std::uint32_t>(settings.level));
  message.set_max_connections(settings.max_connections);
  message.set_max_per_source(settings.max_per_source);
  message.set_login_grace_ms(static_cast<std::uint32_t>(settings.login_grace.count()));
  message.set_penalty_ms(static_cast<std::uint32_t>(settings.source_penalty.count()));
  message.set_penalty_threshold(settings.penalty_threshold);
  message.set_penalty_exempt(settings.penalty_exempt.substr(0, door::networker::kLongestExempt));
  message.set_tls_debug_level(settings.tls_debug ? 8 : 0);  // from 9 on GnuTLS logs keys
  return message;
}

}  // namespace

Registry::Outlets Doors::outlets() {
  return {.start_checker =
              [this](CheckerId id, const std::string& command) {
                if (checker_runner_) return checker_runner_->run(id, command);
                // It is being started afresh: this checker is lost as those that it ran.
                loop_.at(BootClock::now(), [this, id] { registry_.checker_lost(id); });
              },
          .kill_checker =
              [this](CheckerId id) {
                if (checker_runner_) checker_runner_->kill(id);
              },
          .waiting = [this](ConnectionId id) -> const Proven* {
            const auto& door = networkers_[NetworkerDoor::index_of(id)];
            return door ? door->waiting(id) : nullptr;
          },
          .grant =
              [this](ConnectionId id, SecretPtr secret) {
                if (auto& door = networkers_[NetworkerDoor::index_of(id)])
                  door->grant(id, std::move(secret));
              },
          .refuse =
              [this](ConnectionId id) {
                if (auto& door = networkers_[NetworkerDoor::index_of(id)]) door->refuse(id);
              },
          .object_path =
              [this](const std::string& name) {
                return settings_.use_dbus ? object_paths_.of(name) : std::string();
              },
          .effects =
              [this](const Client& client, std::span<const Effect> effects) {
                if (bus_agent_) bus_agent_->effects(client, effects);
              },
          .added =
              [this](const Client& client) {
                if (bus_agent_) bus_agent_->added(client);
              },
          .removed =
              [this](const Client& client) {
                if (bus_agent_) bus_agent_->removed(client);
              },
          .not_found =
              [this](const KeyId& key_id, const std::string& address) {
                if (bus_agent_) bus_agent_->not_found(key_id, address);
              }};
}

void Doors::want(Role role, std::uint32_t index) {
  wanted_[{role, index}] = -1;
  supervisor_.start(role, index);
}

bool Doors::started(const door::supervisor::ToMonitor::Started& message, UniqueFd door,
                    UniqueFd log) {
  const Key key(message.role(), message.index());
  if (!wanted_.contains(key)) return false;
  if (std::exchange(wanted_[key], message.pid()) > 0) {
    log_.error(label(key.first), "started afresh: it ended");  // we did not hear of that first
  }
  log_inlets_[key] = std::make_unique<LogInlet>(
      loop_, std::move(log), label(message.role()), log_,
      [this, key, pid = message.pid()](const std::string& why) { broke(key, pid, why); });
  arrivals_.push_back({message, std::move(door)});
  return std::ranges::all_of(wanted_, [](const auto& entry) { return entry.second > 0; });
}

void Doors::open(const std::vector<UniqueFd>& listeners) {
  for (auto& arrival : std::exchange(arrivals_, {})) open(std::move(arrival), listeners);
}

void Doors::open(Arrival arrival, const std::vector<UniqueFd>& listeners) {
  const Key key(arrival.message.role(), arrival.message.index());
  const auto on_broken = [this, key, pid = arrival.message.pid()](const std::string& why) {
    broke(key, pid, why);
  };
  const auto on_alive = [this, key, pid = arrival.message.pid()] {
    supervisor_.serves(key.first, key.second, pid);
  };
  // Each is asked at once: a process that does not answer has not started.
  if (key.first == CHECKER_RUNNER) {
    checker_runner_ =
        std::make_unique<CheckerRunnerDoor>(loop_, registry_, std::move(arrival.door),
                                            settings_.level, settings_.debug, on_broken, on_alive);
    checker_runner_->ask_alive();
  } else if (key.first == NETWORKER) {
    NetworkerDoor::Options options{
        .index = key.second,
        .settings = networker_settings(settings_),
        .listeners = numbers_of(listeners),
        .on_greeting = [this](const std::string& problem) { greeted(NETWORKER, problem); },
        .on_alive = on_alive,
        .on_broken = on_broken};
    networkers_[key.second] = std::make_unique<NetworkerDoor>(
        loop_, registry_, std::move(arrival.door), std::move(options));
    networkers_[key.second]->ask_alive();
  } else {
    BusAgentDoor::Options options{.settings = {},
                                  .on_greeting = [this] { greeted(BUS_AGENT, ""); },
                                  .on_withdrawn = handlers_.withdrawn,
                                  .on_alive = on_alive,
                                  .on_broken = on_broken};
    options.settings.set_log_level(static_cast<std::uint32_t>(settings_.level));
    options.settings.set_dbus(settings_.use_dbus);
    bus_agent_ = std::make_unique<BusAgentDoor>(loop_, registry_, std::move(arrival.door),
                                                std::move(options));
    bus_agent_->ask_alive();
  }
  if (bus_agent_) bus_agent_->restarts(arrival.message.restarts());
}

void Doors::greeted(Role role, const std::string& problem) {
  if (!problem.empty()) return handlers_.failed(concat(label(role), escaped(problem, 800)));
  // The checker-runner does not greet.
  if (++greetings_ == wanted_.size() - 1) handlers_.all_greeted();
}

void Doors::ask_alive() {
  const auto ask = [this](Role role, std::uint32_t index, auto& door) {
    const Key key(role, index);
    if (door && wanted_[key] > 0 && !door->ask_alive()) {
      broke(key, wanted_[key], "it does not answer", true);
    }
  };
  for (const auto& [index, door] : networkers_) ask(NETWORKER, index, door);
  ask(CHECKER_RUNNER, 0, checker_runner_);
  ask(BUS_AGENT, 0, bus_agent_);
}

void Doors::broke(Key key, pid_t pid, const std::string& why, bool hangs) {
  if (wanted_[key] != pid) return;
  log_.error(label(key.first), "started afresh: ", why);
  wanted_[key] = -1;
  supervisor_.restart(key.first, key.second, pid, hangs);
  // Not at once: its door is what calls us.
  loop_.at(BootClock::now(), [this, key] {
    if (wanted_[key] > 0) return;  // the next one has come already and took its place
    if (key.first == NETWORKER) networkers_[key.second].reset();
    if (key.first == CHECKER_RUNNER) checker_runner_.reset();
    if (key.first == BUS_AGENT) bus_agent_.reset();
  });
}

}  // namespace mandos::monitor
