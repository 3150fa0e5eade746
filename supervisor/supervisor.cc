// SPDX-License-Identifier: GPL-3.0-or-later
#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <string_view>

#include "common/child.h"
#include "common/descriptors.h"
#include "common/inspection.h"
#include "config.h"
#include "proto/supervisor.h"

namespace mandos::supervisor {
namespace {

constexpr Channel::Limits kMonitorDoor{.receive = door::supervisor::kLongestToSupervisor,
                                       .queue = 2 * door::supervisor::kLongestToSupervisor,
                                       .descriptors = door::supervisor::kMostDescriptors};
constexpr Milliseconds kFirstDelay(20);
constexpr Milliseconds kLongestDelay = std::chrono::seconds(10);
// A process that has run for so long is restarted without delay.
constexpr Milliseconds kLongRun = std::chrono::seconds(60);
constexpr Milliseconds kStopGrace = std::chrono::seconds(6);
// For processes that were killed. One in the kernel (state D) ends when the kernel lets it.
constexpr Milliseconds kLastWait = std::chrono::seconds(5);
// For a child that ended because the monitor closed its door: the monitor must end soon, too.
constexpr Milliseconds kLastWord = std::chrono::seconds(1);
// If every start of a process has failed for this long, the server exits: what is installed now may
// need another supervisor, which the service manager then starts.
constexpr Milliseconds kStartPatience = std::chrono::seconds(60);
constexpr Milliseconds kTick = std::chrono::seconds(2);
// A monitor that does not answer a Ping for this long hangs.
constexpr Milliseconds kHung = std::chrono::seconds(30);
// The same before it serves: it reads files then, perhaps from a slow disk.
constexpr Milliseconds kHungAtStart = std::chrono::seconds(60);

struct Kind {
  Role role;
  const char* file;
  Accounts::Account Accounts::*account;
  std::vector<unsigned> capabilities;
  int parent_death_signal;
  std::span<const std::string_view> environment;  // empty: all
};

// The part of the environment that the two exposed processes get; the first two are for the
// bus-agent only. The caller, who must be root, decides how memory is allocated and checked.
// GLib before 2.76 has its own allocator, which never returns memory.
constexpr std::string_view kVariables[] = {
    "G_SLICE=always-malloc", "DBUS_SYSTEM_BUS_ADDRESS", "ASAN_OPTIONS", "UBSAN_OPTIONS",
    "GLIBC_TUNABLES",        "SCUDO_OPTIONS",           "LD_PRELOAD"};

// SETPCAP lets each empty its bounding set. SIGTERM lets the checker-runner end its checkers, which
// get the whole environment, as does the monitor, whose secfile options may name any variable.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> table = {
      {door::supervisor::NETWORKER,
       "mandos-networker",
       &Accounts::networker,
       {CAP_SYS_CHROOT, CAP_SETPCAP},
       SIGKILL,
       std::span(kVariables).subspan(2)},
      {door::supervisor::CHECKER_RUNNER,
       "mandos-checker-runner",
       &Accounts::checker_runner,
       {CAP_NET_RAW, CAP_SETPCAP},
       SIGTERM,
       {}},
      {door::supervisor::BUS_AGENT,
       "mandos-bus-agent",
       &Accounts::bus_agent,
       {CAP_SETPCAP},
       SIGKILL,
       kVariables},
  };
  return table;
}

const Kind* find_kind(Role role) {
  const auto found = std::ranges::find(kinds(), role, &Kind::role);
  return found == kinds().end() ? nullptr : &*found;
}

std::string told(int wait_status) {
  if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS) {
    return "killed by its system call filter (SIGSYS): the kernel's log names the call where audit "
           "is on (type=1326), and so does a build with -Dseccomp_trap=true";
  }
  if (WIFSIGNALED(wait_status)) return concat("killed by signal ", WTERMSIG(wait_status));
  return concat("exit status ", WEXITSTATUS(wait_status));
}

/// Runs the monitor's program with --check.
Result<pid_t> start_check(Processes& processes, std::vector<std::string> arguments, int output) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  arguments.emplace_back("--check");
  return processes.start(monitor_program(inspection::kName), arguments,
                         {.door = null.get(), .output = output, .quiet = false});
}

}  // namespace

Result<Accounts> find_accounts() {
  Accounts accounts{};
  for (const auto& [name, account] : {std::pair{MANDOS_NETWORKER_USER, &accounts.networker},
                                      {MANDOS_CHECKER_USER, &accounts.checker_runner},
                                      {MANDOS_BUS_USER, &accounts.bus_agent}}) {
    const passwd* entry = getpwnam(name);  // NOLINT(concurrency-mt-unsafe): no threads
    if (entry == nullptr)
      return Error{concat("no account named ", name, ": run systemd-sysusers, or make it")};
    if (entry->pw_uid == 0 || entry->pw_gid == 0) {
      return Error{concat("the account ", name, " is root's or has root's group")};
    }
    *account = {entry->pw_uid, entry->pw_gid};
  }
  if (accounts.networker.uid == accounts.checker_runner.uid ||
      accounts.networker.uid == accounts.bus_agent.uid ||
      accounts.checker_runner.uid == accounts.bus_agent.uid) {
    return Error{"two of the server's accounts have the same user ID"};
  }
  return accounts;
}

Supervisor::Supervisor(EventLoop& loop, Log& log, Processes& processes, Notify notify,
                       Options options)
    : loop_(loop),
      log_(log),
      processes_(processes),
      notify_(std::move(notify)),
      options_(std::move(options)),
      reloads_(
          loop, log,
          {.ask =
               [this](std::uint64_t serial) {
                 tell([&](auto& message) { message.mutable_reload()->set_serial(serial); });
               },
           .inspect =
               [this](int output) { return start_check(processes_, options_.arguments, output); },
           .renew =
               [this] {
                 renew_monitor(
                     "the old one cannot read the files where they are now, or has not read all "
                     "state");
               },
           .on_errors = [this] { tell_status(); }}),
      tick_(std::clamp(notify_.watchdog().value_or(kTick * 2) / 2, Milliseconds(1), kTick)),
      heartbeat_(ticks(kHung), ticks(kHung)) {
  loop_.after(tick_, [this] { tick(); });
  loop_.on_signals({SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD},
                   [this](int signal) { on_signal(signal); });
}

Result<pid_t> Supervisor::start_monitor(Processes& processes,
                                        const std::vector<std::string>& arguments, int door,
                                        bool first) {
  // It redirects this to /dev/null once nobody waits for its first output.
  return processes.start(monitor_program("mandos-monitor"), arguments,
                         {.door = door, .quiet = false, .inherit = first});
}

void Supervisor::adopt_monitor(pid_t pid, UniqueFd door) {
  monitor_process_.pid = pid;
  heartbeat_ = Heartbeat(ticks(kHungAtStart), ticks(kHungAtStart));
  end_monitor_at_.reset();
  monitor_ = std::make_unique<Door>(
      loop_, std::move(door), kMonitorDoor,
      [this](Channel::Datagram datagram) { from_monitor(std::move(datagram)); },
      [this](const std::string& why) {
        log_.debug("the monitor's door: ", why);
        // It is about to end by itself; a process without a door is useless.
        if (!end_monitor_at_) end_monitor_at_ = tick_number_ + ticks(kStopGrace);
      });
  tell(
      [&](auto& message) {
        message.mutable_begin()->set_restarted(was_ready_);
        message.mutable_begin()->set_renewed(std::exchange(renewing_, false));
        message.mutable_begin()->set_inherited(listeners_inherited_);
        message.mutable_begin()->set_state(state_);
        if (settings_) message.mutable_begin()->set_settings(*settings_);
        message.mutable_begin()->set_jail(options_.jail);
      },
      numbers_of(listeners_));
}

void Supervisor::restart_monitor() {
  monitor_process_.started = tick_number_;
  monitor_process_.serves = false;
  auto door = make_door();
  auto pid = door ? start_monitor(processes_, options_.arguments, door->second.get(), false)
                  : Result<pid_t>(Error{door.error()});
  if (!pid) return restart_monitor_later(pid.error());
  adopt_monitor(*pid, std::move(door->first));
}

void Supervisor::restart_monitor_later(const std::string& why) {
  const auto delay = back_off(monitor_process_, "mandos-monitor", why);
  if (!delay) return;
  loop_.after(*delay, [this] {
    if (!stopping_) restart_monitor();
  });
}

/// Restarts the monitor in an orderly way, with the state that it leaves on disk.
void Supervisor::renew_monitor(const std::string& why) {
  if (stopping_ || renewing_) return;
  log_.warning("a fresh monitor takes over: ", why);
  renewing_ = true;
  monitor_process_.serves = true;  // it does not end because of a failure
  tell_monitor_to_stop();
}

void Supervisor::tell_status() {
  std::string troubles;
  const auto add = [&troubles](const Child& child) {
    if (child.failing_since) troubles += child.trouble + "; ";
  };
  add(monitor_process_);
  for (const auto& [key, child] : children_) add(child);
  notify_.send(concat("STATUS=", troubles, status_text_, reloads_.errors()));
}

void Supervisor::tell_monitor_to_stop() {
  tell([](auto& message) { message.mutable_stop(); });
  end_monitor_at_ = tick_number_ + ticks(kStopGrace);
}

/// The interface that the listening sockets are bound to was replaced or is gone. The networkers
/// share the sockets, so they need not know.
void Supervisor::listen_on(unsigned interface) {
  for (const auto& listener : listeners_) {
    const int index = static_cast<int>(interface);
    int bound = 0;
    socklen_t size = sizeof bound;
    if (getsockopt(listener.get(), SOL_SOCKET, SO_BINDTOIFINDEX, &bound, &size) != 0 ||
        bound == 0 || bound == index ||
        setsockopt(listener.get(), SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof index) == 0) {
      continue;
    }
    // Without CAP_NET_RAW: newly created sockets do not need it.
    const std::string why = errno_error(errno, "cannot listen on the interface").text;
    if (listeners_inherited_) return log_.error(why);
    listeners_.clear();
    return renew_monitor(why);
  }
}

void Supervisor::start(Child& child) {
  child.started = tick_number_;
  child.serves = child.hangs = child.broke = false;
  const Kind& kind = *find_kind(child.role);
  auto door = make_door();
  auto log = make_door();
  if (!door || !log) {
    return start_later(child, concat("no door: ", door ? log.error() : door.error()));
  }
  // The descriptors are the monitor's ends; it needs no descriptor of a child.
  refuse_descriptors(door->first.get());
  refuse_descriptors(log->first.get());
  const auto& account = options_.accounts.*kind.account;
  const Program program{.file = kind.file,
                        .name = kind.file,
                        .uid = account.uid,
                        .gid = account.gid,
                        .capabilities = &kind.capabilities,
                        .environment = kind.environment,
                        .parent_death_signal = kind.parent_death_signal};
  // Where a networker notes, for its successor, whose bytes it is handling.
  if (child.role == door::supervisor::NETWORKER && !child.memory) {
    child.memory.reset(memfd_create("mandos-networker", MFD_CLOEXEC));
  }
  auto pid = processes_.start(program, {},
                              {.door = door->second.get(),
                               .log = log->second.get(),
                               .input = child.memory.get(),
                               .quiet = !options_.foreground || log_.on_journal_stream()});
  if (!pid) return start_later(child, pid.error());
  child.pid = *pid;
  tell(
      [&](auto& message) {
        message.mutable_started()->set_role(child.role);
        message.mutable_started()->set_index(child.index);
        message.mutable_started()->set_pid(child.pid);
        message.mutable_started()->mutable_restarts()->Assign(restarts_.begin(), restarts_.end());
      },
      std::array{door->first.get(), log->first.get()});
}

void Supervisor::start_later(Child& child, const std::string& why) {
  const auto delay = back_off(child, find_kind(child.role)->file, why);
  if (!delay) return;
  loop_.after(*delay, [this, key = ChildKey(child.role, child.index)] {
    if (Child* const waiting = stopping_ ? nullptr : this->child(key, -1)) start(*waiting);
  });
}

Supervisor::Child* Supervisor::child(const ChildKey& key, pid_t pid) {
  const auto found = children_.find(key);
  return found != children_.end() && found->second.pid == pid ? &found->second : nullptr;
}

// The delay before the next start. Nothing: starts have failed for too long, and the server
// exits.
std::optional<Milliseconds> Supervisor::back_off(Child& child, const char* name,
                                                 const std::string& why) {
  // A monitor that yields to a fresh one for a reload has not failed.
  restarts_[static_cast<std::size_t>(child.role)] += renewing_ ? 0 : 1;
  const bool ran_long = tick_number_ - child.started > ticks(kLongRun);
  if (child.serves || ran_long) {
    child.failing_since.reset();
  } else {
    if (!child.failing_since) child.failing_since = tick_number_;
    child.trouble = concat(name, " cannot be started: ", why);
    log_.error(child.trouble);
    tell_status();
    if (tick_number_ - *child.failing_since >= ticks(kStartPatience)) {
      log_.critical(name, ": every start failed for ", kStartPatience / std::chrono::seconds(1),
                    " s: the server exits, so that the service manager can start the version that "
                    "is installed now");
      stop(1);
      return std::nullopt;
    }
  }
  const Milliseconds delay = ran_long ? Milliseconds(0) : child.delay;
  child.delay = std::clamp(delay * 2, kFirstDelay, kLongestDelay);
  return delay;
}

void Supervisor::from_monitor(Channel::Datagram datagram) {
  ToSupervisor message;
  if (!message.ParseFromArray(datagram.bytes.data(), static_cast<int>(datagram.bytes.size()))) {
    log_.critical("the monitor sent an invalid message");
    return processes_.end(monitor_process_.pid);
  }
  switch (message.message_case()) {
    case ToSupervisor::kStart: {
      const ChildKey key(message.start().role(), message.start().index());
      if (find_kind(key.first) == nullptr || children_.contains(key)) break;
      start(children_.emplace(key, Child{.role = key.first, .index = key.second}).first->second);
      break;
    }
    case ToSupervisor::kRestart: {
      if (Child* const bad = child({message.restart().role(), message.restart().index()},
                                   message.restart().pid())) {
        bad->hangs = message.restart().hangs();
        bad->broke = !bad->hangs;
        processes_.end(bad->pid);
      }
      break;
    }
    case ToSupervisor::kServes: {
      if (Child* const good =
              child({message.serves().role(), message.serves().index()}, message.serves().pid())) {
        good->serves = true;
        if (std::exchange(good->failing_since, std::nullopt)) {
          tell_status();
        }
      }
      break;
    }
    case ToSupervisor::kKeep:
      listeners_ = std::move(datagram.descriptors);
      listeners_inherited_ = message.keep().inherited();
      settings_ = message.keep().settings();
      break;
    case ToSupervisor::kListen:
      listen_on(message.listen().interface());
      break;
    case ToSupervisor::kReloaded:
      reloads_.answered(message.reloaded().serial(), message.reloaded().ok(),
                        message.reloaded().yields(), message.reloaded().text());
      break;
    case ToSupervisor::kReady:
      monitor_process_.serves = true;
      if (std::exchange(monitor_process_.failing_since, std::nullopt)) tell_status();
      state_ = message.ready().state();
      heartbeat_ = Heartbeat(ticks(kHung), ticks(kHung));
      if (!was_ready_) {
        was_ready_ = true;
        options_.on_ready();
        notify_.send("READY=1");
      }
      reloads_.monitor_ready(message.ready().complete(), message.ready().text());
      break;
    case ToSupervisor::kStatusText:
      status_text_ = message.status_text().text();
      tell_status();
      break;
    case ToSupervisor::kPong:
      // Nothing else feeds the service manager's watchdog.
      if (heartbeat_.asked()) notify_.send("WATCHDOG=1");
      heartbeat_.answered();
      break;
    case ToSupervisor::MESSAGE_NOT_SET:
      break;
  }
}

unsigned Supervisor::ticks(Milliseconds duration) const {
  return static_cast<unsigned>((duration + tick_ - Milliseconds(1)) / tick_);
}

void Supervisor::tick() {
  ++tick_number_;
  loop_.after(tick_, [this] { tick(); });
  reloads_.tick();
  if (end_monitor_at_ && tick_number_ == *end_monitor_at_) {
    processes_.end(monitor_process_.pid);
    // kill_everything() waits for it together with the others.
    if (stopping_) loop_.stop(status_);
  }
  if (stopping_ || monitor_process_.pid < 0) return;
  const auto verdict = heartbeat_.tick();
  if (verdict == Heartbeat::Verdict::kPing) {
    tell([](auto& message) { message.mutable_ping(); });
  } else if (verdict == Heartbeat::Verdict::kHung) {
    log_.critical("the monitor does not answer; killing it",
                  was_ready_ ? " and restarting all processes" : "");
    processes_.end(monitor_process_.pid);
  }
}

void Supervisor::on_signal(int signal) {
  if (signal == SIGCHLD) return reap();
  if (signal == SIGUSR1) return reloads_.request();
  stop(0);
}

void Supervisor::reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = processes_.reap(status, false)) > 0;) ended(pid, status);
  // When an orphan ends, its children become ours.
  if (std::exchange(orphan_ended_, false)) end_orphans();
}

void Supervisor::ended(pid_t pid, int wait_status) {
  if (reloads_.ended(pid, wait_status)) return;
  if (pid == monitor_process_.pid) {
    if (!stopping_ && !renewing_ && !has_said_why(wait_status)) {
      log_.error("monitor[", pid, "] ended: ", told(wait_status));
    }
    monitor_process_.pid = -1;
    return monitor_ended(told(wait_status));
  }
  const auto found =
      std::ranges::find_if(children_, [pid](const auto& entry) { return entry.second.pid == pid; });
  if (found == children_.end()) {
    orphan_ended_ |= orphans_.erase(pid) > 0;
    return;
  }
  Child& child = found->second;
  child.pid = -1;
  // Killed by somebody's decision (the kernel's, if memory is short), not by a crash: the note of
  // whose bytes it was handling is withdrawn, and earlier notes stay. A process that hung leaves
  // its note, because a hang is as bad as a crash.
  if (WTERMSIG(wait_status) == SIGKILL && !child.hangs) {
    // A process that broke the rules may have written anything there. A crashed one keeps its note:
    // its door is closed as well, and the monitor may tell us of that before the kernel does.
    if (child.broke) child.memory.reset();
    static_cast<void>(!pwrite(child.memory.get(), "\0\0\0", kNoteMarkSize, 0));
  }
  if (stopping_ || renewing_) return;  // on purpose, with the monitor
  if (wait_status != 0) return replace(child, pid, wait_status);
  // The monitor closed its door. If the monitor failed, it is to blame, although it may take longer
  // to end.
  loop_.after(kLastWord,
              [this, pid, wait_status, key = found->first, monitor = monitor_process_.pid] {
                if (!stopping_ && !renewing_ && monitor_process_.pid == monitor) {
                  if (Child* const ended = this->child(key, -1)) replace(*ended, pid, wait_status);
                }
              });
}

void Supervisor::replace(Child& child, pid_t pid, int wait_status) {
  if (!has_said_why(wait_status)) {
    log_.error(find_kind(child.role)->file, "[", pid, "] ended: ", told(wait_status));
  }
  if (!was_ready_ && !child.hangs) return stop(1);
  // We inherit what a checker-runner left behind.
  if (child.role == door::supervisor::CHECKER_RUNNER) end_orphans();
  start_later(child, told(wait_status));
}

void Supervisor::end_orphans() {
  for (const pid_t orphan : processes_.children()) {
    const bool known = orphan == monitor_process_.pid || orphan == reloads_.inspector() ||
                       std::ranges::any_of(children_, [orphan](const auto& entry) {
                         return entry.second.pid == orphan;
                       });
    if (!known) orphans_.insert(orphan);
    if (!known) processes_.end(orphan);
  }
}

void Supervisor::monitor_ended(const std::string& how) {
  monitor_.reset();
  status_text_ = "Not serving";
  reloads_.monitor_ended();
  if (stopping_ || (!was_ready_ && !renewing_)) return stop(1);
  // No process continues without the monitor: all doors close, and the next one starts its own.
  children_.clear();
  kill_everything();
  restart_monitor_later(how);
}

void Supervisor::stop(int status) {
  if (!stopping_) {
    stopping_ = true;
    status_ = status;
    notify_.send("STOPPING=1");
    // It logs what it knows of a failure, writes its state to disk and exits. monitor_ended() then
    // returns here.
    tell_monitor_to_stop();
  }
  if (monitor_process_.pid < 0) loop_.stop(status_);
}

// Until no child is left, since one that ends may leave us its own, or until the time is over.
void Supervisor::kill_everything() {
  int status = 0;
  const Instant late = BootClock::now() + kLastWait;
  for (auto pids = processes_.children(); !pids.empty() && BootClock::now() < late;
       pids = processes_.children()) {
    for (const pid_t pid : pids) processes_.end(pid);
    processes_.reap(status, true);
  }
  // If this fires late because we did not run, they may have ended in the meantime.
  while (processes_.reap(status, false) > 0) {
  }
  for (const pid_t pid : processes_.children()) {
    log_.critical(processes_.name(pid), "[", pid, "] was killed but has not ended within ",
                  kLastWait / std::chrono::seconds(1), " s: leaving it behind");
  }
}

int Supervisor::run() {
  const int status = loop_.run();
  monitor_.reset();
  kill_everything();
  return status;
}

}  // namespace mandos::supervisor
