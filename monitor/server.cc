// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/server.h"

#include <fcntl.h>
#include <malloc.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <span>

#include "common/descriptors.h"
#include "monitor/checker_command.h"
#include "monitor/clients_conf.h"
#include "monitor/jail.h"
#include "monitor/merge.h"
#include "proto/networker.h"

namespace mandos::monitor {
namespace {

using enum door::supervisor::Role;

// So many ticks apart, what reading clients.conf or saving all clients took is given back.
constexpr unsigned kTrim = 5;
constexpr Milliseconds kLastWord(100);
constexpr Milliseconds kLookPeriod = std::chrono::seconds(1);
// How long the end waits for the announcement to be taken back, and then for the disk. Together
// less than the five seconds that the supervisor gives us.
constexpr Milliseconds kWithdrawal = std::chrono::seconds(1);
constexpr Milliseconds kLastSave = std::chrono::seconds(3);
// How long a reload that needs a fresh monitor waits for the disk.
constexpr Milliseconds kYield = std::chrono::seconds(15);

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
  constexpr std::uint32_t kTlsDebugLevel = 8;  // from 9 on GnuTLS logs keys
  message.set_tls_debug_level(settings.tls_debug ? kTlsDebugLevel : 0);
  return message;
}

}  // namespace

Server::Server(EventLoop& loop, Log& log, CommandLine command_line, UniqueFd supervisor_door)
    : loop_(loop),
      log_(log),
      command_line_(std::move(command_line)),
      disk_(loop, log, state_),
      registry_(loop, log, disk_, outlets()),
      supervisor_(loop, std::move(supervisor_door),
                  {.begin = [this](const Begin& message,
                                   std::vector<UniqueFd> kept) { begin(message, std::move(kept)); },
                   .started =
                       [this](const auto& message, UniqueFd door, UniqueFd log_socket) {
                         started(message, std::move(door), std::move(log_socket));
                       },
                   .reload = [this](std::uint64_t serial) { reload(serial); },
                   .stop = [this] { stop(0); }}) {}

Registry::Outlets Server::outlets() {
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
            const auto found = networkers_.find(NetworkerDoor::index_of(id));
            return found != networkers_.end() ? found->second->waiting(id) : nullptr;
          },
          .grant =
              [this](ConnectionId id, SecretPtr secret) {
                const auto found = networkers_.find(NetworkerDoor::index_of(id));
                if (found != networkers_.end()) found->second->grant(id, std::move(secret));
              },
          .refuse =
              [this](ConnectionId id) {
                const auto found = networkers_.find(NetworkerDoor::index_of(id));
                if (found != networkers_.end()) found->second->refuse(id);
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

void Server::begin(const Begin& message, std::vector<UniqueFd> kept) {
  // These need no setting, so they run before anything is read.
  const auto want = [this](Role role, std::uint32_t index) {
    wanted_[{role, index}] = -1;
    supervisor_.start(role, index);
  };
  want(CHECKER_RUNNER, 0);
  want(NETWORKER, 0);

  // The first monitor has every capability. What it could not read without them is what a reload
  // or the next monitor could not, and so an error now.
  jail::override_permissions(false);
  auto loaded = load_settings(
      command_line_, message.has_settings() ? std::optional(message.settings()) : std::nullopt);
  settings_ = std::move(loaded.settings);
  settings_text_ = std::move(loaded.text);
  if (message.has_settings()) warn_of_new_settings(loaded.warnings);
  said_ = loaded.warnings;
  for (const auto& warning : loaded.warnings) log_.warning(warning);
  if (!loaded.usage_error.empty()) loaded.problems.push_back(loaded.usage_error);
  for (const auto& problem : loaded.problems) log_.critical(problem);
  if (!loaded.problems.empty()) return loop_.stop(1);
  log_.set_level(settings_.level);
  if (!message.jail().empty()) log_.info("supervisor: jail: ", escaped(message.jail(), 400));
  renewed_ = message.renewed();
  restarted_ = message.restarted() || renewed_;
  unsaved_ = message.restarted() && message.state().empty();
  // In another one, or one that is made anew, nobody is known to be disabled.
  if (message.restarted() && !unsaved_ && message.state() != directory_at(settings_.statedir)) {
    return fail(concat(settings_.statedir,
                       ": found nothing, or what is not the directory that this ",
                       "server has its state in; bring that back, or restart the server"));
  }
  if (message.restarted() && !renewed_) {
    log_.warning("started again after the monitor had ended");
  }
  if (!find_network(message.inherited())) return;
  if (kept.empty()) {
    std::vector<std::string> warnings;
    auto listeners = open_listeners(settings_, network_.index, warnings);
    for (const auto& warning : warnings) log_.warning(warning);
    if (!listeners) return fail(listeners.error());
    close_inherited();
    listeners_ = std::move(listeners->sockets);
    std::vector<int> descriptors;
    for (const auto& listener : listeners_) descriptors.push_back(listener.get());
    supervisor_.keep(descriptors, listeners->inherited, settings_text_);
  } else {
    listeners_ = std::move(kept);
    if (!interface_.empty()) supervisor_.listen(network_.index);
  }
  families_ = families_of(listeners_);
  for (std::uint32_t index = 1; index < settings_.networkers; ++index) want(NETWORKER, index);
  greetings_awaited_ = settings_.networkers;
  if (settings_.use_dbus || settings_.zeroconf) {
    if (MANDOS_BUS == 0) return log_.warning("built without D-Bus and Zeroconf");
    want(BUS_AGENT, 0);
    ++greetings_awaited_;
  }
}

void Server::started(const door::supervisor::ToMonitor::Started& message, UniqueFd door,
                     UniqueFd log) {
  const Key key(message.role(), message.index());
  if (!wanted_.contains(key)) return;
  if (std::exchange(wanted_[key], message.pid()) > 0) {
    log_.error(label(key.first), "started afresh: it ended");  // we did not hear of that first
  }
  log_inlets_[key] = std::make_unique<LogInlet>(
      loop_, std::move(log), label(message.role()), log_,
      [this, key, pid = message.pid()](const std::string& why) { broke(key, pid, why); });
  Arrival arrival{message, std::move(door)};
  if (serving_) return open_door(std::move(arrival));
  arrivals_.push_back(std::move(arrival));
  if (std::ranges::all_of(wanted_, [](const auto& entry) { return entry.second > 0; })) {
    load_and_serve();
  }
}

void Server::serve(const std::vector<std::string>& readable) {
  rlimit locked{};
  std::size_t held = 0;
  registry_.for_each([&held](const Client& client) {
    held += client.settings->secret ? client.settings->secret->bytes().size() : 0;
  });
  // For a time a reload has the old secrets, the new ones, and the text of the files.
  if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && held > locked.rlim_cur / 4) {
    log_.warning("a reload may find no memory for secrets: only ", locked.rlim_cur,
                 " bytes can be locked (RLIMIT_MEMLOCK)");
  }
  null_.reset(open("/dev/null", O_RDWR | O_CLOEXEC));  // out of reach from here on
  // Before the first byte from another process is read, and for ever.
  auto jailed = jail::enter(monitor_jail(readable, {settings_.statedir}));
  if (!jailed) return fail(concat("jail: ", jailed.error()));
  log_.info("monitor: jail: ", *jailed, " secrets=", secret_memory_kind());
  // All processes run on the same kernel, and the next monitor on this one again.
  if (!restarted_ && jailed->find("no landlock") != jailed->npos) {
    log_.warning(
        "no process has the layer Landlock of its jail: this kernel was built without it, or ",
        "its option lsm= does not name landlock");
  }
  if (!restarted_ && secret_memory_kind() != "memfd_secret") {
    log_.warning("secrets are in ", secret_memory_kind(),
                 ": before Linux 6.5, the kernel's option ",
                 "secretmem.enable=1 hides them from the kernel, too");
  }
  serving_ = true;
  // Before there is a bus-agent, which would tell the bus of each how it came to be as it begins.
  registry_.start();
  if (renewed_ && errors_.empty()) forget_absent();  // as the reload would have
  for (auto& arrival : std::exchange(arrivals_, {})) open_door(std::move(arrival));
  tick();
}

void Server::load_and_serve() {
  auto loaded = load_clients(settings_.configdir);
  for (const auto& warning : loaded.warnings) log_.warning(warning);
  for (const auto& problem : loaded.problems) log_.critical(problem);
  said_.insert(said_.begin(), loaded.problems.begin(), loaded.problems.end());
  said_.insert(said_.end(), loaded.warnings.begin(), loaded.warnings.end());
  if (!loaded.problems.empty() && loaded.clients.empty()) return loop_.stop(1);
  jail::override_permissions(true);  // to take over the state's directory
  std::vector<std::string> warnings;
  bool in_use = false;
  auto kept = open_state(warnings, in_use);
  for (const auto& warning : warnings) log_.warning(warning);
  if (!kept) {
    return fail(
        concat(kept.error(), in_use ? "" : "; --no-restore starts without the saved state"));
  }
  const Moment now = Moment::now();
  const bool is_first_start = kept->clients.empty() && kept->damaged.empty();
  const auto tell = [this](const std::string& line) { log_.write(LogLevel::kInfo, line); };
  for (const auto& [name, settings] : loaded.clients) {
    Registry::Entry entry;
    if (const auto found = kept->clients.find(name); found != kept->clients.end()) {
      Client before;
      entry.client = from_saved(found->second, settings, now, &entry.unsaved_at_start, &before);
      std::ranges::for_each(fate(before, entry.client, Started{}, kFile), tell);
    } else {
      entry.client.name = name;
      entry.client.created = now.wall;
      entry.client.begin_with(settings);
      if (kept->damaged.erase(state_file_name(name)) > 0) {
        entry.client.is_enabled = false;
        log_.error("client ", escaped(name), ": disabled, since its saved state is damaged (",
                   escaped(state_file_name(name)), ".damaged); enable it if it was enabled before");
        tell(damaged_line(name));
      } else if (!is_first_start) {
        tell(added_line(name, settings.enabled, kFile));
      }
    }
    entry.set_file(std::make_shared<const ClientSettings>(settings));
    kept->clients.erase(name);
    registry_.add(std::move(entry));
  }
  // The state of a client whose section is missing is for the monitor that finds it again: its file
  // may be on a file system that is not mounted yet.
  if (!loaded.problems.empty()) errors_ = "; others have errors in clients.conf, see the log";
  for (const auto& [name, client] : kept->clients) absent_.insert(name);
  damaged_ = std::move(kept->damaged);
  if (!absent_.empty()) {
    log_.warning("the saved state of ", absent_.size(),
                 " clients that have no section, or one with an error, is kept until a reload: ",
                 escaped(*absent_.begin()), absent_.size() > 1 ? ", ..." : "");
  }
  // A reload finds the files where they lay at start. Where they lie elsewhere, it fails and is
  // left to a fresh monitor.
  auto folders = folders_of(loaded.files);
  folders.insert({settings_.configdir, settings_.configdir + "/clients.d", "/etc/passwd"});
  serve({folders.begin(), folders.end()});
}

// What this server saved after a start without restoring is restored when only the monitor is
// started again: an administrator may have disabled a client since. But not what that start should
// have set aside and could not.
Result<StateStore::Loaded> Server::open_state(std::vector<std::string>& warnings, bool& in_use) {
  const bool read = settings_.restore || restarted_;
  auto store = unsaved_ ? Error{"the state directory could not be used at the start"}
                        : StateStore::open(settings_.statedir, read, warnings, &in_use);
  if (!store && !unsaved_ && (read || in_use)) return Error{store.error()};
  if (store && read) {
    state_ = std::move(*store);
    return state_.load(warnings);
  }
  const Status aside = store ? store->set_all_aside(warnings) : Error{store.error()};
  unsaved_ = !aside;
  state_ = aside ? std::move(*store) : StateStore(aside.error());
  if (unsaved_) {
    warnings.push_back(concat(aside.error(), "; what changes at run time is not saved"));
  }
  return StateStore::Loaded();
}

void Server::open_door(Arrival arrival) {
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
        .listeners = {},
        .on_greeting = [this](const std::string& problem) { greeted(NETWORKER, problem); },
        .on_alive = on_alive,
        .on_broken = on_broken};
    for (const auto& listener : listeners_) options.listeners.push_back(listener.get());
    networkers_[key.second] = std::make_unique<NetworkerDoor>(
        loop_, registry_, std::move(arrival.door), std::move(options));
    networkers_[key.second]->ask_alive();
  } else {
    BusAgentDoor::Options options{.settings = {},
                                  .on_greeting = [this] { greeted(BUS_AGENT, ""); },
                                  .on_withdrawn =
                                      [this] {
                                        if (stopping_) finish(0);
                                      },
                                  .on_alive = on_alive,
                                  .on_broken = on_broken};
    options.settings.set_log_level(static_cast<std::uint32_t>(settings_.level));
    options.settings.set_dbus(settings_.use_dbus);
    bus_agent_ = std::make_unique<BusAgentDoor>(loop_, registry_, std::move(arrival.door),
                                                std::move(options));
    bus_agent_->ask_alive();
    if (ready_) announce();
  }
  if (bus_agent_) bus_agent_->restarts(arrival.message.restarts());
}

bool Server::announce() {
  if (!settings_.zeroconf || !bus_agent_ || stopping_ || !awaited().empty()) return false;
  door::bus_agent::ToBusAgent::Announce announcement;
  announcement.set_service(settings_.servicename);
  announcement.set_port(families_.port);
  announcement.set_interface(network_.index);
  announcement.set_ipv6(families_.ipv6);
  announcement.set_ipv4(families_.ipv4);
  bus_agent_->announce(announcement);
  return true;
}

// Patience is counted in these ticks, so that time in which we did not run costs no child its life.
void Server::tick() {
  loop_.after(kTick, [this] { tick(); });
  if (++ticks_ % kTrim == 0) malloc_trim(0);
  if (ready_) tell_status();
  const auto ask = [this](Role role, std::uint32_t index, auto& door) {
    const Key key(role, index);
    if (wanted_[key] > 0 && !door.ask_alive()) broke(key, wanted_[key], "it does not answer", true);
  };
  for (const auto& [index, door] : networkers_) ask(NETWORKER, index, *door);
  if (checker_runner_) ask(CHECKER_RUNNER, 0, *checker_runner_);
  if (bus_agent_) ask(BUS_AGENT, 0, *bus_agent_);
}

void Server::broke(Key key, pid_t pid, const std::string& why, bool hangs) {
  if (wanted_[key] != pid) return;
  log_.error(label(key.first), "started afresh: ", why);
  wanted_[key] = -1;
  supervisor_.restart(key.first, key.second, pid, hangs);
  // Not at once: its door is what calls us.
  loop_.at(BootClock::now(), [this, key] {
    if (wanted_[key] > 0) return;  // the next one has come already and took its place
    if (key.first == NETWORKER) networkers_.erase(key.second);
    if (key.first == CHECKER_RUNNER) checker_runner_.reset();
    if (key.first == BUS_AGENT) bus_agent_.reset();
  });
}

void Server::greeted(Role role, const std::string& problem) {
  if (!problem.empty()) return fail(concat(label(role), escaped(problem, 800)));
  if (ready_ || --greetings_awaited_ > 0) return;
  ready_ = true;
  tell_status();
  supervisor_.ready(unsaved_ ? "" : directory_at(settings_.statedir), errors_.empty(),
                    std::exchange(said_, {}));
  announce();
  if (!settings_.foreground) {
    dup2(null_.get(), STDOUT_FILENO);
    dup2(null_.get(), STDERR_FILENO);
    log_.set_stderr(false);
  }
  null_.reset();
  log_.write(LogLevel::kInfo, status_);
}

void Server::warn_of_new_settings(std::vector<std::string>& warnings) const {
  const auto now = load_settings(command_line_);
  if (now.problems.empty() && now.text != settings_text_) {
    warnings.push_back(concat(
        settings_.configdir, "/mandos.conf: changed since the server started, and read only then"));
  }
}

/// A fresh monitor may take over, once everything is on disk and as it needs it.
void Server::yield(std::uint64_t serial, std::vector<std::string> problems) {
  registry_.saver().flush([this, serial, problems = std::move(problems)](const Status& saved) {
    const Status usable = saved ? state_.look() : saved;
    supervisor_.reloaded(serial, false, usable ? problems : std::vector{usable.error()},
                         bool(usable));
  });
  // Whichever is first is the answer.
  loop_.after(kYield, [this, serial] {
    supervisor_.reloaded(serial, false,
                         {"the disk is too slow: the saved state has to be on it before a fresh "
                          "monitor takes over"});
  });
}

void Server::reload(std::uint64_t serial) {
  auto loaded = load_clients(settings_.configdir);
  // The inspection found none: these came after it.
  if (loaded.problems.size() > loaded.denied) {
    loaded.problems.insert(
        loaded.problems.begin(),
        "nothing was changed: the files were good a moment before; reload again");
    return supervisor_.reloaded(serial, false, loaded.problems);
  }
  // What we may not open a fresh monitor may, whose jail is made for where the files are now. And
  // the state of clients that were missing at the start is for that to load, or to find damaged.
  if (!loaded.problems.empty() || std::ranges::any_of(loaded.clients, [&](const auto& client) {
        return absent_.contains(client.first) || damaged_.contains(state_file_name(client.first));
      })) {
    return yield(serial, std::move(loaded.problems));
  }
  errors_.clear();
  // The inspection has told the others to whoever asked for the reload.
  auto own = registry_.disabled_by(loaded.clients, merge);
  warn_of_new_settings(own);
  loaded.warnings.insert(loaded.warnings.end(), own.begin(), own.end());
  for (const auto& warning : loaded.warnings) log_.warning(warning);
  registry_.reload(loaded.clients, merge);
  forget_absent();
  if (checker_runner_) checker_runner_->judge();
  tell_status();
  log_.warning("clients.conf was read again: ", status_);
  supervisor_.reloaded(serial, true, own);
}

void Server::forget_absent() {
  for (const auto& name : std::exchange(absent_, {})) {
    log_.write(LogLevel::kInfo, fate_line("removed", name, kFile));
    registry_.saver().changed(name);
  }
}

bool Server::find_network(bool inherited) {
  interface_ = interface_of(settings_);
  const auto address = inherited || are_inherited(settings_) ? std::nullopt : address_of(settings_);
  network_ = {.index = interface_.empty() ? 0 : if_nametoindex(interface_.c_str()),
              .address_exists = true};
  if (interface_.empty() && !address) return true;
  auto watch = NetworkWatch::open(interface_, address);
  if (watch) {
    network_watch_ = std::move(*watch);
    network_ = network_watch_->look().value_or(network_);
    loop_.watch(network_watch_->fd(), EPOLLIN, [this](std::uint32_t) { network_event(); });
  } else if (!interface_.empty() && network_.index == 0) {
    fail(concat("there is no interface ", escaped(interface_),
                ", and no way to wait for it: ", watch.error()));
    return false;
  } else {
    log_.warning("an interface that is made anew will not be noticed: ", watch.error());
  }
  if (const auto what = awaited(); !what.empty()) {
    log_.warning(settings_.place(settings_.interface.empty() ? "address" : "interface"),
                 "waiting for ", what,
                 ", which does not exist yet ('ip address' shows those that do)");
  }
  return true;
}

// At once, and then once in a while: however often the network changes, each look takes time. And
// once more after the last change, since the kernel tells of an address before its route is there.
void Server::network_event() {
  network_watch_->drain();
  if (std::exchange(looks_due_, 2) > 0) return;
  loop_.at(std::max(BootClock::now(), looked_ + kLookPeriod), [this] { look_at_network(); });
}

void Server::look_at_network() {
  looked_ = BootClock::now();
  const auto view = network_watch_->look();
  if (!view) looks_due_ = 2;
  if (--looks_due_ > 0) loop_.at(looked_ + kLookPeriod, [this] { look_at_network(); });
  if (!view) return;
  const auto before = std::exchange(network_, *view);
  if (network_ == before) return;
  if (network_.index != before.index) {
    log_.warning("the interface ", escaped(interface_),
                 network_.index == 0
                     ? " is gone: no client reaches the server until it is back"
                     : concat(" is there, with index ", network_.index, ": listening on it"));
    // Of one that is gone as well: it may have another name by now, and still be there.
    supervisor_.listen(network_.index);
  }
  if (network_.address_exists != before.address_exists && network_.index == before.index) {
    log_.warning("the address ", escaped(settings_.address),
                 network_.address_exists
                     ? " is there: serving on it"
                     : " is gone: no client reaches the server until it is back");
  }
  if (!ready_) return;
  tell_status();
  if (bus_agent_ && !awaited().empty()) bus_agent_->withdraw();
  if (announce() && !interface_.empty()) {
    log_.warning("announcing on the interface ", escaped(interface_), ", index ", network_.index);
  }
}

/// What must appear before we can be reached; empty: nothing.
std::string Server::awaited() const {
  if (!interface_.empty() && network_.index == 0) {
    return concat("the interface ", escaped(interface_));
  }
  return network_.address_exists ? "" : concat("the address ", escaped(settings_.address));
}

void Server::tell_status() {
  const auto what = awaited();
  const std::string status = concat(
      what.empty() ? "Serving " : concat("Waiting for ", what, " to serve "), registry_.size(),
      " clients on port ", families_.port, ": ", registry_.summary(), errors_);
  if (status == status_) return;
  status_ = status;
  supervisor_.status_text(status_);
}

void Server::stop(int status) {
  // A start that failed: the word of the process that it failed in may still lie in its door.
  if (!ready_)
    return static_cast<void>(loop_.after(kLastWord, [this, status] { loop_.stop(status); }));
  const bool is_first = !std::exchange(stopping_, true);
  registry_.for_each([&](const Client& client) {
    if (is_first && client.approval_pending()) {
      log_.write(LogLevel::kInfo, fate_line("gone", client.name, "stop"));
    }
  });
  if (!settings_.zeroconf || !bus_agent_ || !is_first) return finish(status);
  bus_agent_->withdraw();
  loop_.after(kWithdrawal, [this, status] { finish(status); });
}

void Server::finish(int status) {
  if (!serving_) return loop_.stop(status);
  registry_.saver().flush([this, status](const Status& saved) {
    if (!saved) log_.error("not everything is on disk: ", saved.error());
    loop_.stop(status);
  });
  loop_.after(kLastSave, [this, status] {
    log_.error("not everything is on disk: it took longer than ", kLastSave.count() / 1000, " s");
    loop_.stop(status);
  });
}

}  // namespace mandos::monitor
