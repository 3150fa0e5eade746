// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/client_object.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "common/text.h"
#include "proto/bus_agent.h"

namespace mandos::bus_agent {
namespace {

using Request = door::bus_agent::ToMonitor::Request;
using Signal = door::bus_agent::ToBusAgent::Signal;

enum class Emits { kValue, kInvalidation, kNever };

struct Property {
  const char* name;
  const char* type;
  Emits emits;
  bool deprecated;
  /// Null: write-only.
  GVariant* (*get)(const Client& client);
  bool (*present)(const Client& change);
  /// Null: read-only. The value already has the right type.
  void (*set)(Request& request, GVariant* value);
  bool any_value = false;  // the value written does not matter
};

// A row of the table below, for a field of the door's message.
#define FIELD(field, make)                                      \
  [](const Client& c) -> GVariant* { return make(c.field()); }, \
      [](const Client& c) { return c.has_##field(); }
#define BOOLEAN(field) FIELD(field, g_variant_new_boolean)
#define SETTER(field, convert) \
  [](Request& request, GVariant* value) { request.set_##field(convert); }
#define SET_BOOLEAN(field) SETTER(field, g_variant_get_boolean(value) != FALSE)
#define SET_NUMBER(field) SETTER(field, g_variant_get_uint64(value))
#define SET_TEXT(field) SETTER(field, g_variant_get_string(value, nullptr))

// The order in which simultaneous changes are signaled: first the cause, then the effects.
constexpr Property kTable[] = {
    {"Name", "s", Emits::kNever, false, [](const Client& c) { return text_variant(c.name()); },
     [](const Client&) { return false; }, nullptr},
    {"ObjectPath", "o", Emits::kNever, true,
     [](const Client& c) { return g_variant_new_object_path(c.path().c_str()); },
     [](const Client&) { return false; }, nullptr},
    {"KeyID", "s", Emits::kNever, false, FIELD(key_id, text_variant), nullptr},
    {"Fingerprint", "s", Emits::kNever, false, FIELD(fingerprint, text_variant), nullptr},
    {"Created", "s", Emits::kNever, false, FIELD(created, time_variant), nullptr},
    {"Host", "s", Emits::kValue, false, FIELD(host, text_variant), SET_TEXT(host)},
    {"Checker", "s", Emits::kValue, false, FIELD(checker, text_variant), SET_TEXT(checker)},
    {"Timeout", "t", Emits::kValue, false, FIELD(timeout, g_variant_new_uint64),
     SET_NUMBER(timeout)},
    {"ExtendedTimeout", "t", Emits::kValue, false, FIELD(extended_timeout, g_variant_new_uint64),
     SET_NUMBER(extended_timeout)},
    {"Interval", "t", Emits::kValue, false, FIELD(interval, g_variant_new_uint64),
     SET_NUMBER(interval)},
    {"ApprovedByDefault", "b", Emits::kValue, false, BOOLEAN(approved_by_default),
     SET_BOOLEAN(approved_by_default)},
    {"ApprovalDelay", "t", Emits::kValue, false, FIELD(approval_delay, g_variant_new_uint64),
     SET_NUMBER(approval_delay)},
    {"ApprovalDuration", "t", Emits::kValue, false, FIELD(approval_duration, g_variant_new_uint64),
     SET_NUMBER(approval_duration)},
    {"ApprovalPending", "b", Emits::kValue, false, BOOLEAN(approval_pending), nullptr},
    {"LastApprovalRequest", "s", Emits::kValue, false, FIELD(last_approval_request, time_variant),
     nullptr},
    {"CheckerRunning", "b", Emits::kValue, false, BOOLEAN(checker_running),
     SET_BOOLEAN(checker_running)},
    {"LastCheckerStatus", "n", Emits::kValue, false,
     [](const Client& c) {
       return g_variant_new_int16(static_cast<gint16>(c.last_checker_status()));
     },
     [](const Client& c) { return c.has_last_checker_status(); }, nullptr},
    // Any value means "checked just now".
    {"LastCheckedOK", "s", Emits::kValue, false, FIELD(last_checked_ok, time_variant),
     [](Request& request, GVariant*) { request.set_checked_ok(true); }, true},
    {"Enabled", "b", Emits::kValue, false, BOOLEAN(enabled), SET_BOOLEAN(enabled)},
    {"LastEnabled", "s", Emits::kValue, false, FIELD(last_enabled, time_variant), nullptr},
    {"Expires", "s", Emits::kValue, false, FIELD(expires, time_variant), nullptr},
    {"Secret", "ay", Emits::kInvalidation, false, nullptr,
     [](const Client& c) { return c.has_secret(); },
     [](Request& request, GVariant*) { request.set_secret(true); }},
};

#undef FIELD
#undef BOOLEAN
#undef SETTER
#undef SET_BOOLEAN
#undef SET_NUMBER
#undef SET_TEXT

const Property* find_property(std::string_view name) {
  for (const auto& property : kTable) {
    if (name == property.name) return &property;
  }
  return nullptr;
}

bool is_client_interface(std::string_view name) {
  return name == kClientInterfaces[0] || name == kClientInterfaces[1];
}

std::string introspection() {
  constexpr char kEmits[] =
      R"(<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value=")";
  std::string body = R"(<method name="Approve"><arg direction="in" type="b" name="value"/></method>
<method name="CheckedOK"/>
)";
  for (const char* method : {"Enable", "Disable", "StartChecker", "StopChecker"}) {
    body += concat("<method name=\"", method, "\">", kDeprecated, "</method>\n");
  }
  body += concat(R"(<signal name="CheckerCompleted"><arg type="n" name="exitcode"/>)"
                 R"(<arg type="x" name="waitstatus"/><arg type="s" name="command"/></signal>
<signal name="CheckerStarted"><arg type="s" name="command"/></signal>
<signal name="GotSecret"/>
<signal name="NeedApproval"><arg type="t" name="timeout"/><arg type="b" name="default"/></signal>
<signal name="Rejected"><arg type="s" name="reason"/></signal>
<signal name="PropertyChanged"><arg type="s" name="property"/><arg type="v" name="value"/>)",
                 kDeprecated, "</signal>\n");
  for (const auto& property : kTable) {
    body += concat("<property name=\"", property.name, "\" type=\"", property.type, "\" access=\"",
                   property.get == nullptr   ? "write"
                   : property.set == nullptr ? "read"
                                             : "readwrite",
                   "\">");
    if (property.emits == Emits::kNever) body += concat(kEmits, "const\"/>");
    if (property.emits == Emits::kInvalidation) body += concat(kEmits, "invalidates\"/>");
    if (property.deprecated) body += kDeprecated;
    body += "</property>\n";
  }
  return concat(kIntrospectionHead, "<node>\n", kIntrospectableXml, kPropertiesXml,
                "<interface name=\"", kClientInterfaces[0], "\">\n", body,
                "</interface>\n<interface name=\"", kClientInterfaces[1], "\">\n", body,
                kDeprecated, "</interface>\n<interface name=\"", kSecretInterface,
                "\">\n<property name=\"Form\" type=\"s\" access=\"read\">", kEmits,
                "false\"/></property></interface>\n</node>\n");
}

Outcome unknown_property(std::string_view interface, std::string_view name) {
  if (!is_client_interface(interface) && !interface.empty()) {
    return Refusal{errors::kUnknownInterface, concat("no interface ", interface)};
  }
  return Refusal{errors::kUnknownProperty, concat("no property ", name)};
}

/// The content of a value that some languages wrap in several variants.
Variant unwrapped(GVariant* value) {
  Variant inner(g_variant_ref(value));
  while (g_variant_is_of_type(inner.get(), G_VARIANT_TYPE_VARIANT)) {
    inner.reset(g_variant_get_variant(inner.get()));
  }
  return inner;
}

/// A number of any type, or a boolean. Callers whose language has only one type of number, or no
/// boolean, may send any of them.
struct Number {
  bool negative;
  std::uint64_t magnitude;  // without the fraction
  bool zero;                // exactly: 0.5 is not zero
};
std::optional<Number> number_of(GVariant* value) {
  const auto whole = [](gint64 n) {
    const auto bits = static_cast<std::uint64_t>(n);
    return Number{n < 0, n < 0 ? 0 - bits : bits, n == 0};
  };
  switch (g_variant_classify(value)) {
    case G_VARIANT_CLASS_BOOLEAN:
      return whole(g_variant_get_boolean(value) ? 1 : 0);
    case G_VARIANT_CLASS_BYTE:
      return whole(g_variant_get_byte(value));
    case G_VARIANT_CLASS_INT16:
      return whole(g_variant_get_int16(value));
    case G_VARIANT_CLASS_UINT16:
      return whole(g_variant_get_uint16(value));
    case G_VARIANT_CLASS_INT32:
      return whole(g_variant_get_int32(value));
    case G_VARIANT_CLASS_UINT32:
      return whole(g_variant_get_uint32(value));
    case G_VARIANT_CLASS_INT64:
      return whole(g_variant_get_int64(value));
    case G_VARIANT_CLASS_UINT64: {
      const guint64 number = g_variant_get_uint64(value);
      return Number{false, number, number == 0};
    }
    case G_VARIANT_CLASS_DOUBLE: {
      constexpr double kTooMuch = 18446744073709551616.0;  // 2^64
      const double number = g_variant_get_double(value);
      if (!(std::abs(number) < kTooMuch)) return std::nullopt;
      return Number{number < 0, static_cast<std::uint64_t>(std::abs(number)), number == 0};
    }
    default:
      return std::nullopt;
  }
}

std::optional<std::string> text_of(GVariant* value) {
  switch (g_variant_classify(value)) {
    case G_VARIANT_CLASS_STRING:
    case G_VARIANT_CLASS_OBJECT_PATH:
    case G_VARIANT_CLASS_SIGNATURE:
      return g_variant_get_string(value, nullptr);
    case G_VARIANT_CLASS_BYTE:
    case G_VARIANT_CLASS_DOUBLE:
      return std::nullopt;
    default:
      break;
  }
  const auto number = number_of(value);
  if (!number) return std::nullopt;
  return concat(number->negative ? "-" : "", number->magnitude);
}

/// `value` converted to the property's type, if the Python server converts it, too, and the intent
/// is clear; null otherwise. (The Python server takes every string except the empty one as true,
/// even "false".)
Variant as_written(GVariant* value, const Property& property) {
  const std::string_view type = property.type;
  if (type == "b") {
    const auto number = number_of(value);
    return number ? own(g_variant_new_boolean(!number->zero)) : nullptr;
  }
  if (type == "t") {
    const auto number = number_of(value);
    if (!number || number->negative) return nullptr;
    return own(g_variant_new_uint64(number->magnitude));
  }
  if (type == "s") {
    const auto text = text_of(value);
    return text ? own(g_variant_new_string(text->c_str())) : nullptr;
  }
  // A secret: take_secret() has already turned integers into bytes.
  const char* given = g_variant_get_type_string(value);
  if (given[0] != 'a' || given[1] == '\0' || std::strchr("ynqiuxtb", given[1]) == nullptr) {
    return nullptr;
  }
  return Variant(g_variant_ref(value));
}

Outcome set_property(const Client& client, const Property& property, GVariant* written) {
  if (property.set == nullptr) {
    return Refusal{errors::kPropertyReadOnly, concat(property.name, " cannot be written")};
  }
  const Variant given = unwrapped(written);
  const bool secret = property.get == nullptr;
  const Variant value =
      property.any_value ? own(g_variant_new_string("")) : as_written(given.get(), property);
  if (value == nullptr) {
    return Refusal{errors::kInvalidArgs, concat(property.name, " is of type ", property.type,
                                                ", not ", g_variant_get_type_string(given.get()))};
  }
  if (secret ? g_variant_n_children(value.get()) > door::bus_agent::kLongestSecret
             : g_variant_get_size(value.get()) > door::bus_agent::kLongestText) {
    return Refusal{errors::kLimitsExceeded, concat(property.name, " is too long")};
  }
  Change change;
  change.request.set_name(client.name());
  property.set(change.request, value.get());
  return change;
}

/// The arguments as strings; also accepts object paths and signatures, like the Python server.
/// Nothing if the number or a type is wrong. `with_value`: a variant follows.
std::optional<std::vector<std::string>> texts(GVariant* body, std::size_t count, bool with_value) {
  if (g_variant_n_children(body) != count + (with_value ? 1 : 0)) return std::nullopt;
  std::vector<std::string> found;
  for (std::size_t i = 0; i < count; ++i) {
    const Variant argument(g_variant_get_child_value(body, i));
    const auto text = number_of(argument.get()) ? std::nullopt : text_of(argument.get());
    if (!text) return std::nullopt;
    found.push_back(*text);
  }
  return found;
}

/// The interface that the Python server's clients lack: what the monitor says of the secret.
Outcome call_secret(const Client& client, const Method& method) {
  constexpr const char* kForms[] = {"OpenPGP", "damaged OpenPGP", "other"};
  const char* const form =
      !client.has_secret_form() ? "none" : kForms[std::min(client.secret_form(), 2U)];
  if (method.member == "GetAll") {
    GVariantBuilder all;
    g_variant_builder_init(&all, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&all, "{sv}", "Form", g_variant_new_string(form));
    return Answer{own(g_variant_new("(a{sv})", &all))};
  }
  const auto names = texts(method.body, 2, method.member == "Set");
  if (!names) return Refusal{errors::kInvalidArgs, "Get takes (ss)"};
  if (names->back() != "Form") return unknown_property(kClientInterfaces[0], names->back());
  if (method.member == "Set") return Refusal{errors::kPropertyReadOnly, "Form cannot be written"};
  return Answer{own(g_variant_new("(v)", g_variant_new_string(form)))};
}

Outcome call_properties(const Client& client, const Method& method) {
  if (g_variant_n_children(method.body) > 0) {
    const Variant interface(g_variant_get_child_value(method.body, 0));
    if (text_of(interface.get()) == kSecretInterface) return call_secret(client, method);
  }
  if (method.member == "GetAll") {
    const auto interface = texts(method.body, 1, false);
    if (!interface) return Refusal{errors::kInvalidArgs, "GetAll takes (s)"};
    // An interface without properties returns an empty list.
    if (!interface->front().empty() && !is_client_interface(interface->front())) {
      return Answer{
          own(g_variant_new("(@a{sv})", g_variant_new_array(G_VARIANT_TYPE("{sv}"), nullptr, 0)))};
    }
    return Answer{own(g_variant_new("(@a{sv})", readable_properties(client)))};
  }
  const bool sets = method.member == "Set";
  const auto names = texts(method.body, 2, sets);
  if (!names) return Refusal{errors::kInvalidArgs, sets ? "Set takes (ssv)" : "Get takes (ss)"};
  const std::string& interface = names->front();
  const Property* property = find_property(names->back());
  if (property == nullptr || (!interface.empty() && !is_client_interface(interface))) {
    return unknown_property(interface, names->back());
  }
  if (sets) {
    const Variant value(g_variant_get_child_value(method.body, 2));
    return set_property(client, *property, value.get());
  }
  if (property->get == nullptr) {
    return Refusal{errors::kAccessDenied, concat(property->name, " cannot be read")};
  }
  return Answer{own(g_variant_new("(v)", property->get(client)))};
}

struct Action {
  const char* name;
  const char* signature;
  void (*fill)(Request& request, bool argument);
};
constexpr Action kActions[] = {
    {"Approve", "(b)", [](Request& request, bool approved) { request.set_approve(approved); }},
    {"CheckedOK", "()", [](Request& request, bool) { request.set_checked_ok(true); }},
    {"Enable", "()", [](Request& request, bool) { request.set_enabled(true); }},
    {"Disable", "()", [](Request& request, bool) { request.set_enabled(false); }},
    {"StartChecker", "()", [](Request& request, bool) { request.set_checker_running(true); }},
    {"StopChecker", "()", [](Request& request, bool) { request.set_checker_running(false); }},
};

}  // namespace

GVariant* text_variant(const std::string& bytes) {
  if (g_utf8_validate(bytes.data(), static_cast<gssize>(bytes.size()), nullptr)) {
    return g_variant_new_string(bytes.c_str());
  }
  return g_variant_new_take_string(
      g_utf8_make_valid(bytes.data(), static_cast<gssize>(bytes.size())));
}

GVariant* time_variant(std::int64_t microseconds) {
  using namespace std::chrono;
  if (microseconds == 0) return g_variant_new_string("");
  const sys_time<std::chrono::microseconds> time{std::chrono::microseconds(microseconds)};
  const auto day = floor<days>(time);
  const year_month_day date(day);
  const hh_mm_ss clock(time - day);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%06d", int{date.year()},
                unsigned{date.month()}, unsigned{date.day()},
                static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()),
                static_cast<int>(clock.subseconds().count()));
  return g_variant_new_string(text.data());
}

Outcome call_client(const Client& client, const Method& method) {
  if (method.is(kIntrospectable, "Introspect")) {
    static const std::string xml = introspection();
    return Answer{own(g_variant_new("(s)", xml.c_str()))};
  }
  for (const char* member : {"Get", "Set", "GetAll"}) {
    if (method.is(kProperties, member)) return call_properties(client, method);
  }
  for (const auto& action : kActions) {
    if (!method.is(kClientInterfaces[0], action.name) &&
        !method.is(kClientInterfaces[1], action.name)) {
      continue;
    }
    std::optional<Number> argument;
    if (g_variant_n_children(method.body) == 1) {
      const Variant given(g_variant_get_child_value(method.body, 0));
      argument = number_of(unwrapped(given.get()).get());
    }
    const bool wants_one = std::string_view(action.signature) != "()";
    if (wants_one ? !argument : g_variant_n_children(method.body) > 0) {
      return Refusal{errors::kInvalidArgs, concat(action.name, " takes ", action.signature)};
    }
    Change change;
    change.request.set_name(client.name());
    action.fill(change.request, argument && !argument->zero);
    return change;
  }
  return Refusal{errors::kUnknownMethod,
                 concat("no method ", method.member, " of interface \"", method.interface, "\"")};
}

GVariant* readable_properties(const Client& client) {
  // Created once: the names cost as much as the values, and there may be ten thousand clients.
  static const auto names = [] {
    std::array<Variant, std::size(kTable)> made;
    for (std::size_t i = 0; i < made.size(); ++i)
      made[i] = own(g_variant_new_string(kTable[i].name));
    return made;
  }();
  std::array<GVariant*, std::size(kTable)> entries{};
  std::size_t count = 0;
  for (std::size_t i = 0; i < std::size(kTable); ++i) {
    if (kTable[i].get == nullptr) continue;
    entries[count++] =
        g_variant_new_dict_entry(names[i].get(), g_variant_new_variant(kTable[i].get(client)));
  }
  return g_variant_new_array(G_VARIANT_TYPE("{sv}"), entries.data(), count);
}

GVariant* interfaces_and_properties(const Client& client) {
  GVariant* properties = readable_properties(client);
  GVariant* none = g_variant_new_array(G_VARIANT_TYPE("{sv}"), nullptr, 0);
  static const std::array<Variant, 4> names{own(g_variant_new_string(kClientInterfaces[0])),
                                            own(g_variant_new_string(kClientInterfaces[1])),
                                            own(g_variant_new_string(kIntrospectable)),
                                            own(g_variant_new_string(kProperties))};
  const std::array<GVariant*, 4> entries{g_variant_new_dict_entry(names[0].get(), properties),
                                         g_variant_new_dict_entry(names[1].get(), properties),
                                         g_variant_new_dict_entry(names[2].get(), none),
                                         g_variant_new_dict_entry(names[3].get(), none)};
  return g_variant_new_array(G_VARIANT_TYPE("{sa{sv}}"), entries.data(), entries.size());
}

GVariant* interface_names() {
  constexpr const char* kNames[] = {kClientInterfaces[0], kClientInterfaces[1], kIntrospectable,
                                    kProperties};
  return g_variant_new_strv(kNames, std::size(kNames));
}

void emit_changed(const Client& client, const Client& change, const Emit& emit) {
  const auto strings = [](const char* name) {
    return g_variant_new_strv(name == nullptr ? nullptr : &name, name == nullptr ? 0 : 1);
  };
  for (const auto& property : kTable) {
    if (!property.present(change)) continue;
    GVariantBuilder changed;
    g_variant_builder_init(&changed, G_VARIANT_TYPE("a{sv}"));
    if (property.get != nullptr) {
      const Variant value = own(property.get(client));
      for (const char* interface : kClientInterfaces) {
        emit(client.path(), interface, "PropertyChanged",
             g_variant_new("(sv)", property.name, value.get()));
      }
      g_variant_builder_add(&changed, "{sv}", property.name, value.get());
    }
    emit(client.path(), kProperties, "PropertiesChanged",
         g_variant_new("(sa{sv}@as)", kClientInterfaces[0], &changed,
                       strings(property.get == nullptr ? property.name : nullptr)));
  }
}

void emit_signal(const Client& client, const Signal& signal, const Emit& emit) {
  const auto emit_both = [&](const char* member, GVariant* floating) {
    const Variant parameters = own(floating);
    for (const char* interface : kClientInterfaces) {
      emit(client.path(), interface, member, parameters.get());
    }
  };
  switch (signal.signal_case()) {
    case Signal::kCheckerStarted:
      return emit_both("CheckerStarted",
                       g_variant_new("(@s)", text_variant(signal.checker_started())));
    case Signal::kCheckerCompleted: {
      const auto& completed = signal.checker_completed();
      return emit_both(
          "CheckerCompleted",
          g_variant_new("(nx@s)", static_cast<gint16>(completed.exit_code()),
                        gint64{completed.wait_status()}, text_variant(completed.command())));
    }
    case Signal::kNeedApproval:
      return emit_both("NeedApproval",
                       g_variant_new("(tb)", signal.need_approval().delay(),
                                     signal.need_approval().approved_by_default() ? TRUE : FALSE));
    case Signal::kGotSecret:
      return emit_both("GotSecret", g_variant_new("()"));
    case Signal::kRejected:
      return emit_both("Rejected", g_variant_new("(@s)", text_variant(signal.rejected())));
    case Signal::SIGNAL_NOT_SET:
      return;
  }
}

}  // namespace mandos::bus_agent
