// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/server_object.h"

#include <string>

#include "bus-agent/client_object.h"
#include "common/text.h"

namespace mandos::bus_agent {
namespace {

constexpr char kClientsPath[] = "/clients";
// By default, the bus daemon accepts no longer message. Larger answers are not even created.
constexpr gsize kMostAnswer = 32UL * 1024 * 1024;

std::string introspection() {
  const std::string body =
      concat(R"(<signal name="ClientAdded"><arg type="o" name="objpath"/></signal>
<signal name="ClientNotFound"><arg type="s" name="key_id"/><arg type="s" name="address"/></signal>
<signal name="ClientRemoved"><arg type="o" name="objpath"/><arg type="s" name="name"/>)",
             kDeprecated,
             R"(</signal>
<method name="GetAllClients"><arg direction="out" type="ao"/>)",
             kDeprecated,
             R"(</method>
<method name="GetAllClientsWithProperties"><arg direction="out" type="a{oa{sv}}"/>)",
             kDeprecated,
             R"(</method>
<method name="RemoveClient"><arg direction="in" type="o" name="object_path"/></method>
)");
  return concat(
      kIntrospectionHead, "<node>\n", kIntrospectableXml,
      R"(<interface name="org.freedesktop.DBus.ObjectManager">
<method name="GetManagedObjects">)"
      R"(<arg direction="out" type="a{oa{sa{sv}}}" name="objpath_interfaces_and_properties"/>)"
      R"(</method>
<signal name="InterfacesAdded"><arg type="o" name="object_path"/>)"
      R"(<arg type="a{sa{sv}}" name="interfaces_and_properties"/></signal>
<signal name="InterfacesRemoved"><arg type="o" name="object_path"/>)"
      R"(<arg type="as" name="interfaces"/></signal>
</interface>
<interface name=")",
      kServerInterfaces[0], "\">\n", body, "</interface>\n<interface name=\"", kServerInterfaces[1],
      "\">\n", body, kDeprecated, "</interface>\n", statistics_xml(),
      "<node name=\"clients\"/>\n</node>\n");
}

template <class Visitor>
Outcome collect(const Mirror& mirror, const char* type, Visitor&& visit) {
  GVariantBuilder builder;
  g_variant_builder_init(&builder, G_VARIANT_TYPE(type));
  gsize size = 0;
  mirror.for_each([&](const Client& client) {
    if (size > kMostAnswer) return;
    const Variant entry = own(visit(client));
    size += g_variant_get_size(entry.get());
    g_variant_builder_add_value(&builder, entry.get());
  });
  if (size > kMostAnswer) {
    g_variant_builder_clear(&builder);
    return Refusal{errors::kLimitsExceeded, "the answer is too long for the bus"};
  }
  GVariant* collected = g_variant_builder_end(&builder);
  return Answer{own(g_variant_new_tuple(&collected, 1))};
}

GVariant* path_variant(const Client& client) {
  return g_variant_new_object_path(client.path().c_str());
}

Refusal unknown_method(const Method& method) {
  return {errors::kUnknownMethod,
          concat("no method ", method.member, " of interface \"", method.interface, "\"")};
}

Outcome call_server(const Known& known, const Method& method) {
  const Mirror& mirror = known.clients;
  if (method.is(kIntrospectable, "Introspect")) {
    static const std::string xml = introspection();
    return Answer{own(g_variant_new("(s)", xml.c_str()))};
  }
  if (method.is(kObjectManager, "GetManagedObjects")) {
    return collect(mirror, "a{oa{sa{sv}}}", [](const Client& client) {
      return g_variant_new_dict_entry(path_variant(client), interfaces_and_properties(client));
    });
  }
  for (const char* member : {"Get", "Set", "GetAll"}) {
    if (method.is(kProperties, member)) {
      return call_properties(known.statistics, mirror, known.service, method);
    }
  }
  for (const char* interface : kServerInterfaces) {
    if (method.is(interface, "GetAllClients")) return collect(mirror, "ao", path_variant);
    if (method.is(interface, "GetAllClientsWithProperties")) {
      return collect(mirror, "a{oa{sv}}", [](const Client& client) {
        return g_variant_new_dict_entry(path_variant(client), readable_properties(client));
      });
    }
    if (!method.is(interface, "RemoveClient")) continue;
    // Also accepts a string, like the Python server.
    if (!method.has("(o)") && !method.has("(s)")) {
      return Refusal{errors::kInvalidArgs, "RemoveClient takes (o)"};
    }
    const Variant argument(g_variant_get_child_value(method.body, 0));
    const char* path = g_variant_get_string(argument.get(), nullptr);
    const auto client = mirror.by_path(path);
    if (!client) return Refusal{errors::kUnknownObject, concat("no client ", path)};
    Change change;
    change.request.set_name(client->name());
    change.request.set_remove(true);
    return change;
  }
  return unknown_method(method);
}

}  // namespace

Outcome call(const Known& known, std::string_view path, const Method& method) {
  const Mirror& mirror = known.clients;
  if (method.is(kPeer, "Ping")) return nothing();
  if (path == "/") return call_server(known, method);
  if (path == kClientsPath) {
    if (!method.is(kIntrospectable, "Introspect")) return unknown_method(method);
    std::string xml = concat(kIntrospectionHead, "<node>\n");
    mirror.for_each([&xml](const Client& client) {
      append(xml, "<node name=\"");
      append(xml, client.path().substr(sizeof kClientsPath));
      append(xml, "\"/>\n");
    });
    xml += "</node>\n";
    return Answer{own(g_variant_new("(s)", xml.c_str()))};
  }
  if (const auto client = mirror.by_path(path)) return call_client(*client, method);
  return Refusal{errors::kUnknownObject, concat("no object ", path)};
}

void emit_added(const Client& client, const Emit& emit) {
  emit("/", kObjectManager, "InterfacesAdded",
       g_variant_new("(o@a{sa{sv}})", client.path().c_str(), interfaces_and_properties(client)));
  for (const char* interface : kServerInterfaces) {
    emit("/", interface, "ClientAdded", g_variant_new("(o)", client.path().c_str()));
  }
}

void emit_removed(const Client& client, const Emit& emit) {
  emit("/", kObjectManager, "InterfacesRemoved",
       g_variant_new("(o@as)", client.path().c_str(), interface_names()));
  for (const char* interface : kServerInterfaces) {
    emit("/", interface, "ClientRemoved",
         g_variant_new("(o@s)", client.path().c_str(), text_variant(client.name())));
  }
}

void emit_not_found(const door::bus_agent::ToBusAgent::NotFound& not_found, const Emit& emit) {
  for (const char* interface : kServerInterfaces) {
    emit("/", interface, "ClientNotFound",
         g_variant_new("(@s@s)", text_variant(not_found.key_id()),
                       text_variant(not_found.address())));
  }
}

}  // namespace mandos::bus_agent
