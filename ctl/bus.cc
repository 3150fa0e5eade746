// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/bus.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>
#include <variant>

#include "common/text.h"
#include "config.h"

namespace mandos::ctl {
namespace {

constexpr char kProperties[] = "org.freedesktop.DBus.Properties";
constexpr char kManager[] = "org.freedesktop.DBus.ObjectManager";
constexpr std::uint64_t kPatienceMicroseconds = 60'000'000;

/// Filled in by sd_bus_call() and freed on destruction.
class BusError {
 public:
  BusError() = default;
  BusError(const BusError&) = delete;
  BusError& operator=(const BusError&) = delete;
  ~BusError() { sd_bus_error_free(&error_); }
  sd_bus_error* out() { return &error_; }

 private:
  sd_bus_error error_{};
};

constexpr char kMalformed[] = "the server answers nonsense: a malformed message";

Error malformed() { return Error{kMalformed}; }

/// Why a call failed: the error in the reply, and its number.
std::pair<Trouble, std::string> reason(const sd_bus_error* error, int code) {
  const auto is = [&](const char* name) { return sd_bus_error_has_name(error, name) != 0; };
  const std::string text = error != nullptr && error->message != nullptr
                               ? printable(error->message)
                               : std::strerror(code);  // NOLINT(concurrency-mt-unsafe): no threads
  if (is(SD_BUS_ERROR_SERVICE_UNKNOWN) || is(SD_BUS_ERROR_NAME_HAS_NO_OWNER)) {
    return {Trouble::kNoServer,
            "no Mandos server runs: nobody owns the name se.recompile.Mandos on the system bus"};
  }
  if (is(SD_BUS_ERROR_ACCESS_DENIED)) {
    return {Trouble::kDenied,
            concat("permission denied: only root and members of the group " MANDOS_BUS_GROUP
                   " may talk to the Mandos server (",
                   text, ")")};
  }
  if (code == EBADMSG) return {Trouble::kNonsense, kMalformed};
  if (code == ETIMEDOUT) {
    return {Trouble::kNoAnswer, concat("the server did not answer within ",
                                       kPatienceMicroseconds / 1'000'000, " seconds")};
  }
  if (code == ECONNRESET || code == ENOTCONN || code == EPIPE) {
    return {Trouble::kNoBus, "the system bus closed the connection"};
  }
  return {Trouble::kOther, text};
}

bool enter(sd_bus_message* message, char type, const char* contents) {
  return sd_bus_message_enter_container(message, type, contents) > 0;
}

bool leave(sd_bus_message* message) { return sd_bus_message_exit_container(message) >= 0; }

/// A basic type as a Value; `As` is the type in which sd-bus stores it.
template <class As, class Converted>
std::optional<Value> read_as(sd_bus_message* message, char type) {
  As raw{};
  if (sd_bus_message_read_basic(message, type, &raw) <= 0) return std::nullopt;
  return Value(static_cast<Converted>(raw));
}

std::optional<Value> read_basic(sd_bus_message* message, char type) {
  switch (type) {
    case 'b':
      return read_as<int, bool>(message, type);
    case 'n':
      return read_as<std::int16_t, std::int64_t>(message, type);
    case 'i':
      return read_as<std::int32_t, std::int64_t>(message, type);
    case 'x':
      return read_as<std::int64_t, std::int64_t>(message, type);
    case 't':
      return read_as<std::uint64_t, std::uint64_t>(message, type);
    default:
      return read_as<const char*, std::string>(message, type);
  }
}

/// Whether `value` has the type that the property's kind requires.
bool is_of(const Value& value, Kind kind) {
  switch (kind) {
    case Kind::kText:
      return std::holds_alternative<std::string>(value);
    case Kind::kBoolean:
      return std::holds_alternative<bool>(value);
    case Kind::kDuration:
      return std::holds_alternative<std::uint64_t>(value);
    case Kind::kNumber:
      return std::holds_alternative<std::int64_t>(value);
  }
  return false;
}

/// Why `client` cannot be shown; empty if it can.
std::string problem_of(const Client& client) {
  for (const auto& property : all_properties()) {
    const auto found = client.properties.find(property.name);
    if (found == client.properties.end()) {
      return concat("the server answers nonsense: ", printable(client.path), " has no ",
                    property.name);
    }
    if (!is_of(found->second, property.kind)) {
      return concat("the server answers nonsense: ", property.name, " of ", printable(client.path),
                    " has the wrong type");
    }
  }
  return {};
}

/// One object of GetManagedObjects(): {oa{sa{sv}}}. An object that is not a client gets no
/// properties.
Status read_object(sd_bus_message* reply, Client& client) {
  const char* text = nullptr;
  if (sd_bus_message_read_basic(reply, 'o', &text) <= 0) return malformed();
  client.path = text;
  if (!enter(reply, 'a', "{sa{sv}}")) return malformed();
  while (enter(reply, 'e', "sa{sv}")) {
    if (sd_bus_message_read_basic(reply, 's', &text) <= 0) return malformed();
    if (std::string_view(text) == kClientInterface) {
      if (auto read = read_properties(reply, client.properties); !read) return read;
    } else if (sd_bus_message_skip(reply, "a{sv}") < 0) {
      return malformed();
    }
    if (!leave(reply)) return malformed();
  }
  return leave(reply) ? Status(Ok{}) : malformed();
}

}  // namespace

Result<std::optional<Value>> read_variant(sd_bus_message* message) {
  const char* contents = nullptr;
  char type = 0;
  if (sd_bus_message_peek_type(message, &type, &contents) <= 0 || type != 'v') return malformed();
  if (std::strlen(contents) != 1 || std::strchr("bnixtso", contents[0]) == nullptr) {
    if (sd_bus_message_skip(message, "v") < 0) return malformed();
    return std::optional<Value>();
  }
  const char inner = contents[0];
  if (!enter(message, 'v', contents)) return malformed();
  auto value = read_basic(message, inner);
  if (!value || !leave(message)) return malformed();
  return value;
}

Status read_properties(sd_bus_message* message,
                       std::map<std::string, Value, std::less<>>& properties) {
  if (!enter(message, 'a', "{sv}")) return malformed();
  while (enter(message, 'e', "sv")) {
    const char* name = nullptr;
    if (sd_bus_message_read_basic(message, 's', &name) <= 0) return malformed();
    std::string key = name;
    auto value = read_variant(message);
    if (!value) return Error{value.error()};
    if (*value) properties.insert_or_assign(std::move(key), std::move(**value));
    if (!leave(message)) return malformed();
  }
  return leave(message) ? Status(Ok{}) : malformed();
}

Error Bus::failed(Trouble trouble, std::string text) {
  trouble_ = trouble;
  return Error{std::move(text)};
}

Status Bus::open(bool debug) {
  debug_ = debug;
  sd_bus* bus = nullptr;
  const int error = sd_bus_open_system(&bus);
  if (error < 0) {
    return failed(Trouble::kNoBus, errno_error(-error, "cannot connect to the system bus").text);
  }
  bus_.reset(bus);
  sd_bus_set_method_call_timeout(bus, kPatienceMicroseconds);
  return Ok{};
}

Result<Message> Bus::new_call(const std::string& path, const char* interface, const char* member) {
  sd_bus_message* call = nullptr;
  const int error = sd_bus_message_new_method_call(bus_.get(), &call, kServerName, path.c_str(),
                                                   interface, member);
  if (error < 0) {
    return failed(Trouble::kOther, errno_error(-error, "cannot create the call ", member).text);
  }
  return Message(call);
}

Result<Message> Bus::new_set(const std::string& path, const char* property) {
  auto call = new_call(path, kProperties, "Set");
  if (call) sd_bus_message_append(call->get(), "ss", kClientInterface, property);
  return call;
}

void Bus::show(sd_bus_message* call, const std::string& shown) const {
  if (!debug_) return;
  std::fprintf(stderr, "mandos-ctl: call to %s, object %s: %s.%s(%s)\n", kServerName,
               sd_bus_message_get_path(call), sd_bus_message_get_interface(call),
               sd_bus_message_get_member(call), printable(shown).c_str());
}

Result<Message> Bus::send(Message call, const std::string& shown) {
  show(call.get(), shown);
  BusError error;
  sd_bus_message* reply = nullptr;
  const int code = sd_bus_call(bus_.get(), call.get(), 0, error.out(), &reply);
  if (code >= 0) return Message(reply);
  auto [trouble, text] = reason(error.out(), -code);
  return failed(trouble, std::move(text));
}

Result<Slot> Bus::send_later(Message call, const std::string& shown,
                             std::function<void(sd_bus_message* reply)> replied) {
  using Replied = std::function<void(sd_bus_message * reply)>;
  show(call.get(), shown);
  auto kept = std::make_unique<Replied>(std::move(replied));
  const auto on_reply = [](sd_bus_message* reply, void* given, sd_bus_error*) {
    (*static_cast<Replied*>(given))(reply);
    return 0;
  };
  sd_bus_slot* slot = nullptr;
  const int code = sd_bus_call_async(bus_.get(), &slot, call.get(), on_reply, kept.get(), 0);
  if (code < 0) {
    auto [trouble, text] = reason(nullptr, -code);
    return failed(trouble, std::move(text));
  }
  sd_bus_slot_set_destroy_callback(slot, [](void* given) { delete static_cast<Replied*>(given); });
  static_cast<void>(kept.release());
  return Slot(slot);
}

Status Bus::change(Message call, const std::string& shown) {
  if (!answered_) {
    const auto reply = send(std::move(call), shown);
    return reply ? Status(Ok{}) : Status(Error{reply.error()});
  }
  const auto on_reply = [told = std::exchange(answered_, nullptr)](sd_bus_message* reply) {
    const auto* const error = sd_bus_message_get_error(reply);
    told(error == nullptr ? Status(Ok{})
                          : Status(Error{reason(error, sd_bus_message_get_errno(reply)).second}));
  };
  const auto slot = send_later(std::move(call), shown, on_reply);
  if (!slot) return Error{slot.error()};
  sd_bus_slot_set_floating(slot->get(), 1);  // freed together with the bus
  return Ok{};
}

Result<std::vector<Client>> Bus::clients() {
  auto call = new_call("/", kManager, "GetManagedObjects");
  if (!call) return Error{call.error()};
  const auto reply = send(std::move(*call), "");
  if (!reply) return Error{reply.error()};
  return read_clients(reply->get());
}

Result<Slot> Bus::ask_for_clients(Answered answered) {
  auto call = new_call("/", kManager, "GetManagedObjects");
  if (!call) return Error{call.error()};
  return send_later(std::move(*call), "",
                    [this, answered = std::move(answered)](sd_bus_message* reply) {
                      const auto* const error = sd_bus_message_get_error(reply);
                      if (error == nullptr) return answered(read_clients(reply));
                      auto [trouble, text] = reason(error, sd_bus_message_get_errno(reply));
                      answered(failed(trouble, std::move(text)));
                    });
}

Result<std::vector<Client>> Bus::read_clients(sd_bus_message* message) {
  std::vector<Client> found;
  if (!enter(message, 'a', "{oa{sa{sv}}}")) return failed(Trouble::kNonsense, malformed().text);
  while (enter(message, 'e', "oa{sa{sv}}")) {
    Client client;
    if (const auto read = read_object(message, client); !read || !leave(message)) {
      return failed(Trouble::kNonsense, malformed().text);
    }
    if (client.properties.empty()) continue;
    if (auto problem = problem_of(client); !problem.empty()) {
      return failed(Trouble::kNonsense, std::move(problem));
    }
    found.push_back(std::move(client));
  }
  return found;
}

Status Bus::set(const std::string& path, const char* property, const Value& value) {
  auto call = new_set(path, property);
  if (!call) return Error{call.error()};
  sd_bus_message* const message = call->get();
  int error = 0;
  if (const auto* flag = std::get_if<bool>(&value)) {
    error = sd_bus_message_append(message, "v", "b", *flag ? 1 : 0);
  } else if (const auto* time = std::get_if<std::uint64_t>(&value)) {
    error = sd_bus_message_append(message, "v", "t", *time);
  } else if (const auto* number = std::get_if<std::int64_t>(&value)) {
    error = sd_bus_message_append(message, "v", "x", *number);
  } else {
    error = sd_bus_message_append(message, "v", "s", std::get<std::string>(value).c_str());
  }
  if (error < 0) {
    return failed(Trouble::kOther, errno_error(-error, "cannot send ", property).text);
  }
  return change(std::move(*call), concat(property, " = ", shown(value)));
}

Status Bus::set_secret(const std::string& path, std::span<const unsigned char> secret) {
  auto call = new_set(path, "Secret");
  if (!call) return Error{call.error()};
  sd_bus_message* const message = call->get();
  sd_bus_message_sensitive(message);
  sd_bus_message_open_container(message, 'v', "ay");
  sd_bus_message_append_array(message, 'y', secret.data(), secret.size());
  if (const int error = sd_bus_message_close_container(message); error < 0) {
    return failed(Trouble::kOther, errno_error(-error, "cannot send the secret").text);
  }
  return change(std::move(*call), concat("Secret = ", secret.size(), " bytes"));
}

Status Bus::approve(const std::string& path, bool approved) {
  auto call = new_call(path, kClientInterface, "Approve");
  if (!call) return Error{call.error()};
  sd_bus_message_append(call->get(), "b", approved ? 1 : 0);
  return change(std::move(*call), approved ? "true" : "false");
}

Status Bus::remove(const std::string& path) {
  auto call = new_call("/", kServerName, "RemoveClient");
  if (!call) return Error{call.error()};
  sd_bus_message_append(call->get(), "o", path.c_str());
  return change(std::move(*call), path);
}

}  // namespace mandos::ctl
