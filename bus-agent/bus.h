// SPDX-License-Identifier: GPL-3.0-or-later
// Our place on the system bus: connects, and again when the bus was away; owns our names; hands on
// method calls and says who makes them. GDBus carries the messages; who is served when is ours to
// decide, so calls are taken from it before its own dispatch.
#pragma once

#include <gio/gio.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bus-agent/callers.h"
#include "common/log.h"

namespace mandos::bus_agent {

/// Who may ask for changes, beside root (the packaged bus policy says the same).
struct Access {
  std::vector<guint32> users;
  guint32 group = 0;  // 0: none
};
/// From the accounts that the build was given; must be called before the jail is on.
Access find_access();
/// Where the system bus listens, from the environment or the usual place.
std::string find_system_bus();

class Bus {
 public:
  /// What has become of a call that was handed on.
  enum class Handled {
    kYes,     // it is answered, or will be by answer() or refuse()
    kUnsure,  // it depends on who calls, which is not known yet
    kLater,   // too much is going on: resume() follows
  };
  /// `call` belongs to the handler when it says kYes.
  using Handler = std::function<Handled(Message& call)>;
  Bus(Log& log, std::string path, Access access, Handler handler);
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  /// Connects, and stays connected from now on.
  void start();
  /// kLater is over.
  void resume();

  struct Caller {
    guint32 user;
    bool may_change;
  };
  /// Null: not known yet.
  const Caller* caller_of(GDBusMessage* call) const;

  /// Dropped when we are not on the bus. `parameters` is a tuple, perhaps floating.
  void emit(const std::string& path, const char* interface, const char* member,
            GVariant* parameters);
  /// Has GDBus read so many bytes of nothing, after what it has read so far: its buffer is used
  /// again and again, and would keep a secret.
  void overwrite_buffer(std::size_t size);
  /// Answers a call with a tuple. One that wants no answer, or came over an earlier connection,
  /// gets none.
  /// `size` is roughly how long it is, in bytes.
  void answer(Message call, GVariant* body, std::size_t size);
  void refuse(Message call, const char* error, const std::string& text);

 private:
  void connect();
  void connected(GDBusConnection* connection, const GError* error);
  void disconnected();
  void retry(const std::string& why);
  void request_name(std::size_t index);
  void forget(const std::string& caller);
  void ask_who(const std::string& caller);
  void serve();
  void serve_soon();
  /// Something of that size is on its way to the bus.
  void written(std::size_t size);
  void flush();
  void trim_later();
  void finish(Message call, GDBusMessage* reply, std::size_t size);

  Log& log_;
  std::string path_;
  Access access_;
  Handler handler_;
  std::shared_ptr<Inbox> inbox_;
  Callers callers_;
  std::unique_ptr<GDBusConnection, Unref> connection_;
  std::uint64_t generation_ = 0;  // of the connection
  std::unordered_map<std::string, Caller> known_;
  std::array<bool, 2> owned_{};
  unsigned delay_ms_ = 0;
  bool complained_ = false;
  bool complained_of_name_ = false;
  bool serving_ = false;
  bool later_ = false;
  bool flushing_ = false;
  bool trimming_ = false;
  bool losing_ = false;
  std::size_t unwritten_ = 0;  // bytes of answers and signals since the last flush
};

}  // namespace mandos::bus_agent
