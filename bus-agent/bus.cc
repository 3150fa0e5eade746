// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/bus.h"

#include <gio/gunixconnection.h>
#include <grp.h>
#include <malloc.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "bus-agent/main_loop.h"
#include "bus-agent/outcome.h"
#include "common/unique_fd.h"
#include "config.h"

namespace mandos::bus_agent {
namespace {

constexpr char kBus[] = "org.freedesktop.DBus";
constexpr char kBusPath[] = "/org/freedesktop/DBus";
constexpr unsigned kFirstDelayMs = 100;
constexpr unsigned kLongestDelayMs = 10'000;
constexpr unsigned kNameDelayMs = 2'000;
// RequestName, D-Bus specification "Message Bus Messages".
constexpr guint32 kDoNotQueue = 4;
constexpr guint32 kPrimaryOwner = 1;
constexpr guint32 kAlreadyOwner = 4;
// What a message is marked with: the connection that it came over.
constexpr char kGeneration[] = "mandos-generation";
// Answers and signals that may wait for the bus to read them; beyond, no more answers are made.
constexpr std::size_t kMostUnwritten = 1024UL * 1024;
// Beyond, nobody gets signals: who watches must read again what it watches.
constexpr std::size_t kMostWaiting = 64UL * 1024 * 1024;
// From here on so much was written that the allocator would keep many pages of it.
constexpr std::size_t kMuch = 4UL * 1024 * 1024;
constexpr unsigned kTrimDelayMs = 1000;
constexpr std::size_t kReplySize = 1024;  // a message without much in it
// Calls served before the door has its turn.
constexpr int kCallsPerRound = 32;

struct FreeError {
  void operator()(GError* error) const { g_error_free(error); }
};
using ErrorPtr = std::unique_ptr<GError, FreeError>;

/// Calls a method of the bus itself; `done` gets the reply's tuple or null and the error.
void call_bus(GDBusConnection* connection, const char* method, GVariant* arguments,
              std::function<void(GVariant*, const GError*)> done) {
  auto* data = new std::function<void(GVariant*, const GError*)>(std::move(done));
  g_dbus_connection_call(
      connection, kBus, kBusPath, kBus, method, arguments, nullptr, G_DBUS_CALL_FLAGS_NONE, -1,
      nullptr,
      [](GObject* source, GAsyncResult* result, gpointer pointer) {
        const std::unique_ptr<std::function<void(GVariant*, const GError*)>> function(
            static_cast<std::function<void(GVariant*, const GError*)>*>(pointer));
        GError* error = nullptr;
        const Variant reply(
            g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error));
        const ErrorPtr owned(error);
        (*function)(reply.get(), error);
      },
      data);
}

/// From the reply of GetConnectionCredentials. Who cannot be named may change nothing.
Bus::Caller judged(GVariant* reply, const Access& access) {
  Bus::Caller caller{~guint32{0}, false};
  if (!g_variant_is_of_type(reply, G_VARIANT_TYPE("(a{sv})"))) return caller;
  const Variant facts(g_variant_get_child_value(reply, 0));
  if (!g_variant_lookup(facts.get(), "UnixUserID", "u", &caller.user)) return caller;
  caller.may_change = caller.user == 0 || std::ranges::count(access.users, caller.user) > 0;
  const Variant groups(g_variant_lookup_value(facts.get(), "UnixGroupIDs", G_VARIANT_TYPE("au")));
  if (groups != nullptr && access.group != 0) {
    gsize count = 0;
    const auto* ids = static_cast<const guint32*>(
        g_variant_get_fixed_array(groups.get(), &count, sizeof(guint32)));
    if (std::count(ids, ids + count, access.group) > 0) caller.may_change = true;
  }
  return caller;
}

bool wants_no_answer(GDBusMessage* call) {
  return (g_dbus_message_get_flags(call) & G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED) != 0;
}

/// In GDBus's thread: method calls go to the inbox, everything else its way.
GDBusMessage* filter(GDBusConnection* connection, GDBusMessage* message, gboolean incoming,
                     gpointer inbox) {
  if (!incoming || g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_METHOD_CALL) {
    return message;
  }
  Message call(message);
  if (!(*static_cast<std::shared_ptr<Inbox>*>(inbox))->put(call) && !wants_no_answer(call.get())) {
    const std::unique_ptr<GDBusMessage, Unref> reply(g_dbus_message_new_method_error_literal(
        call.get(), errors::kLimitsExceeded, "too many calls without an answer"));
    g_dbus_connection_send_message(connection, reply.get(), G_DBUS_SEND_MESSAGE_FLAGS_NONE, nullptr,
                                   nullptr);
  }
  return nullptr;
}

}  // namespace

Access find_access() {
  Access access;
  // NOLINTBEGIN(concurrency-mt-unsafe): no threads yet
  if (const passwd* user = getpwnam(MANDOS_CHECKER_USER); user != nullptr) {
    access.users.push_back(user->pw_uid);
  }
  if (const group* members = getgrnam(MANDOS_BUS_GROUP); members != nullptr) {
    access.group = members->gr_gid;
    std::vector<std::string> names;
    for (char** name = members->gr_mem; *name != nullptr; ++name) names.emplace_back(*name);
    for (const auto& name : names) {
      if (const passwd* user = getpwnam(name.c_str())) access.users.push_back(user->pw_uid);
    }
  }
  // NOLINTEND(concurrency-mt-unsafe)
  return access;
}

std::string find_system_bus() {
  const char* address = g_getenv("DBUS_SYSTEM_BUS_ADDRESS");
  const std::string text = address == nullptr ? "" : address;
  constexpr std::string_view kPrefix = "unix:path=";
  if (!text.starts_with(kPrefix)) return "/run/dbus/system_bus_socket";
  return text.substr(kPrefix.size(), text.find_first_of(",;") - kPrefix.size());
}

Bus::Bus(Log& log, std::string path, Access access, Handler handler)
    : log_(log),
      path_(std::move(path)),
      access_(std::move(access)),
      handler_(std::move(handler)),
      inbox_(std::make_shared<Inbox>([this] {
        run_after(0, [this] {
          for (auto& call : inbox_->take()) {
            // NOLINTNEXTLINE(performance-no-int-to-ptr): how GLib keeps a number with an object
            g_object_set_data(G_OBJECT(call.get()), kGeneration, GSIZE_TO_POINTER(generation_));
            callers_.add(std::move(call));
          }
          serve_soon();
        });
      })) {}

void Bus::start() { connect(); }

void Bus::connect() {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof address.sun_path - 1);
  if (!fd ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return retry(concat(path_, ": ", std::strerror(errno)));
  }
  GError* error = nullptr;
  GSocket* made = g_socket_new_from_fd(fd.get(), &error);
  if (made == nullptr) {
    const ErrorPtr owned(error);
    return retry(error->message);
  }
  static_cast<void>(fd.release());  // the GSocket's now
  const std::unique_ptr<GSocket, Unref> socket(made);
  const std::unique_ptr<GSocketConnection, Unref> stream(
      g_socket_connection_factory_create_connection(socket.get()));
  g_dbus_connection_new(
      G_IO_STREAM(stream.get()), nullptr,
      static_cast<GDBusConnectionFlags>(G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                        G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION),
      nullptr, nullptr,
      [](GObject*, GAsyncResult* result, gpointer self) {
        GError* failed = nullptr;
        GDBusConnection* connection = g_dbus_connection_new_finish(result, &failed);
        const ErrorPtr owned(failed);
        static_cast<Bus*>(self)->connected(connection, failed);
      },
      this);
}

void Bus::retry(const std::string& why) {
  if (!complained_) log_.warning("not on the system bus, trying on: ", why);
  complained_ = true;
  delay_ms_ = std::clamp(delay_ms_ * 2, kFirstDelayMs, kLongestDelayMs);
  run_after(delay_ms_, [this] { connect(); });
}

void Bus::connected(GDBusConnection* connection, const GError* error) {
  if (connection == nullptr) return retry(error->message);
  connection_.reset(connection);
  ++generation_;
  g_dbus_connection_set_exit_on_close(connection, FALSE);
  g_dbus_connection_add_filter(
      connection, &filter, new std::shared_ptr<Inbox>(inbox_),
      [](gpointer inbox) { delete static_cast<std::shared_ptr<Inbox>*>(inbox); });
  g_signal_connect(connection, "closed",
                   G_CALLBACK(+[](GDBusConnection*, gboolean, GError*, gpointer self) {
                     static_cast<Bus*>(self)->disconnected();
                   }),
                   this);
  g_dbus_connection_signal_subscribe(
      connection, kBus, kBus, nullptr, kBusPath, nullptr, G_DBUS_SIGNAL_FLAGS_NONE,
      [](GDBusConnection*, const gchar*, const gchar*, const gchar*, const gchar* signal,
         GVariant* body, gpointer pointer) {
        auto* self = static_cast<Bus*>(pointer);
        const std::string_view name = signal;
        if (name == "NameOwnerChanged" && g_variant_is_of_type(body, G_VARIANT_TYPE("(sss)"))) {
          const char* gone = nullptr;
          const char* owner = nullptr;
          g_variant_get(body, "(&ss&s)", &gone, nullptr, &owner);
          if (*owner != '\0' || *gone != ':') return;
          self->forget(gone);
        } else if (name == "NameLost" && g_variant_is_of_type(body, G_VARIANT_TYPE("(s)"))) {
          const char* lost = nullptr;
          g_variant_get(body, "(&s)", &lost);
          for (std::size_t i = 0; i < self->owned_.size(); ++i) {
            if (self->owned_[i] && std::strcmp(lost, kServerInterfaces[i]) == 0) {
              self->owned_[i] = false;
              self->request_name(i);
            }
          }
        }
      },
      this, nullptr);
  for (std::size_t i = 0; i < owned_.size(); ++i) request_name(i);
}

void Bus::disconnected() {
  // A callback of the connection itself: it goes when that is over.
  run_after(0, [old = std::shared_ptr<GDBusConnection>(connection_.release(), Unref{})] {});
  inbox_->clear();
  callers_.clear();
  known_.clear();
  owned_ = {};
  losing_ = flushing_ = false;
  unwritten_ = 0;
  delay_ms_ = 0;
  complained_ = false;
  retry("the bus has gone");
}

// The bus names are those of the server's interfaces.
void Bus::request_name(std::size_t index) {
  if (connection_ == nullptr) return;
  call_bus(connection_.get(), "RequestName",
           g_variant_new("(su)", kServerInterfaces[index], kDoNotQueue),
           [this, index, generation = generation_](GVariant* reply, const GError* error) {
             if (generation != generation_ || connection_ == nullptr) return;
             guint32 answer = 0;
             if (reply != nullptr) g_variant_get(reply, "(u)", &answer);
             if (answer == kPrimaryOwner || answer == kAlreadyOwner) {
               owned_[index] = true;
               delay_ms_ = 0;
               if (!std::ranges::all_of(owned_, [](bool owned) { return owned; })) return;
               log_.write(complained_ || complained_of_name_ ? LogLevel::kWarning : LogLevel::kInfo,
                          concat("on the system bus as ", kServerInterfaces[0]));
               complained_ = complained_of_name_ = false;
               return;
             }
             if (!complained_of_name_) {
               log_.warning("no bus name ", kServerInterfaces[index], ", trying on: ",
                            error != nullptr ? error->message : "somebody else has it");
             }
             complained_of_name_ = true;
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
  for (const auto& call : callers_.drop(caller)) inbox_->answered(caller, weight(call.get()));
}

void Bus::ask_who(const std::string& caller) {
  call_bus(connection_.get(), "GetConnectionCredentials", g_variant_new("(s)", caller.c_str()),
           [this, caller, generation = generation_](GVariant* reply, const GError*) {
             if (generation != generation_ || connection_ == nullptr) return;
             // The caller has gone meanwhile.
             if (reply == nullptr) return forget(caller);
             known_[caller] = judged(reply, access_);
             callers_.release(caller);
             serve_soon();
           });
}

void Bus::serve_soon() {
  if (serving_ || later_ || flushing_ || callers_.idle()) return;
  serving_ = true;
  run_after(0, [this] {
    serving_ = false;
    serve();
    serve_soon();
  });
}

void Bus::resume() {
  later_ = false;
  serve_soon();
}

void Bus::serve() {
  for (int i = 0; i < kCallsPerRound && !callers_.idle() && !flushing_; ++i) {
    Message call = callers_.next();
    const std::string caller = g_dbus_message_get_sender(call.get());
    switch (handler_(call)) {
      case Handled::kYes:
        break;
      case Handled::kUnsure:
        callers_.put_back(std::move(call), true);
        ask_who(caller);
        break;
      case Handled::kLater:
        callers_.put_back(std::move(call), false);
        later_ = true;
        return;
    }
  }
}

void Bus::emit(const std::string& path, const char* interface, const char* member,
               GVariant* parameters) {
  const Variant owned(g_variant_ref_sink(parameters));
  if (connection_ == nullptr) return;
  if (unwritten_ > kMostWaiting) {
    if (!std::exchange(losing_, true)) log_.warning("the bus is too slow: signals are lost");
    return;
  }
  g_dbus_connection_emit_signal(connection_.get(), nullptr, path.c_str(), interface, member,
                                owned.get(), nullptr);
  written(kReplySize + g_variant_get_size(owned.get()));
}

void Bus::written(std::size_t size) {
  unwritten_ += size;
  if (unwritten_ > kMostUnwritten && !flushing_) flush();
}

void Bus::overwrite_buffer(std::size_t size) {
  if (connection_ == nullptr) return;
  constexpr std::size_t kHead = 4096;  // longer than any message is around its arguments
  const std::vector<guint8> zeros(size + kHead);
  g_dbus_connection_emit_signal(
      connection_.get(), g_dbus_connection_get_unique_name(connection_.get()), "/",
      "se.recompile.Mandos.Internal", "Overwrite",
      g_variant_new("(@ay)",
                    g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, zeros.data(), zeros.size(), 1)),
      nullptr);
}

void Bus::finish(Message call, GDBusMessage* reply, std::size_t size) {
  const Message owned(reply);
  const char* sender = g_dbus_message_get_sender(call.get());
  const auto generation = GPOINTER_TO_SIZE(g_object_get_data(G_OBJECT(call.get()), kGeneration));
  if (connection_ == nullptr || generation != generation_) return;
  inbox_->answered(sender, weight(call.get()));
  if (wants_no_answer(call.get())) return;
  g_dbus_connection_send_message(connection_.get(), reply, G_DBUS_SEND_MESSAGE_FLAGS_NONE, nullptr,
                                 nullptr);
  written(kReplySize + size);
}

// GDBus's thread gives up what it has written a little after it says so.
void Bus::trim_later() {
  if (std::exchange(trimming_, true)) return;
  run_after(kTrimDelayMs, [this] {
    trimming_ = false;
    malloc_trim(0);
  });
}

// All answers go the same way: one that asks for much must not fill it for the others.
void Bus::flush() {
  flushing_ = true;
  g_dbus_connection_flush(
      connection_.get(), nullptr,
      [](GObject* connection, GAsyncResult* result, gpointer pointer) {
        g_dbus_connection_flush_finish(G_DBUS_CONNECTION(connection), result, nullptr);
        auto* self = static_cast<Bus*>(pointer);
        if (connection != static_cast<void*>(self->connection_.get())) return;
        if (self->unwritten_ > kMuch) self->trim_later();
        self->unwritten_ = 0;
        self->losing_ = self->flushing_ = false;
        self->serve_soon();
      },
      this);
}

void Bus::answer(Message call, GVariant* body, std::size_t size) {
  GDBusMessage* reply = g_dbus_message_new_method_reply(call.get());
  g_dbus_message_set_body(reply, body);
  finish(std::move(call), reply, size);
}

void Bus::refuse(Message call, const char* error, const std::string& text) {
  GDBusMessage* reply = g_dbus_message_new_method_error_literal(call.get(), error, text.c_str());
  finish(std::move(call), reply, 0);
}

}  // namespace mandos::bus_agent
