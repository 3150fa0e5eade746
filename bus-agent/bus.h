// SPDX-License-Identifier: GPL-3.0-or-later
// Our connection to the system bus: connects, reconnects, owns our names, passes on method calls
// and says who makes them, and calls the bus itself and Avahi. Nothing here waits.
#pragma once

#include <gio/gio.h>
#include <pwd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bus-agent/callers.h"
#include "bus-agent/wire.h"
#include "common/log.h"

namespace mandos::bus_agent {

inline constexpr char kBusName[] = "org.freedesktop.DBus";

/// Who has authority, besides root: the members of a group, but never the accounts of our own
/// processes. The packaged bus policy says the same; another policy may be less strict.
struct Access {
  std::vector<guint32> refused;  // users
  guint32 group = 0;             // 0: none
  /// An account to refuse that was not found: then only root is served, because any caller might be
  /// that account.
  std::string missing{};
  std::map<guint32, std::string> users{};  // their names, for the log
};
/// Looks up the accounts from the build; must be called before the jail is in force.
Access find_access(passwd* (*find_user)(const char* name) = getpwnam);
/// Where the system bus listens, from the environment or the default.
std::string find_system_bus();

class Bus {
 public:
  /// The result of a call that was passed on.
  enum class Handled {
    kYes,     // it was answered, or will be by answer() or refuse()
    kUnsure,  // it depends on the caller, who is not yet known
    kLater,   // we are busy: resume() follows; this caller waits, others do not
  };
  struct Handlers {
    /// If the handler returns kYes, it owns `call`.
    std::function<Handled(Message& call)> on_call;
    std::function<void(GDBusMessage* signal)> on_signal;
    std::function<void()> on_connected;
    std::function<void(const std::string& why)> on_lost;  // or not found; possibly repeatedly
  };
  Bus(Log& log, std::string path, Access access, Handlers handlers);
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  /// Connects, and reconnects from now on.
  void start();
  /// The same, and also owns the names of the service.
  void serve_names();
  /// Ends kLater.
  void resume();

  struct Caller {
    guint32 user;
    bool may_read;
    bool may_change;
    /// For the log, such as "user alice (1000), process 4711".
    std::string who;
  };
  /// Null: not yet known.
  const Caller* caller_of(GDBusMessage* call) const;

  /// Gets the reply's arguments, a tuple; or null and the error's D-Bus name. Not called if the
  /// connection is lost first.
  using Done = std::function<void(GVariant* reply, const std::string& error)>;
  /// Calls a method of another program. `to` is its unique name, or the bus itself: only that one
  /// can answer. `arguments` is a tuple, possibly floating, or null.
  void call(const std::string& to, const std::string& path, const char* interface,
            const char* method, GVariant* arguments, Done done);
  bool connected() const { return ready_; }
  /// Whether the log says that we are not on the bus.
  bool complained() const { return complained_; }

  /// Dropped if we are not on the bus. `parameters` is a tuple, possibly floating.
  void emit(const std::string& path, const char* interface, const char* member,
            GVariant* parameters);
  /// Answers a call with a tuple. Does nothing if the call wants no answer or came over an earlier
  /// connection.
  void answer(Message call, GVariant* body);
  void refuse(Message call, const char* error, const std::string& text);

 private:
  void connect();
  void authenticated();
  void welcomed();
  void disconnected(const std::string& why);
  void received(Message message);
  void called(Message call);
  void replied(GDBusMessage* reply);
  void told(GDBusMessage* signal);
  void retry(const std::string& why);
  void request_name(std::size_t index);
  void lost_name(const char* name);
  void forget(const std::string& caller);
  void ask_who(const std::string& caller);
  void serve();
  void serve_soon();
  void drained();
  void trim_later();
  void finish(Message call, GDBusMessage* reply);
  bool too_slow() const;

  struct Call {
    std::string to;
    Done done;
  };

  Log& log_;
  std::string path_;
  Access access_;
  Handlers handlers_;
  Shares shares_;
  Callers callers_;
  std::unique_ptr<Wire> wire_;
  bool started_ = false;
  bool names_wanted_ = false;
  bool ready_ = false;            // the bus has greeted us
  std::uint64_t generation_ = 0;  // of the connection
  std::unordered_map<std::uint32_t, Call> calls_;
  std::unordered_map<std::string, Caller> known_;
  std::array<bool, 2> owned_{};
  unsigned delay_ms_ = 0;
  bool complained_ = false;
  bool complained_of_name_ = false;
  bool serving_ = false;
  std::vector<std::string> later_;  // callers that wait for resume()
  bool trimming_ = false;
  bool losing_ = false;
  bool much_ = false;  // enough was written that memory should be returned
};

/// What a caller may do, from the reply of GetConnectionCredentials: what the kernel recorded when
/// the process connected. A caller that cannot be identified may do nothing.
Bus::Caller judge(GVariant* reply, const Access& access);

}  // namespace mandos::bus_agent
