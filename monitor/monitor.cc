// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/monitor.h"

#include <fcntl.h>
#include <malloc.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <span>
#include <utility>

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

}  // namespace

Monitor::Monitor(EventLoop& loop, Log& log, CommandLine command_line, UniqueFd supervisor_door)
    : loop_(loop),
      log_(log),
      command_line_(std::move(command_line)),
      doors_(loop, log, registry_, supervisor_, settings_,
             {.all_greeted = [this] { all_greeted(); },
              .failed = [this](const std::string& why) { fail(why); },
              .withdrawn =
                  [this] {
                    if (phase_ == Phase::kStopping) finish();
                  }}),
      disk_(loop, log, state_),
      registry_(loop, log, disk_, doors_.outlets()),
      clients_(log, registry_),
      supervisor_(loop, std::move(supervisor_door),
                  {.begin = [this](const door::supervisor::ToMonitor::Begin& message,
                                   std::vector<UniqueFd> kept) { begin(message, std::move(kept)); },
                   .started =
                       [this](const auto& message, UniqueFd door, UniqueFd log_socket) {
                         started(message, std::move(door), std::move(log_socket));
                       },
                   .reload = [this](std::uint64_t serial) { reload(serial); },
                   .stop = [this] { stop(); }}) {}

// From phase to phase.

void Monitor::begin(const door::supervisor::ToMonitor::Begin& message, std::vector<UniqueFd> kept) {
  // These need no setting, so they run before anything is read.
  doors_.want(CHECKER_RUNNER);
  doors_.want(NETWORKER);

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
    supervisor_.keep(numbers_of(listeners_), listeners->inherited, settings_text_);
  } else {
    listeners_ = std::move(kept);
    if (!interface_.empty()) supervisor_.listen(network_.index);
  }
  families_ = families_of(listeners_);
  for (std::uint32_t index = 1; index < settings_.networkers; ++index)
    doors_.want(NETWORKER, index);
  if (settings_.use_dbus || settings_.zeroconf) {
    if (MANDOS_BUS == 0) return log_.warning("built without D-Bus and Zeroconf");
    doors_.want(BUS_AGENT);
  }
}

void Monitor::started(const door::supervisor::ToMonitor::Started& message, UniqueFd door,
                      UniqueFd log) {
  const bool all_run = doors_.started(message, std::move(door), std::move(log));
  if (phase_ == Phase::kStarting) return all_run ? load_and_serve() : void();
  doors_.open(listeners_);
  if (message.role() == BUS_AGENT) announce();
}

void Monitor::load_and_serve() {
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
  clients_.start(loaded, std::move(*kept));
  // A reload finds the files where they lay at start. Where they lie elsewhere, it fails and is
  // left to a fresh monitor.
  auto folders = folders_of(loaded.files);
  folders.insert({settings_.configdir, settings_.configdir + "/clients.d", "/etc/passwd"});
  serve({folders.begin(), folders.end()});
}

/// Closes the jail and opens the doors.
void Monitor::serve(const std::vector<std::string>& readable) {
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
  phase_ = Phase::kGreeting;
  // Before there is a bus-agent, which would tell the bus of each how it came to be as it begins.
  registry_.start();
  if (renewed_ && clients_.errors().empty()) clients_.forget_absent();  // as the reload would have
  doors_.open(listeners_);
  tick();
}

void Monitor::all_greeted() {
  phase_ = Phase::kServing;
  tell_status();
  supervisor_.ready(unsaved_ ? "" : directory_at(settings_.statedir), clients_.errors().empty(),
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

void Monitor::stop() {
  // A start that failed: the word of the process that it failed in may still lie in its door.
  if (phase_ < Phase::kServing) {
    return static_cast<void>(loop_.after(kLastWord, [this] { loop_.stop(0); }));
  }
  if (std::exchange(phase_, Phase::kStopping) == Phase::kStopping) return finish();
  registry_.for_each([&](const Client& client) {
    if (client.approval_pending()) {
      log_.write(LogLevel::kInfo, fate_line("gone", client.name, "stop"));
    }
  });
  if (!settings_.zeroconf || doors_.bus_agent() == nullptr) return finish();
  doors_.bus_agent()->withdraw();
  loop_.after(kWithdrawal, [this] { finish(); });
}

void Monitor::finish() {
  registry_.saver().flush([this](const Status& saved) {
    if (!saved) log_.error("not everything is on disk: ", saved.error());
    loop_.stop(0);
  });
  loop_.after(kLastSave, [this] {
    log_.error("not everything is on disk: it took longer than ", kLastSave.count() / 1000, " s");
    loop_.stop(0);
  });
}

// What happens within one.

// What this server saved after a start without restoring is restored when only the monitor is
// started again: an administrator may have disabled a client since. But not what that start should
// have set aside and could not.
Result<StateStore::Loaded> Monitor::open_state(std::vector<std::string>& warnings, bool& in_use) {
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

bool Monitor::announce() {
  if (!settings_.zeroconf || doors_.bus_agent() == nullptr || phase_ != Phase::kServing ||
      !awaited().empty()) {
    return false;
  }
  door::bus_agent::ToBusAgent::Announce announcement;
  announcement.set_service(settings_.servicename);
  announcement.set_port(families_.port);
  announcement.set_interface(network_.index);
  announcement.set_ipv6(families_.ipv6);
  announcement.set_ipv4(families_.ipv4);
  doors_.bus_agent()->announce(announcement);
  return true;
}

void Monitor::tick() {
  loop_.after(kTick, [this] { tick(); });
  if (++ticks_ % kTrim == 0) malloc_trim(0);
  if (phase_ >= Phase::kServing) tell_status();
  doors_.ask_alive();
}

void Monitor::warn_of_new_settings(std::vector<std::string>& warnings) const {
  const auto now = load_settings(command_line_);
  if (now.problems.empty() && now.text != settings_text_) {
    warnings.push_back(concat(
        settings_.configdir, "/mandos.conf: changed since the server started, and read only then"));
  }
}

/// A fresh monitor may take over, once everything is on disk and as it needs it.
void Monitor::yield(std::uint64_t serial, std::vector<std::string> problems) {
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

void Monitor::reload(std::uint64_t serial) {
  auto loaded = load_clients(settings_.configdir);
  // The inspection found none: these came after it.
  if (loaded.problems.size() > loaded.denied) {
    loaded.problems.insert(
        loaded.problems.begin(),
        "nothing was changed: the files were good a moment before; reload again");
    return supervisor_.reloaded(serial, false, loaded.problems);
  }
  if (clients_.needs_fresh_monitor(loaded)) return yield(serial, std::move(loaded.problems));
  // The inspection has told the others to whoever asked for the reload.
  auto own = registry_.disabled_by(loaded.clients, merge);
  warn_of_new_settings(own);
  loaded.warnings.insert(loaded.warnings.end(), own.begin(), own.end());
  for (const auto& warning : loaded.warnings) log_.warning(warning);
  clients_.reload(loaded);
  if (auto* const runner = doors_.checker_runner()) runner->judge();
  tell_status();
  log_.warning("clients.conf was read again: ", status_);
  supervisor_.reloaded(serial, true, own);
}

bool Monitor::find_network(bool inherited) {
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
void Monitor::network_event() {
  network_watch_->drain();
  if (std::exchange(looks_due_, 2) > 0) return;
  loop_.at(std::max(BootClock::now(), looked_ + kLookPeriod), [this] { look_at_network(); });
}

void Monitor::look_at_network() {
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
  if (phase_ < Phase::kServing) return;
  tell_status();
  if (doors_.bus_agent() != nullptr && !awaited().empty()) doors_.bus_agent()->withdraw();
  if (announce() && !interface_.empty()) {
    log_.warning("announcing on the interface ", escaped(interface_), ", index ", network_.index);
  }
}

/// What must appear before we can be reached; empty: nothing.
std::string Monitor::awaited() const {
  if (!interface_.empty() && network_.index == 0) {
    return concat("the interface ", escaped(interface_));
  }
  return network_.address_exists ? "" : concat("the address ", escaped(settings_.address));
}

void Monitor::tell_status() {
  const auto what = awaited();
  const std::string status = concat(
      what.empty() ? "Serving " : concat("Waiting for ", what, " to serve "), registry_.size(),
      " clients on port ", families_.port, ": ", registry_.summary(), clients_.errors());
  if (status == status_) return;
  status_ = status;
  supervisor_.status_text(status_);
}

}  // namespace mandos::monitor
