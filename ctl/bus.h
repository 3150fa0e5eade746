// SPDX-License-Identifier: GPL-3.0-or-later
// The server on the system bus, accessed through sd-bus of libsystemd. It was chosen over GDBus
// because
//  - it reaches another machine's bus through ssh(1) by itself (sd_bus_open_system_remote()), as
//    `systemctl -H` does;
//  - it can be told that a message is sensitive, and then wipes it when it frees it;
//  - it is one small library that every system with systemd has, without GLib's threads, main loop
//    and type system, so mandos-ctl starts in a few milliseconds.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "ctl/client.h"
#include "ctl/statistics.h"

namespace mandos::ctl {

inline constexpr char kServerName[] = "se.recompile.Mandos";
inline constexpr char kClientInterface[] = "se.recompile.Mandos.Client";

/// The kind of the last failure, for callers whose exit status depends on it.
enum class Trouble { kNone, kNoBus, kNoServer, kNoAnswer, kDenied, kNonsense, kOther };

struct FreeMessage {
  void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, FreeMessage>;
struct FreeSlot {
  void operator()(sd_bus_slot* slot) const { sd_bus_slot_unref(slot); }
};
/// A pending reply or subscription, for as long as this object lives.
using Slot = std::unique_ptr<sd_bus_slot, FreeSlot>;

/// A connection to a system bus and the Mandos server on it.
class Bus {
 public:
  /// Connects to this machine's system bus; with `debug`, each call is shown on standard error.
  Status open(bool debug);

  Result<std::vector<Client>> clients();
  /// The same without waiting: `answered` is called with the clients from sd_bus_process(), unless
  /// the Slot is destroyed first.
  using Answered = std::function<void(Result<std::vector<Client>> clients)>;
  Result<Slot> ask_for_clients(Answered answered);
  /// The server's counters; nothing if it has none, like the original's.
  Result<std::optional<Statistics>> statistics();
  /// The form of a client's secret according to the server: "OpenPGP", "damaged OpenPGP", "other"
  /// or "none"; nothing if it does not report that, like the original's.
  Result<std::optional<std::string>> secret_form(const std::string& path);
  /// Each of these changes one client, which its object path identifies.
  Status set(const std::string& path, const char* property, const Value& value);
  Status set_secret(const std::string& path, std::span<const unsigned char> secret);
  Status approve(const std::string& path, bool approved);
  Status remove(const std::string& path);
  /// The next change does not wait: it returns Ok, and `answered` is called with its result from
  /// sd_bus_process().
  void answer_later(std::function<void(const Status&)> answered) {
    answered_ = std::move(answered);
  }

  Trouble trouble() const { return trouble_; }
  sd_bus* get() const { return bus_.get(); }

 private:
  struct Close {
    void operator()(sd_bus* bus) const {
      // Flushing a connection that is not established would block until it is.
      if (sd_bus_is_ready(bus) > 0) sd_bus_flush(bus);
      sd_bus_close_unref(bus);
    }
  };
  Result<Message> new_call(const std::string& path, const char* interface, const char* member);
  Result<Message> new_set(const std::string& path, const char* property);
  Result<Message> send(Message call, const std::string& shown);
  Result<Slot> send_later(Message call, const std::string& shown,
                          std::function<void(sd_bus_message* reply)> replied);
  Status change(Message call, const std::string& shown);
  Result<std::vector<Client>> read_clients(sd_bus_message* message);
  void show(sd_bus_message* call, const std::string& shown) const;
  Error failed(Trouble trouble, std::string text);

  std::unique_ptr<sd_bus, Close> bus_;
  bool debug_ = false;
  std::function<void(const Status&)> answered_;
  Trouble trouble_ = Trouble::kNone;
};

/// Reads a variant; skips it if its type is not one of Value's.
Result<std::optional<Value>> read_variant(sd_bus_message* message);
/// Reads an array of properties, a{sv}, into `properties`.
Status read_properties(sd_bus_message* message,
                       std::map<std::string, Value, std::less<>>& properties);

}  // namespace mandos::ctl
