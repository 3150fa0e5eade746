// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/statistics.h"

#include "bus-agent/client_object.h"
#include "common/text.h"

namespace mandos::bus_agent {
namespace {

using Signal = door::bus_agent::ToBusAgent::Signal;

// In the order of the message Restarts.
constexpr const char* kProcesses[] = {"monitor", "networker", "checker-runner", "bus-agent"};

struct Property {
  const char* name;
  const char* type;
};
constexpr Property kTable[] = {
    {"StartTime", "s"},    {"Grants", "t"},           {"Refusals", "a{st}"},
    {"ChecksPassed", "t"}, {"ChecksFailed", "t"},     {"UnknownKeys", "t"},
    {"Restarts", "a{st}"}, {"ApprovalsPending", "t"}, {"ServiceName", "s"},
};

}  // namespace

void Statistics::count(const Signal& signal) {
  switch (signal.signal_case()) {
    case Signal::kGotSecret:
      ++grants_;
      return;
    case Signal::kRejected:
      ++refusals_[signal.rejected()];
      return;
    case Signal::kCheckerCompleted:
      ++(signal.checker_completed().wait_status() == 0 ? passed_ : failed_);
      return;
    case Signal::kCheckerStarted:
    case Signal::kNeedApproval:
    case Signal::SIGNAL_NOT_SET:
      return;
  }
}

GVariant* Statistics::properties(const Mirror& clients, std::string_view service) const {
  GVariantBuilder all;
  g_variant_builder_init(&all, G_VARIANT_TYPE_VARDICT);
  const auto add = [&all](const char* name, GVariant* value) {
    g_variant_builder_add(&all, "{sv}", name, value);
  };
  add("StartTime", time_variant(start_));
  add("Grants", g_variant_new_uint64(grants_));
  GVariantBuilder refusals;
  g_variant_builder_init(&refusals, G_VARIANT_TYPE("a{st}"));
  for (const auto& [reason, number] : refusals_) {
    g_variant_builder_add(&refusals, "{@st}", text_variant(reason), guint64{number});
  }
  add("Refusals", g_variant_builder_end(&refusals));
  add("ChecksPassed", g_variant_new_uint64(passed_));
  add("ChecksFailed", g_variant_new_uint64(failed_));
  add("UnknownKeys", g_variant_new_uint64(unknown_keys_));
  GVariantBuilder restarts;
  g_variant_builder_init(&restarts, G_VARIANT_TYPE("a{st}"));
  int index = 0;
  for (const char* process : kProcesses) {
    const guint64 number = index < restarts_.counts_size() ? restarts_.counts(index) : 0;
    g_variant_builder_add(&restarts, "{st}", process, number);
    ++index;
  }
  add("Restarts", g_variant_builder_end(&restarts));
  guint64 pending = 0;
  clients.for_each([&pending](const Client& client) {
    if (client.approval_pending()) ++pending;
  });
  add("ApprovalsPending", g_variant_new_uint64(pending));
  add("ServiceName", text_variant(std::string(service)));
  return g_variant_builder_end(&all);
}

Outcome call_properties(const Statistics& statistics, const Mirror& clients,
                        std::string_view service, const Method& method) {
  const bool sets = method.member == "Set";
  if (!method.has(sets ? "(ssv)" : method.member == "Get" ? "(ss)" : "(s)")) {
    return Refusal{errors::kInvalidArgs, concat("wrong arguments of ", method.member)};
  }
  const char* interface = nullptr;
  g_variant_get_child(method.body, 0, "&s", &interface);
  const bool ours = *interface == '\0' || std::string_view(interface) == kStatisticsInterface;
  const Variant all = own(statistics.properties(clients, service));
  if (method.member == "GetAll") {
    // An interface without properties returns an empty list.
    if (ours) return Answer{own(g_variant_new("(@a{sv})", all.get()))};
    return Answer{
        own(g_variant_new("(@a{sv})", g_variant_new_array(G_VARIANT_TYPE("{sv}"), nullptr, 0)))};
  }
  const char* name = nullptr;
  g_variant_get_child(method.body, 1, "&s", &name);
  const Variant value(ours ? g_variant_lookup_value(all.get(), name, nullptr) : nullptr);
  if (value == nullptr) {
    return Refusal{errors::kUnknownProperty,
                   concat("no property ", name, " of interface \"", interface, "\"")};
  }
  if (sets) return Refusal{errors::kPropertyReadOnly, concat(name, " cannot be written")};
  return Answer{own(g_variant_new("(v)", value.get()))};
}

std::string statistics_xml() {
  std::string xml = concat(kPropertiesXml, "<interface name=\"", kStatisticsInterface, "\">\n");
  for (const auto& property : kTable) {
    xml += concat("<property name=\"", property.name, "\" type=\"", property.type,
                  "\" access=\"read\">",
                  R"(<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal")",
                  R"( value="false"/></property>)", "\n");
  }
  return xml + "</interface>\n";
}

}  // namespace mandos::bus_agent
