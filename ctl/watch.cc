// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/watch.h"

#include <sys/epoll.h>

#include <cerrno>
#include <utility>

#include "common/clock.h"
#include "common/text.h"
#include "ctl/command.h"
#include "ctl/times.h"

namespace mandos::ctl {
namespace {

constexpr Milliseconds kRetry{1000};
constexpr char kProperties[] = "org.freedesktop.DBus.Properties";
constexpr char kManager[] = "org.freedesktop.DBus.ObjectManager";

bool read_text(sd_bus_message* message, std::string& text, char type = 's') {
  const char* found = nullptr;
  if (sd_bus_message_read_basic(message, type, &found) <= 0) return false;
  text = found;
  return true;
}

}  // namespace

Status Watch::start() { return connect(); }

std::vector<Client> Watch::clients() const {
  std::vector<Client> all;
  for (const auto& [path, client] : clients_) all.push_back(client);
  return all;
}

Status Watch::connect() {
  auto bus = std::make_unique<Bus>();
  if (auto opened = bus->open(debug_); !opened) return opened;
  // Before the clients are read, so that nothing that happens in between is missed.
  int error = sd_bus_add_match(bus->get(), nullptr, "type='signal',sender='se.recompile.Mandos'",
                               on_signal, this);
  if (error >= 0) {
    error = sd_bus_add_match(bus->get(), nullptr,
                             "type='signal',sender='org.freedesktop.DBus',"
                             "member='NameOwnerChanged',arg0='se.recompile.Mandos'",
                             on_owner, this);
  }
  if (error < 0) return errno_error(-error, "cannot listen on the system bus");
  bus_ = std::move(bus);
  if (auto loaded = load(); !loaded) {
    bus_.reset();
    // Of the first attempt the caller hears, and of another that the bus is not there yet.
    if (descriptor_ >= 0 && loaded.error() != why_) trouble(loaded.error());
    why_ = loaded.error();
    return loaded;
  }
  why_.clear();
  descriptor_ = sd_bus_get_fd(bus_->get());
  loop_.watch(descriptor_, EPOLLIN, [this](std::uint32_t) { pump(); });
  // What arrived during those calls is in sd-bus already, and its descriptor is silent about it.
  loop_.after(Milliseconds(0), [this] { pump(); });
  return Ok{};
}

Status Watch::load() {
  const auto before = std::exchange(clients_, {});
  auto found = bus_->clients();
  if (!found && bus_->trouble() == Trouble::kNoServer) {
    on_change("");
    server_is(false);
    return Ok{};
  }
  if (!found) return Error{found.error()};
  server_is(true);
  for (auto& client : *found) {
    expiry_[client.path] = client.text("Expires");
    const auto known = before.find(client.path);
    const bool waited = known != before.end() && known->second.flag("ApprovalPending");
    if (client.flag("ApprovalPending") && !waited) tell("waiting", client.name());
    clients_.insert_or_assign(client.path, std::move(client));
  }
  on_change("");
  return Ok{};
}

void Watch::load_added() {
  const auto added = std::exchange(added_, {});
  if (added.empty() || bus_ == nullptr) return;
  if (const auto loaded = load(); !loaded) trouble(loaded.error());
  for (const auto& path : added) {
    if (const auto found = clients_.find(path); found != clients_.end()) {
      tell("added", found->second.name());
    }
  }
}

void Watch::server_is(bool there) {
  if (std::exchange(server_there_, there) != there) tell(there ? "server-back" : "server-gone", "");
}

void Watch::pump() {
  for (;;) {
    if (bus_ == nullptr) return;
    const int more = sd_bus_process(bus_->get(), nullptr);
    if (more < 0 || sd_bus_is_open(bus_->get()) <= 0) return lost();
    if (more == 0) return;
  }
}

void Watch::lost() {
  trouble("lost the system bus; trying again every second");
  loop_.unwatch(descriptor_);
  bus_.reset();
  clients_.clear();
  on_change("");
  server_is(false);
  retry();
}

void Watch::retry() {
  loop_.after(kRetry, [this] {
    if (connect()) {
      trouble("connected to the system bus again");
    } else {
      retry();
    }
  });
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
  if (new_owner.empty()) {
    watch.clients_.clear();
    watch.on_change("");
    watch.server_is(false);
  } else if (const auto loaded = watch.load(); !loaded) {
    watch.trouble(loaded.error());
  }
  return 0;
}

int Watch::on_signal(sd_bus_message* message, void* self, sd_bus_error*) {
  const char* const interface = sd_bus_message_get_interface(message);
  const char* const member = sd_bus_message_get_member(message);
  auto& watch = *static_cast<Watch*>(self);
  if (!watch.signal(message, interface, member)) {
    watch.trouble(concat("the server sends nonsense: a malformed signal ", printable(member)));
  }
  return 0;
}

/// False: the message is malformed. Signals of the old interfaces repeat what the others say.
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
    if (clients_.contains(added)) return true;
    // Its properties have come as well, but are spread over both interfaces: ask for all, once for
    // all that are added together.
    if (added_.empty()) loop_.after(Milliseconds(0), [this] { load_added(); });
    added_.insert(std::move(added));
    return true;
  }
  if (added_.contains(path)) load_added();  // what happens to it comes after it was added
  const auto found = clients_.find(path);
  if (found == clients_.end()) return true;
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

/// The bus does not say why a client was disabled: its expiry passed, or somebody disabled it.
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
