// SPDX-License-Identifier: GPL-3.0-or-later
// The outcome of a method call on one of our objects.
#pragma once

#include <gio/gio.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "bus_agent.pb.h"

namespace mandos::bus_agent {

struct UnrefVariant {
  void operator()(GVariant* variant) const { g_variant_unref(variant); }
};
using Variant = std::unique_ptr<GVariant, UnrefVariant>;
/// Takes ownership of a variant that nobody owns yet ("floating").
inline Variant own(GVariant* floating) { return Variant(g_variant_ref_sink(floating)); }

/// The reply's arguments, a tuple.
struct Answer {
  Variant body;
};
/// An error reply.
struct Refusal {
  const char* error;  // its D-Bus name
  std::string text;
};
/// To be sent to the monitor, if the caller may. A new secret is separate, see take_secret().
struct Change {
  door::bus_agent::ToMonitor::Request request;
};
using Outcome = std::variant<Answer, Refusal, Change>;

inline Answer nothing() { return {own(g_variant_new("()"))}; }

/// A method call without its destination. `interface` may be empty: any that has the method.
struct Method {
  std::string_view interface;
  std::string_view member;
  GVariant* body;  // a tuple

  bool is(std::string_view of_interface, std::string_view name) const {
    return member == name && (interface.empty() || interface == of_interface);
  }
  bool has(const char* signature) const {
    return g_variant_is_of_type(body, G_VARIANT_TYPE(signature)) != FALSE;
  }
};

inline constexpr char kIntrospectable[] = "org.freedesktop.DBus.Introspectable";
inline constexpr char kProperties[] = "org.freedesktop.DBus.Properties";
inline constexpr char kPeer[] = "org.freedesktop.DBus.Peer";
inline constexpr char kObjectManager[] = "org.freedesktop.DBus.ObjectManager";
/// The interface's present name and its old one; those of clients add ".Client".
inline constexpr const char* kServerInterfaces[] = {"se.recompile.Mandos", "se.bsnet.fukt.Mandos"};
inline constexpr const char* kClientInterfaces[] = {"se.recompile.Mandos.Client",
                                                    "se.bsnet.fukt.Mandos.Client"};

namespace errors {
inline constexpr char kFailed[] = "org.freedesktop.DBus.Error.Failed";
inline constexpr char kAccessDenied[] = "org.freedesktop.DBus.Error.AccessDenied";
inline constexpr char kInvalidArgs[] = "org.freedesktop.DBus.Error.InvalidArgs";
inline constexpr char kLimitsExceeded[] = "org.freedesktop.DBus.Error.LimitsExceeded";
inline constexpr char kPropertyReadOnly[] = "org.freedesktop.DBus.Error.PropertyReadOnly";
inline constexpr char kUnknownInterface[] = "org.freedesktop.DBus.Error.UnknownInterface";
inline constexpr char kUnknownMethod[] = "org.freedesktop.DBus.Error.UnknownMethod";
inline constexpr char kUnknownObject[] = "org.freedesktop.DBus.Error.UnknownObject";
inline constexpr char kUnknownProperty[] = "org.freedesktop.DBus.Error.UnknownProperty";
}  // namespace errors

/// Sends signals; parameters are a floating tuple.
using Emit = std::function<void(const std::string& path, const char* interface, const char* member,
                                GVariant* parameters)>;

inline constexpr char kDeprecated[] =
    R"(<annotation name="org.freedesktop.DBus.Deprecated" value="true"/>)";
inline constexpr char kIntrospectionHead[] =
    R"(<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
)";
inline constexpr char kPropertiesXml[] =
    R"(<interface name="org.freedesktop.DBus.Properties">
<method name="Get"><arg direction="in" type="s" name="interface_name"/>)"
    R"(<arg direction="in" type="s" name="property_name"/>)"
    R"(<arg direction="out" type="v" name="value"/></method>
<method name="Set"><arg direction="in" type="s" name="interface_name"/>)"
    R"(<arg direction="in" type="s" name="property_name"/>)"
    R"(<arg direction="in" type="v" name="value"/></method>
<method name="GetAll"><arg direction="in" type="s" name="interface_name"/>)"
    R"(<arg direction="out" type="a{sv}" name="props"/></method>
<signal name="PropertiesChanged"><arg type="s" name="interface_name"/>)"
    R"(<arg type="a{sv}" name="changed_properties"/>)"
    R"(<arg type="as" name="invalidated_properties"/></signal>
</interface>
)";
inline constexpr char kIntrospectableXml[] =
    R"(<interface name="org.freedesktop.DBus.Introspectable">
<method name="Introspect"><arg direction="out" type="s" name="xml_data"/></method>
</interface>
)";

}  // namespace mandos::bus_agent
