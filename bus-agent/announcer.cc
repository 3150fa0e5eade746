// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/announcer.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "bus-agent/client_object.h"
#include "bus-agent/main_loop.h"
#include "bus-agent/outcome.h"

namespace mandos::bus_agent {
namespace {

// Avahi's files org.freedesktop.Avahi.*.xml describe the interface.
constexpr char kAvahi[] = "org.freedesktop.Avahi";
constexpr char kServer[] = "org.freedesktop.Avahi.Server";
constexpr char kGroup[] = "org.freedesktop.Avahi.EntryGroup";
constexpr char kCollision[] = "org.freedesktop.Avahi.CollisionError";
constexpr char kBusPath[] = "/org/freedesktop/DBus";
constexpr int kServerRegistering = 1;
constexpr int kServerRunning = 2;
constexpr int kServerCollision = 3;
constexpr int kServerFailure = 4;
constexpr int kGroupEstablished = 2;
constexpr int kGroupCollision = 3;
constexpr int kGroupFailure = 4;
constexpr gint32 kAny = -1;
constexpr gint32 kIPv4 = 0;
constexpr gint32 kIPv6 = 1;
constexpr char kType[] = "_mandos._tcp";
constexpr unsigned kFirstDelayMs = 500;
constexpr unsigned kLongestDelayMs = 10'000;
// Avahi probes for about one second before it announces.
constexpr unsigned kPatienceMs = 5'000;
constexpr int kMostRenames = 100;

/// The only argument of a reply if it has that type; otherwise empty.
std::string text_of(GVariant* reply, const char* type) {
  if (!g_variant_is_of_type(reply, G_VARIANT_TYPE(type))) return "";
  const Variant text(g_variant_get_child_value(reply, 0));
  return g_variant_get_string(text.get(), nullptr);
}

void stop(unsigned& source) {
  if (source != 0) g_source_remove(std::exchange(source, 0));
}

}  // namespace

void Announcer::announce(Service service) {
  withdraw([] {});
  service_ = std::move(service);
  name_ = service_->name;
  renames_ = 0;
  bus_.start();
  if (bus_.connected()) connected();
  begin();
}

void Announcer::withdraw(std::function<void()> done) {
  service_.reset();
  stop(retry_);
  stop(patience_);
  const std::string group = group_;
  forget_attempt();
  if (group.empty() || owner_.empty()) return done();
  bus_.call(owner_, group, kGroup, "Free", nullptr,
            [done = std::move(done)](GVariant*, const std::string&) { done(); });
}

// Avahi answers in order. Replies that are still on their way belong to an abandoned attempt.
void Announcer::forget_attempt() {
  ++attempt_;
  group_.clear();
  making_ = added_ = false;
}

void Announcer::complain(const std::string& why) {
  if (!std::exchange(complained_, true)) {
    log_.warning("not announced by Avahi, retrying: ", why);
  }
}

void Announcer::retry(const std::string& why) {
  if (!service_) return;
  complain(why);
  if (!group_.empty()) {
    bus_.call(owner_, group_, kGroup, "Free", nullptr, [](GVariant*, const std::string&) {});
  }
  forget_attempt();
  stop(patience_);
  if (retry_ != 0) return;
  delay_ms_ = std::clamp(delay_ms_ * 2, kFirstDelayMs, kLongestDelayMs);
  retry_ = run_after(delay_ms_, [this] {
    retry_ = 0;
    begin();
  });
}

void Announcer::connected() {
  if (!service_ || std::exchange(watching_, true)) return;
  for (const char* interface : {kServer, kGroup}) {
    const std::string rule = concat("type='signal',sender='", kAvahi, "',interface='", interface,
                                    "',member='StateChanged'");
    bus_.call(kBusName, kBusPath, kBusName, "AddMatch", g_variant_new("(s)", rule.c_str()),
              [](GVariant*, const std::string&) {});
  }
  bus_.call(kBusName, kBusPath, kBusName, "GetNameOwner", g_variant_new("(s)", kAvahi),
            [this](GVariant* reply, const std::string&) {
              owned_by(reply == nullptr ? "" : text_of(reply, "(s)"));
            });
}

void Announcer::lost(const std::string& why) {
  stop(retry_);
  stop(patience_);
  forget_attempt();
  owner_.clear();
  watching_ = false;
  // If the bus is missing for more than the announcement, that was already logged.
  if (!service_) return;
  bus_was_away_ = bus_.complained();
  if (!bus_was_away_) complain(why);
}

void Announcer::owned_by(const std::string& owner) {
  if (owner == owner_ && !owner.empty()) return;
  stop(retry_);
  stop(patience_);
  forget_attempt();
  owner_ = owner;
  delay_ms_ = 0;
  if (!service_) return;
  if (owner.empty()) {
    return complain(
        "its daemon does not run; clients cannot find this server until avahi-daemon does, "
        "unless they are told its address");
  }
  begin();
}

void Announcer::call(const std::string& path, const char* interface, const char* method,
                     GVariant* arguments, Bus::Done done) {
  bus_.call(owner_, path, interface, method, arguments,
            [this, attempt = attempt_, done = std::move(done)](GVariant* reply,
                                                               const std::string& error) {
              if (attempt == attempt_ && service_) done(reply, error);
            });
}

void Announcer::begin() {
  if (!service_ || owner_.empty()) return;
  // A hanging daemon answers when it resumes: nothing can be done but to log it.
  if (patience_ == 0) {
    patience_ = run_after(kPatienceMs, [this] {
      patience_ = 0;
      complain("no answer");
    });
  }
  call("/", kServer, "GetState", nullptr, [this](GVariant* reply, const std::string& error) {
    if (reply == nullptr || !g_variant_is_of_type(reply, G_VARIANT_TYPE("(i)"))) {
      return retry(error);
    }
    gint32 state = 0;
    g_variant_get(reply, "(i)", &state);
    server_is(state);
  });
}

void Announcer::server_is(int state) {
  switch (state) {
    case kServerRunning:
      return group_.empty() ? make_group() : add();
    case kServerRegistering:
    case kServerCollision:
      // The host name is changing: once that is done, the server runs again.
      if (!group_.empty() && std::exchange(added_, false)) {
        ++attempt_;
        call(group_, kGroup, "Reset", nullptr, [](GVariant*, const std::string&) {});
      }
      return;
    case kServerFailure:
      return retry("its daemon failed");
    default:
      return;
  }
}

void Announcer::make_group() {
  if (std::exchange(making_, true)) return;
  bus_.call(owner_, "/", kServer, "EntryGroupNew", nullptr,
            [this, attempt = attempt_, owner = owner_](GVariant* reply, const std::string& error) {
              const std::string path = reply == nullptr ? "" : text_of(reply, "(o)");
              if (attempt != attempt_ || !service_) {
                // It comes too late, and nothing would be announced with it.
                if (!path.empty()) {
                  bus_.call(owner, path, kGroup, "Free", nullptr,
                            [](GVariant*, const std::string&) {});
                }
                return;
              }
              making_ = false;
              if (path.empty()) return retry(error);
              group_ = path;
              add();
            });
}

void Announcer::add() {
  if (std::exchange(added_, true)) return;
  const gint32 interface =
      service_->interface == 0 ? kAny : static_cast<gint32>(service_->interface);
  const gint32 protocol = service_->ipv4 && service_->ipv6 ? kAny : service_->ipv6 ? kIPv6 : kIPv4;
  const Variant name = own(text_variant(name_));
  call(group_, kGroup, "AddService",
       g_variant_new("(iiu@ssssq@aay)", interface, protocol, 0U, name.get(), kType, "", "",
                     service_->port, g_variant_new_array(G_VARIANT_TYPE("ay"), nullptr, 0)),
       [this](GVariant* reply, const std::string& error) {
         // A collision with another service of this host is reported immediately.
         if (error == kCollision) return rename();
         return reply == nullptr ? retry(error) : commit();
       });
}

void Announcer::commit() {
  call(group_, kGroup, "Commit", nullptr, [this](GVariant* reply, const std::string& error) {
    if (reply == nullptr) retry(error);
  });
}

void Announcer::rename() {
  if (++renames_ > kMostRenames) return retry("every name is taken");
  const Variant name = own(text_variant(name_));
  call("/", kServer, "GetAlternativeServiceName", g_variant_new("(@s)", name.get()),
       [this](GVariant* reply, const std::string& error) {
         if (reply == nullptr) return retry(error);
         const std::string other = text_of(reply, "(s)");
         log_.warning("the service name ", name_, " is taken: trying ", other);
         name_ = other;
         added_ = false;
         add();
       });
}

void Announcer::group_is(int state, const std::string& error) {
  switch (state) {
    case kGroupEstablished:
      stop(patience_);
      delay_ms_ = 0;
      renames_ = 0;
      log_.write(complained_ || bus_was_away_ ? LogLevel::kWarning : LogLevel::kInfo,
                 concat("announced by Avahi as ", name_));
      complained_ = bus_was_away_ = false;
      return;
    case kGroupCollision:
      call(group_, kGroup, "Reset", nullptr, [this](GVariant*, const std::string&) { rename(); });
      return;
    case kGroupFailure:
      return retry(error);
    default:
      return;
  }
}

void Announcer::told(GDBusMessage* signal) {
  const auto text = [](const char* value) { return std::string(value == nullptr ? "" : value); };
  const std::string sender = text(g_dbus_message_get_sender(signal));
  const std::string member = text(g_dbus_message_get_member(signal));
  GVariant* body = g_dbus_message_get_body(signal);
  if (body == nullptr) return;
  if (sender == kBusName && member == "NameOwnerChanged" &&
      g_variant_is_of_type(body, G_VARIANT_TYPE("(sss)"))) {
    const char* name = nullptr;
    const char* owner = nullptr;
    g_variant_get(body, "(&s&s&s)", &name, nullptr, &owner);
    if (std::string_view(name) == kAvahi) owned_by(owner);
    return;
  }
  if (owner_.empty() || sender != owner_ || member != "StateChanged" || !service_ ||
      !g_variant_is_of_type(body, G_VARIANT_TYPE("(is)"))) {
    return;
  }
  gint32 state = 0;
  const char* error = nullptr;
  g_variant_get(body, "(i&s)", &state, &error);
  const std::string interface = text(g_dbus_message_get_interface(signal));
  if (interface == kServer) return server_is(state);
  if (interface == kGroup && text(g_dbus_message_get_path(signal)) == group_) {
    group_is(state, error);
  }
}

}  // namespace mandos::bus_agent
