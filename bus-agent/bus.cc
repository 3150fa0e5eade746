// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/bus.h"

#include <grp.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "bus-agent/main_loop.h"
#include "bus-agent/outcome.h"
#include "config.h"

namespace mandos::bus_agent {
namespace {

constexpr char kBusPath[] = "/org/freedesktop/DBus";
constexpr unsigned kFirstDelayMs = 100;
constexpr unsigned kLongestDelayMs = 10'000;
constexpr unsigned kNameDelayMs = 2'000;
// How long the daemon may take to answer our Hello.
constexpr unsigned kPatienceMs = 10'000;
// RequestName, D-Bus specification "Message Bus Messages".
constexpr guint32 kDoNotQueue = 4;
constexpr guint32 kPrimaryOwner = 1;
constexpr guint32 kAlreadyOwner = 4;
// Each message is marked with the connection that it came over.
constexpr char kGeneration[] = "mandos-generation";
// Bytes of answers and signals that may be queued; beyond this, no more answers are made.
constexpr std::size_t kMostUnwritten = 1024UL * 1024;
// Beyond this, nobody gets signals, and a watcher has to read everything again.
constexpr std::size_t kMostWaiting = 64UL * 1024 * 1024;
// After this many bytes, the allocator would keep many pages.
constexpr std::size_t kMuch = 4UL * 1024 * 1024;
constexpr unsigned kTrimDelayMs = 1000;
// How long calls are served before new input is read. An answer may take tens of milliseconds to
// make, and a busy bus delivers thousands of messages per second.
constexpr gint64 kRoundMicroseconds = 5'000;

// Limits for names of users: how many are kept, and the length in the log.
constexpr std::size_t kMostUsers = 65536;
constexpr std::size_t kLongestUser = 64;

bool wants_no_answer(GDBusMessage* call) {
  return (g_dbus_message_get_flags(call) & G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED) != 0;
}

std::string text(const char* value) { return value == nullptr ? "" : value; }

}  // namespace

Access find_access(passwd* (*find_user)(const char* name)) {
  Access access;
  // NOLINTBEGIN(concurrency-mt-unsafe): no threads yet
  for (const char* name : {MANDOS_CHECKER_USER, MANDOS_NETWORKER_USER, MANDOS_BUS_USER}) {
    if (const passwd* user = find_user(name)) {
      access.refused.push_back(user->pw_uid);
    } else {
      access.missing = name;
    }
  }
  if (const group* members = getgrnam(MANDOS_BUS_GROUP)) {
    access.group = members->gr_gid;
    // These may come from any account database; others who may change something are in /etc/passwd.
    for (char** name = members->gr_mem; *name != nullptr; ++name) {
      if (const passwd* user = getpwnam(*name)) access.users[user->pw_uid] = user->pw_name;
    }
  }
  if (FILE* file = std::fopen("/etc/passwd", "re"); file != nullptr) {
    while (const passwd* user = fgetpwent(file)) {
      if (access.users.size() >= kMostUsers) break;
      access.users.emplace(user->pw_uid, user->pw_name);
    }
    static_cast<void>(std::fclose(file));
  }
  // NOLINTEND(concurrency-mt-unsafe)
  return access;
}

Bus::Caller judge(GVariant* reply, const Access& access) {
  Bus::Caller caller{.user = ~guint32{0}, .may_read = false, .may_change = false, .who = ""};
  if (!g_variant_is_of_type(reply, G_VARIANT_TYPE("(a{sv})"))) return caller;
  const Variant facts(g_variant_get_child_value(reply, 0));
  if (!g_variant_lookup(facts.get(), "UnixUserID", "u", &caller.user)) return caller;
  const auto name = access.users.find(caller.user);
  caller.who = name == access.users.end()
                   ? concat("user ", caller.user)
                   : concat("user ", name->second.substr(0, kLongestUser), " (", caller.user, ")");
  if (guint32 process = 0; g_variant_lookup(facts.get(), "ProcessID", "u", &process) != 0) {
    caller.who += concat(", process ", process);
  }
  if (!access.missing.empty() && caller.user != 0) return caller;
  // A checker can be any command, and may be in the group: it never has authority.
  if (std::ranges::count(access.refused, caller.user) > 0) return caller;
  caller.may_read = true;  // all others that the bus lets through
  caller.may_change = caller.user == 0;
  const Variant groups(g_variant_lookup_value(facts.get(), "UnixGroupIDs", G_VARIANT_TYPE("au")));
  if (groups != nullptr && access.group != 0) {
    gsize count = 0;
    const auto* ids = static_cast<const guint32*>(
        g_variant_get_fixed_array(groups.get(), &count, sizeof(guint32)));
    if (std::count(ids, ids + count, access.group) > 0) caller.may_change = true;
  }
  return caller;
}

std::string find_system_bus() {
  const char* address = g_getenv("DBUS_SYSTEM_BUS_ADDRESS");
  const std::string text = address == nullptr ? "" : address;
  constexpr std::string_view kPrefix = "unix:path=";
  if (!text.starts_with(kPrefix)) return "/run/dbus/system_bus_socket";
  return text.substr(kPrefix.size(), text.find_first_of(",;") - kPrefix.size());
}

Bus::Bus(Log& log, std::string path, Access access, Handlers handlers)
    : log_(log),
      path_(std::move(path)),
      access_(std::move(access)),
      handlers_(std::move(handlers)) {}

void Bus::start() {
  if (!std::exchange(started_, true)) connect();
}

void Bus::serve_names() {
  if (std::exchange(names_wanted_, true)) return;
  if (ready_) welcomed();
  start();
}

void Bus::connect() {
  auto made =
      Wire::connect(path_, {.on_ready = [this] { authenticated(); },
                            .on_message = [this](Message m) { received(std::move(m)); },
                            .on_drained = [this] { drained(); },
                            .on_closed = [this](const std::string& why) { disconnected(why); }});
  if (!made) return retry(made.error());
  wire_ = std::move(*made);
  ++generation_;
  run_after(kPatienceMs, [this, generation = generation_] {
    if (generation == generation_ && wire_ != nullptr && !ready_) disconnected("no answer");
  });
}

void Bus::retry(const std::string& why) {
  if (names_wanted_ && !std::exchange(complained_, true)) {
    log_.warning("not on the system bus, retrying: ", why);
  }
  handlers_.on_lost(why);
  delay_ms_ = std::clamp(delay_ms_ * 2, kFirstDelayMs, kLongestDelayMs);
  run_after(delay_ms_, [this] { connect(); });
}

void Bus::authenticated() {
  call(kBusName, kBusPath, kBusName, "Hello", nullptr, [this](GVariant*, const std::string& error) {
    if (!error.empty()) return disconnected(error);
    ready_ = true;
    call(kBusName, kBusPath, kBusName, "AddMatch",
         g_variant_new("(s)",
                       "type='signal',sender='org.freedesktop.DBus',"
                       "interface='org.freedesktop.DBus',member='NameOwnerChanged'"),
         [](GVariant*, const std::string&) {});
    if (names_wanted_) {
      welcomed();
    } else {
      delay_ms_ = 0;
    }
    handlers_.on_connected();
  });
}

void Bus::welcomed() {
  for (std::size_t i = 0; i < owned_.size(); ++i) request_name(i);
}

void Bus::disconnected(const std::string& why) {
  // We may have been called by the wire, so destroy it later.
  wire_->abandon();
  run_after(0, [old = std::shared_ptr<Wire>(std::move(wire_))] {});
  const bool was_ready = std::exchange(ready_, false);
  shares_.clear();
  callers_.clear();
  known_.clear();
  calls_.clear();
  owned_ = {};
  losing_ = much_ = false;
  if (was_ready) {
    delay_ms_ = 0;
    complained_ = false;
  }
  retry(why);
}

void Bus::received(Message message) {
  switch (g_dbus_message_get_message_type(message.get())) {
    case G_DBUS_MESSAGE_TYPE_METHOD_CALL:
      return called(std::move(message));
    case G_DBUS_MESSAGE_TYPE_METHOD_RETURN:
    case G_DBUS_MESSAGE_TYPE_ERROR:
      return replied(message.get());
    case G_DBUS_MESSAGE_TYPE_SIGNAL:
      return told(message.get());
    case G_DBUS_MESSAGE_TYPE_INVALID:
      return;
  }
}

void Bus::called(Message call) {
  if (g_dbus_message_get_sender(call.get()) == nullptr) return;  // the bus itself makes no calls
  // NOLINTNEXTLINE(performance-no-int-to-ptr): how GLib keeps a number with an object
  g_object_set_data(G_OBJECT(call.get()), kGeneration, GSIZE_TO_POINTER(generation_));
  if (!shares_.let_in(call.get())) {
    if (wants_no_answer(call.get()) || too_slow()) return;
    const Message reply(g_dbus_message_new_method_error_literal(
        call.get(), errors::kLimitsExceeded, "too many calls without an answer"));
    wire_->send(reply.get());
    return;
  }
  callers_.add(std::move(call));
  serve_soon();
}

void Bus::call(const std::string& to, const std::string& path, const char* interface,
               const char* method, GVariant* arguments, Done done) {
  const Variant owned(arguments == nullptr ? nullptr : g_variant_ref_sink(arguments));
  if (wire_ == nullptr) return;
  const Message message(
      g_dbus_message_new_method_call(to.c_str(), path.c_str(), interface, method));
  g_dbus_message_set_flags(message.get(), G_DBUS_MESSAGE_FLAGS_NO_AUTO_START);
  if (owned != nullptr) g_dbus_message_set_body(message.get(), owned.get());
  calls_[wire_->send(message.get())] = {to, std::move(done)};
}

// Under a permissive policy, anybody can send unsolicited replies.
void Bus::replied(GDBusMessage* reply) {
  const auto found = calls_.find(g_dbus_message_get_reply_serial(reply));
  if (found == calls_.end()) return;
  const std::string sender = text(g_dbus_message_get_sender(reply));
  // If the callee has gone, the bus answers in its place.
  if (sender != found->second.to && sender != kBusName) return;
  const Done done = std::move(found->second.done);
  calls_.erase(found);
  if (g_dbus_message_get_message_type(reply) == G_DBUS_MESSAGE_TYPE_ERROR) {
    return done(nullptr, text(g_dbus_message_get_error_name(reply)));
  }
  GVariant* body = g_dbus_message_get_body(reply);
  const Variant none = own(g_variant_new("()"));
  done(body == nullptr ? none.get() : body, "");
}

void Bus::told(GDBusMessage* signal) {
  GVariant* body = g_dbus_message_get_body(signal);
  if (text(g_dbus_message_get_sender(signal)) == kBusName && body != nullptr) {
    const std::string member = text(g_dbus_message_get_member(signal));
    if (member == "NameOwnerChanged" && g_variant_is_of_type(body, G_VARIANT_TYPE("(sss)"))) {
      const char* name = nullptr;
      const char* owner = nullptr;
      g_variant_get(body, "(&s&s&s)", &name, nullptr, &owner);
      if (*owner == '\0' && *name == ':') forget(name);
    } else if (member == "NameLost" && g_variant_is_of_type(body, G_VARIANT_TYPE("(s)"))) {
      const char* lost = nullptr;
      g_variant_get(body, "(&s)", &lost);
      lost_name(lost);
    }
  }
  handlers_.on_signal(signal);
}

void Bus::lost_name(const char* name) {
  for (std::size_t i = 0; i < owned_.size(); ++i) {
    if (owned_[i] && std::strcmp(name, kServerInterfaces[i]) == 0) {
      owned_[i] = false;
      request_name(i);
    }
  }
}

// The bus names equal the names of the server's interfaces.
void Bus::request_name(std::size_t index) {
  if (!ready_) return;
  call(kBusName, kBusPath, kBusName, "RequestName",
       g_variant_new("(su)", kServerInterfaces[index], kDoNotQueue),
       [this, index, generation = generation_](GVariant* reply, const std::string& error) {
         guint32 answer = 0;
         if (reply != nullptr && g_variant_is_of_type(reply, G_VARIANT_TYPE("(u)"))) {
           g_variant_get(reply, "(u)", &answer);
         }
         if (answer == kPrimaryOwner || answer == kAlreadyOwner) {
           owned_[index] = true;
           delay_ms_ = 0;
           if (!std::ranges::all_of(owned_, [](bool owned) { return owned; })) return;
           log_.write(complained_ || complained_of_name_ ? LogLevel::kWarning : LogLevel::kInfo,
                      concat("on the system bus as ", kServerInterfaces[0]));
           complained_ = complained_of_name_ = false;
           return;
         }
         if (!std::exchange(complained_of_name_, true)) {
           log_.warning("no bus name ", kServerInterfaces[index], ", retrying: ",
                        error.empty() ? "another program owns it; is another Mandos server running?"
                        : error == errors::kAccessDenied
                            ? "the bus policy mandos-separated.conf is not loaded yet; run: "
                              "systemctl reload dbus"
                            : error);
         }
         run_after(kNameDelayMs, [this, index, generation] {
           if (generation == generation_) request_name(index);
         });
       });
}

const Bus::Caller* Bus::caller_of(GDBusMessage* call) const {
  const auto found = known_.find(g_dbus_message_get_sender(call));
  return found == known_.end() ? nullptr : &found->second;
}

void Bus::forget(const std::string& caller) {
  known_.erase(caller);
  for (const auto& call : callers_.drop(caller)) shares_.answered(caller, weight(call.get()));
}

void Bus::ask_who(const std::string& caller) {
  call(kBusName, kBusPath, kBusName, "GetConnectionCredentials",
       g_variant_new("(s)", caller.c_str()), [this, caller](GVariant* reply, const std::string&) {
         if (reply == nullptr) return forget(caller);  // it has gone in the meantime
         known_[caller] = judge(reply, access_);
         callers_.release(caller);
         serve_soon();
       });
}

// All answers share one queue: a caller that requests much must not fill it for the others.
bool Bus::too_slow() const { return wire_ == nullptr || wire_->queued() > kMostUnwritten; }

void Bus::serve_soon() {
  if (serving_ || too_slow() || callers_.idle()) return;
  serving_ = true;
  run_after(0, [this] {
    serving_ = false;
    serve();
    serve_soon();
  });
}

void Bus::resume() {
  for (const auto& caller : std::exchange(later_, {})) callers_.release(caller);
  serve_soon();
}

void Bus::serve() {
  const gint64 end = g_get_monotonic_time() + kRoundMicroseconds;
  while (!callers_.idle() && !too_slow() && g_get_monotonic_time() < end) {
    Message call = callers_.next();
    const std::string caller = g_dbus_message_get_sender(call.get());
    switch (handlers_.on_call(call)) {
      case Handled::kYes:
        break;
      case Handled::kUnsure:
        callers_.put_back(std::move(call), true);
        ask_who(caller);
        break;
      case Handled::kLater:  // others may want to read only
        callers_.put_back(std::move(call), true);
        later_.push_back(caller);
        break;
    }
  }
}

void Bus::emit(const std::string& path, const char* interface, const char* member,
               GVariant* parameters) {
  const Variant owned(g_variant_ref_sink(parameters));
  if (!ready_) return;
  if (wire_->queued() > kMostWaiting) {
    if (!std::exchange(losing_, true)) log_.warning("the bus is too slow: signals are lost");
    return;
  }
  const Message signal(g_dbus_message_new_signal(path.c_str(), interface, member));
  g_dbus_message_set_flags(signal.get(), G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
  g_dbus_message_set_body(signal.get(), owned.get());
  wire_->send(signal.get());
  much_ = much_ || wire_->queued() > kMuch;
}

void Bus::finish(Message call, GDBusMessage* reply) {
  const Message owned(reply);
  const auto generation = GPOINTER_TO_SIZE(g_object_get_data(G_OBJECT(call.get()), kGeneration));
  if (wire_ == nullptr || generation != generation_) return;
  shares_.answered(g_dbus_message_get_sender(call.get()), weight(call.get()));
  if (wants_no_answer(call.get())) return;
  if (wire_->send(reply) == 0) {
    const Message refusal(g_dbus_message_new_method_error_literal(
        call.get(), errors::kLimitsExceeded, "the answer is too long for the bus"));
    wire_->send(refusal.get());
  }
  much_ = much_ || wire_->queued() > kMuch;
}

void Bus::drained() {
  losing_ = false;
  if (std::exchange(much_, false)) trim_later();
  serve_soon();
}

void Bus::trim_later() {
  if (std::exchange(trimming_, true)) return;
  run_after(kTrimDelayMs, [this] {
    trimming_ = false;
    malloc_trim(0);
  });
}

void Bus::answer(Message call, GVariant* body) {
  GDBusMessage* reply = g_dbus_message_new_method_reply(call.get());
  g_dbus_message_set_body(reply, body);
  finish(std::move(call), reply);
}

void Bus::refuse(Message call, const char* error, const std::string& text) {
  GDBusMessage* reply = g_dbus_message_new_method_error_literal(call.get(), error, text.c_str());
  finish(std::move(call), reply);
}

}  // namespace mandos::bus_agent
