// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/zeroconf.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "common/clock.h"
#include "common/text.h"

namespace mandos::ctl {
namespace {

// Avahi's files org.freedesktop.Avahi.*.xml describe the interface.
constexpr char kAvahi[] = "org.freedesktop.Avahi";
constexpr char kServer[] = "org.freedesktop.Avahi.Server";
constexpr char kMatch[] =
    "type='signal',sender='org.freedesktop.Avahi',interface='org.freedesktop.Avahi.ServiceBrowser'";
constexpr std::int32_t kAny = -1;
constexpr std::int32_t kIPv6 = 1;
constexpr std::uint32_t kLocal = 8;  // in the flags of a result
// Avahi itself waits one second for answers from the network.
constexpr Milliseconds kPatience = std::chrono::seconds(4);

struct Item {
  std::int32_t interface;
  std::int32_t protocol;
  std::string name;
  std::uint32_t flags;

  bool same(const Item& other) const {
    return interface == other.interface && protocol == other.protocol && name == other.name;
  }
};

/// The signals of our browser. They may come before its path does, so those of all browsers are
/// kept by path.
struct Browser {
  std::map<std::string, std::vector<Item>> items;
  std::map<std::string, std::string> over;  // why: "AllForNow" or "Failure"
};

int on_signal(sd_bus_message* message, void* to, sd_bus_error*) {
  auto& browser = *static_cast<Browser*>(to);
  const std::string path = sd_bus_message_get_path(message);
  const std::string_view member = sd_bus_message_get_member(message);
  if (member == "AllForNow" || member == "Failure") browser.over[path] = member;
  if (member != "ItemNew" && member != "ItemRemove") return 0;
  Item item{};
  const char* name = nullptr;
  const char* type = nullptr;
  const char* domain = nullptr;
  if (sd_bus_message_read(message, "iisssu", &item.interface, &item.protocol, &name, &type, &domain,
                          &item.flags) <= 0) {
    return 0;
  }
  item.name = name;
  auto& items = browser.items[path];
  std::erase_if(items, [&](const Item& each) { return each.same(item); });
  if (member == "ItemNew") items.push_back(std::move(item));
  return 0;
}

std::uint64_t microseconds(Instant until) {
  const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - BootClock::now());
  return left.count() > 0 ? static_cast<std::uint64_t>(left.count()) : 1;
}

/// Calls a method of Avahi's server. Does not start Avahi.
Result<Message> ask(Bus& bus, Instant until, const char* method, const char* types,
                    auto... values) {
  sd_bus_message* made = nullptr;
  int error = sd_bus_message_new_method_call(bus.get(), &made, kAvahi, "/", kServer, method);
  const Message call(made);
  if (error >= 0) error = sd_bus_message_append(call.get(), types, values...);
  if (error >= 0) error = sd_bus_message_set_auto_start(call.get(), 0);
  sd_bus_message* reply = nullptr;
  if (error >= 0) {
    error = sd_bus_call(bus.get(), call.get(), microseconds(until), nullptr, &reply);
  }
  if (error == -ENXIO || error == -EHOSTUNREACH) return Error{"Avahi does not run"};
  if (error < 0) return errno_error(-error, "Avahi does not answer");
  return Message(reply);
}

/// "eth0", or "interface 2" if Avahi does not know the name.
std::string name_of(Bus& bus, Instant until, std::int32_t interface) {
  const auto reply = ask(bus, until, "GetNetworkInterfaceNameByIndex", "i", interface);
  const char* name = nullptr;
  if (!reply || sd_bus_message_read_basic(reply->get(), 's', &name) <= 0) {
    return concat("interface ", interface);
  }
  return name;
}

}  // namespace

Result<std::vector<Announced>> browse(Bus& bus) {
  const Instant until = BootClock::now() + kPatience;
  Browser browser;
  sd_bus_slot* added = nullptr;
  const int error = sd_bus_add_match(bus.get(), &added, kMatch, on_signal, &browser);
  if (error < 0) return errno_error(-error, "cannot listen to Avahi");
  const Slot slot(added);
  const auto made =
      ask(bus, until, "ServiceBrowserNew", "iissu", kAny, kAny, "_mandos._tcp", "local", 0U);
  if (!made) return Error{made.error()};
  const char* told = nullptr;
  if (sd_bus_message_read_basic(made->get(), 'o', &told) <= 0) {
    return Error{"Avahi answers nonsense"};
  }
  const std::string path = told;
  while (!browser.over.contains(path) && BootClock::now() < until) {
    const int more = sd_bus_process(bus.get(), nullptr);
    if (more < 0) return errno_error(-more, "lost the bus");
    if (more == 0) sd_bus_wait(bus.get(), microseconds(until));
  }
  const auto over = browser.over.find(path);
  if (over == browser.over.end()) return Error{"Avahi does not answer"};
  if (over->second == "Failure") return Error{"Avahi failed"};
  auto& items = browser.items[path];
  std::ranges::sort(items, {}, [](const Item& item) {
    return std::tuple(item.interface, item.protocol, item.name);
  });
  std::vector<Announced> found;
  for (const auto& item : items) {
    found.push_back({item.name, name_of(bus, until, item.interface), item.protocol == kIPv6,
                     (item.flags & kLocal) != 0});
  }
  return found;
}

}  // namespace mandos::ctl
