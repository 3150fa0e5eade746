// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <utility>

#include "common/clock.h"
#include "common/text.h"
#include "common/unique_fd.h"
#include "ctl/command.h"
#include "ctl/times.h"

namespace mandos::ctl {
namespace {

// Delays between two attempts, doubled each time.
constexpr Milliseconds kFirstDelay{1000};
constexpr Milliseconds kLongestDelay{60 * 1000};
// Limit of signals about clients that are not known yet.
constexpr std::size_t kMostHeld = 100'000;
constexpr char kProperties[] = "org.freedesktop.DBus.Properties";
constexpr char kManager[] = "org.freedesktop.DBus.ObjectManager";

bool read_text(sd_bus_message* message, std::string& text, char type = 's') {
  const char* found = nullptr;
  if (sd_bus_message_read_basic(message, type, &found) <= 0) return false;
  text = found;
  return true;
}

/// While this object exists, programs that this process starts have no standard error.
class Hushed {
 public:
  Hushed() : standard_error_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)) {
    const UniqueFd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (standard_error_ && null) dup2(null.get(), STDERR_FILENO);
  }
  Hushed(const Hushed&) = delete;
  Hushed& operator=(const Hushed&) = delete;
  ~Hushed() {
    if (standard_error_) dup2(standard_error_.get(), STDERR_FILENO);
  }

 private:
  UniqueFd standard_error_;
};

}  // namespace

Status Watch::start() { return connect(); }

std::vector<Client> Watch::clients() const {
  std::vector<Client> all;
  for (const auto& [path, client] : clients_) all.push_back(client);
  return all;
}

Status Watch::connect() {
  auto bus = std::make_unique<Bus>();
  {
    // If ssh fails again, it would only repeat its message.
    std::optional<Hushed> hushed;
    if (delay_ > kFirstDelay) hushed.emplace();
    if (auto opened = bus->open(debug_); !opened) return opened;
  }
  // Subscribe before requesting the clients, so that no event in between is missed.
  int error = sd_bus_add_match_async(
      bus->get(), nullptr, "type='signal',sender='se.recompile.Mandos'", on_signal, nullptr, this);
  if (error >= 0) {
    error = sd_bus_add_match_async(bus->get(), nullptr,
                                   "type='signal',sender='org.freedesktop.DBus',"
                                   "member='NameOwnerChanged',arg0='se.recompile.Mandos'",
                                   on_owner, nullptr, this);
  }
  if (error < 0) return errno_error(-error, "cannot listen on the system bus");
  bus_ = std::move(bus);
  fresh_ = true;
  load();
  arm();
  return Ok{};
}

void Watch::reconnect() {
  later([this] {
    if (!connect()) reconnect();
  });
}

/// Calls `due` after a delay, which grows until an answer is usable.
void Watch::later(std::function<void()> due) {
  delay_ = std::clamp(delay_ * 2, kFirstDelay, kLongestDelay);
  if (attempt_) loop_.cancel(*attempt_);
  attempt_ = loop_.after(delay_, std::move(due));
}

/// Has the loop call pump() when sd-bus has something to do.
void Watch::arm() {
  const int descriptor = sd_bus_get_fd(bus_->get());
  const int wanted = sd_bus_get_events(bus_->get());
  std::uint64_t until = 0;  // microseconds
  const int timed = sd_bus_get_timeout(bus_->get(), &until);
  if (descriptor < 0 || wanted < 0 || timed < 0) {
    loop_.after(Milliseconds(0), [this] { pump(); });  // which notices that it is closed
    return;
  }
  if (descriptor != descriptor_) {
    disarm();
    descriptor_ = descriptor;
    wanted_ = static_cast<std::uint32_t>(wanted);
    loop_.watch(descriptor_, wanted_, [this](std::uint32_t) { pump(); });
  } else if (std::exchange(wanted_, static_cast<std::uint32_t>(wanted)) != wanted_) {
    loop_.rewatch(descriptor_, wanted_);
  }
  if (deadline_) loop_.cancel(*deadline_);
  deadline_.reset();
  if (timed == 0 || until == UINT64_MAX) return;
  using std::chrono::microseconds;
  const auto now =
      std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
  const auto left = std::max<std::int64_t>(0, static_cast<std::int64_t>(until) - now);
  deadline_ = loop_.after(Milliseconds(left / 1000 + 1), [this] { pump(); });
}

void Watch::disarm() {
  if (deadline_) loop_.cancel(*deadline_);
  deadline_.reset();
  if (descriptor_ >= 0) loop_.unwatch(descriptor_);
  descriptor_ = -1;
}

/// Requests all clients. Earlier requests are abandoned.
void Watch::load() {
  if (attempt_) loop_.cancel(*attempt_);
  asked_.reset();
  auto asked = bus_->ask_for_clients(
      [this](Result<std::vector<Client>> found) { answered(std::move(found)); });
  if (!asked) return failed(asked.error());
  asked_ = std::move(*asked);
}

void Watch::answered(Result<std::vector<Client>> found) {
  asked_.reset();
  if (sd_bus_is_open(bus_->get()) <= 0) return;  // pump() notices it as well
  const bool gone = !found && bus_->trouble() == Trouble::kNoServer;
  if (!found && !gone) return failed(found.error());
  why_.clear();
  delay_ = {};
  if (std::exchange(reconnecting_, false)) trouble("connected to the system bus again");
  if (gone) {
    forget();
    server_is(false);
  } else {
    take(std::move(*found));
  }
  ready(Ok{});
}

/// Repeats the request after an unusable answer. A signal reports when there is another server.
void Watch::failed(const std::string& text) {
  if (!ready_) return ready(Error{text});
  if (text != why_) trouble(text);
  why_ = text;
  held_.clear();
  if (fresh_) forget();
  later([this] { load(); });
}

void Watch::ready(const Status& status) {
  if (!std::exchange(ready_, true)) on_ready(status);
}

/// The clients as of when the answer was sent. The bus keeps the order: signals that came before it
/// are about earlier changes, and later signals about later ones.
void Watch::take(std::vector<Client> found) {
  const auto before = std::exchange(clients_, {});
  const auto added = std::exchange(added_, {});
  const auto held = std::exchange(held_, {});
  fresh_ = false;
  server_is(true);
  std::set<std::string_view> told;  // clients for which a held signal says that they wait, and more
  for (const auto& message : held) {
    if (sd_bus_message_is_signal(message.get(), kClientInterface, "NeedApproval") > 0) {
      told.insert(sd_bus_message_get_path(message.get()));
    }
  }
  for (auto& client : found) {
    expiry_[client.path] = client.text("Expires");
    const auto known = before.find(client.path);
    const bool waited = known != before.end() && known->second.flag("ApprovalPending");
    if (client.flag("ApprovalPending") && !waited && !told.contains(client.path)) {
      tell("waiting", client.name());
    }
    clients_.insert_or_assign(client.path, std::move(client));
  }
  on_change("");
  for (const auto& path : added) {
    if (const auto at = clients_.find(path); at != clients_.end()) {
      tell("added", at->second.name());
    }
  }
  for (const auto& message : held) handle(message.get());
}

void Watch::forget() {
  clients_.clear();
  added_.clear();
  held_.clear();
  on_change("");
}

void Watch::server_is(bool there) {
  if (std::exchange(server_there_, there) != there) tell(there ? "server-back" : "server-gone", "");
}

void Watch::pump() {
  for (;;) {
    if (bus_ == nullptr) return;
    const int more = sd_bus_process(bus_->get(), nullptr);
    if (more < 0 || sd_bus_is_open(bus_->get()) <= 0) return lost(more);
    if (more == 0) return arm();
  }
}

void Watch::lost(int error) {
  disarm();
  asked_.reset();
  held_.clear();
  bus_.reset();
  if (!ready_) {
    const std::string text = "the system bus closed the connection";
    return ready(error < 0 ? errno_error(-error, text) : Error{text});
  }
  if (!std::exchange(reconnecting_, true)) {
    trouble("lost the system bus; trying again");
    forget();
    server_is(false);
    delay_ = {};
  }
  reconnect();
}

int Watch::on_owner(sd_bus_message* message, void* self, sd_bus_error*) {
  auto& watch = *static_cast<Watch*>(self);
  std::string name;
  std::string old_owner;
  std::string new_owner;
  if (!read_text(message, name) || !read_text(message, old_owner) ||
      !read_text(message, new_owner)) {
    return 0;
  }
  watch.delay_ = {};
  if (new_owner.empty()) {
    if (watch.attempt_) watch.loop_.cancel(*watch.attempt_);
    watch.asked_.reset();
    watch.forget();
    watch.server_is(false);
  } else {
    watch.fresh_ = true;
    watch.load();
  }
  return 0;
}

int Watch::on_signal(sd_bus_message* message, void* self, sd_bus_error*) {
  static_cast<Watch*>(self)->handle(message);
  return 0;
}

void Watch::handle(sd_bus_message* message) {
  const char* const interface = sd_bus_message_get_interface(message);
  const char* const member = sd_bus_message_get_member(message);
  if (!signal(message, interface, member)) {
    trouble(concat("the server sends nonsense: a malformed signal ", printable(member)));
  }
}

/// Holds a signal until the answer identifies its client.
void Watch::hold(sd_bus_message* message) {
  if (held_.size() == kMostHeld) {
    trouble(concat("more than ", kMostHeld, " signals came before the server's answer"));
  }
  if (held_.size() <= kMostHeld) held_.emplace_back(sd_bus_message_ref(message));
}

/// False: the message is malformed. Signals of the old interfaces only repeat the others.
bool Watch::signal(sd_bus_message* message, std::string_view interface, std::string_view member) {
  const std::string_view path = sd_bus_message_get_path(message);
  if (interface == kServerName && member == "ClientNotFound") {
    std::string key;
    std::string address;
    if (!read_text(message, key) || !read_text(message, address)) return false;
    tell("unknown-key", "", {{"key_id", key}, {"address", address}});
    return true;
  }
  if (interface == kManager && member == "InterfacesRemoved") {
    std::string gone;
    if (!read_text(message, gone, 'o')) return false;
    added_.erase(gone);
    const auto found = clients_.find(gone);
    if (found == clients_.end()) return true;
    const auto client = std::move(found->second);
    clients_.erase(found);
    on_change(gone);
    tell("removed", client.name());
    return true;
  }
  if (interface == kServerName && member == "ClientAdded") {
    std::string added;
    if (!read_text(message, added, 'o')) return false;
    // Clients of a new server are in its first answer.
    if (fresh_ || clients_.contains(added)) return true;
    // The signal includes its properties, but spread over both interfaces: request all clients,
    // once for all that are added together.
    if (added_.empty() && asked_ == nullptr && why_.empty()) {
      attempt_ = loop_.after(Milliseconds(0), [this] { load(); });
    }
    added_.insert(std::move(added));
    return true;
  }
  const auto found = clients_.find(path);
  if (found == clients_.end()) {
    if (asked_ != nullptr || added_.contains(path)) hold(message);
    return true;
  }
  if (interface == kClientInterface) return client_signal(message, member, found->second);
  if (interface == kProperties && member == "PropertiesChanged") {
    return changed(message, found->second);
  }
  return true;
}

bool Watch::client_signal(sd_bus_message* message, std::string_view member, const Client& client) {
  if (member == "GotSecret") {
    tell("granted", client.name());
  } else if (member == "Rejected") {
    std::string reason;
    if (!read_text(message, reason)) return false;
    tell("refused", client.name(), {{"reason", reason}});
  } else if (member == "NeedApproval") {
    std::uint64_t delay = 0;
    int by_default = 0;
    if (sd_bus_message_read(message, "tb", &delay, &by_default) <= 0) return false;
    tell("waiting", client.name(), {{"delay", delay}, {"approved_by_default", by_default != 0}});
  } else if (member == "CheckerCompleted") {
    std::int16_t status = 0;
    if (sd_bus_message_read(message, "n", &status) <= 0) return false;
    tell("checked", client.name(), {{"ok", status == 0}, {"status", std::int64_t{status}}});
  }
  return true;
}

bool Watch::changed(sd_bus_message* message, Client& client) {
  std::string interface;
  if (!read_text(message, interface)) return false;
  if (interface != kClientInterface) return true;
  std::map<std::string, Value, std::less<>> news;
  if (!read_properties(message, news)) return false;
  const bool was_enabled = client.flag("Enabled");
  for (auto& [name, value] : news) {
    const auto old = client.properties.find(name);
    if (old == client.properties.end()) continue;
    if (old->second.index() != value.index()) return false;
    old->second = std::move(value);
  }
  on_change(client.path);
  if (!client.text("Expires").empty()) expiry_[client.path] = client.text("Expires");
  if (client.flag("Enabled") && !was_enabled) tell("enabled", client.name());
  if (!client.flag("Enabled") && was_enabled) disabled(client);
  return true;
}

/// The bus does not say why a client was disabled: it expired, or somebody disabled it.
void Watch::disabled(const Client& client) {
  constexpr std::int64_t kClocksApart = 2000;
  const auto expiry = parse_time(expiry_[client.path]);
  const bool expired = expiry && *expiry <= wall_now() + kClocksApart;
  tell(expired ? "expired" : "disabled", client.name());
}

void Watch::trouble(std::string_view text) const {
  if (on_trouble) return on_trouble(text);
  complain(kFailure, text);
}

void Watch::tell(std::string what, std::string client,
                 std::vector<std::pair<std::string, Value>> details) {
  happened_(Event{std::move(what), std::move(client), std::move(details)});
}

}  // namespace mandos::ctl
