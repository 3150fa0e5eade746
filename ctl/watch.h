// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/event_loop.h"
#include "common/result.h"
#include "ctl/bus.h"
#include "ctl/client.h"

namespace mandos::ctl {

/// An event on the server.
struct Event {
  std::string what;    // "waiting", "granted" and so on; mandos-ctl(8) lists them
  std::string client;  // empty: not about a client
  std::vector<std::pair<std::string, Value>> details;
};

/// Follows the server across restarts of the server and of the bus, without ever waiting for an
/// answer: everything happens in the loop. It starts with "waiting" for each client that is already
/// waiting. `happened` is called with each event.
class Watch {
 public:
  Watch(EventLoop& loop, bool debug, std::function<void(const Event&)> happened)
      : loop_(loop), debug_(debug), happened_(std::move(happened)) {}

  /// Starts. The Error: there is no bus. Otherwise on_ready is called with the result.
  Status start();
  /// Called once, when the first answer has arrived. The Error: the connection was closed, no
  /// permission, or a malformed answer. A server that is not running is not an error, but the event
  /// "server-gone".
  std::function<void(const Status&)> on_ready = [](const Status&) {};
  /// The clients as known at present.
  std::vector<Client> clients() const;
  /// Whether the server is on the bus; it may have no clients.
  bool server_there() const { return server_there_; }
  const std::map<std::string, Client, std::less<>>& by_path() const { return clients_; }

  /// For programs that show the clients: called with the path of each that was added, changed or
  /// removed, and with "" if any of them may have changed. Set before start().
  std::function<void(const std::string& path)> on_change = [](const std::string&) {};
  /// Called with a sentence if the bus is lost or found, or the server sends invalid messages;
  /// defaults to standard error.
  std::function<void(std::string_view text)> on_trouble;
  /// The connection, for changes; null if there is none.
  Bus* bus() { return bus_.get(); }
  /// Sends and handles what it can. Call this after requesting a change.
  void pump();

 private:
  static int on_signal(sd_bus_message* message, void* self, sd_bus_error*);
  static int on_owner(sd_bus_message* message, void* self, sd_bus_error*);
  Status connect();
  void reconnect();
  void arm();
  void disarm();
  void load();
  void answered(Result<std::vector<Client>> found);
  void take(std::vector<Client> found);
  void failed(const std::string& text);
  void ready(const Status& status);
  void later(std::function<void()> due);
  void forget();
  void lost(int error);
  void server_is(bool there);
  void handle(sd_bus_message* message);
  void hold(sd_bus_message* message);
  bool signal(sd_bus_message* message, std::string_view interface, std::string_view member);
  bool client_signal(sd_bus_message* message, std::string_view member, const Client& client);
  bool changed(sd_bus_message* message, Client& client);
  void disabled(const Client& client);
  void trouble(std::string_view text) const;
  void tell(std::string what, std::string client,
            std::vector<std::pair<std::string, Value>> details = {});

  EventLoop& loop_;
  bool debug_;
  std::function<void(const Event&)> happened_;
  std::unique_ptr<Bus> bus_;
  int descriptor_ = -1;  // of bus_, which no longer reports it once it is closed
  std::uint32_t wanted_ = 0;
  std::optional<EventLoop::TimerId> deadline_;  // when sd-bus must be called
  Slot asked_;                                  // the answer of load() is pending
  bool fresh_ = true;                           // and it is the first of this server
  bool ready_ = false;
  bool reconnecting_ = false;
  Milliseconds delay_{};                                    // before the last attempt
  std::optional<EventLoop::TimerId> attempt_;               // the next
  std::map<std::string, Client, std::less<>> clients_;      // by path
  std::map<std::string, std::string, std::less<>> expiry_;  // the last one of each client, by path
  std::set<std::string, std::less<>> added_;  // paths that the pending answer will explain
  std::vector<Message> held_;                 // signals of clients that the answer will explain
  bool server_there_ = true;
  std::string why_;  // why the last answer was unusable
};

}  // namespace mandos::ctl
