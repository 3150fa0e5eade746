// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl diff and restore: compare the output of --dump-json with the server, and apply it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "common/text.h"
#include "common/unique_fd.h"
#include "ctl/arguments.h"
#include "ctl/bus.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/servers.h"
#include "ctl/times.h"
#include "ctl/warnings.h"

namespace mandos::ctl {
namespace {

constexpr std::size_t kLongestFile = std::size_t{256} << 20;

constexpr Option kDiffOptions[] = {kHelp, kServer, kServerTimeout, kDebug};
constexpr std::string_view kDiffUsage = R"(Usage: mandos-ctl diff FILE

Compares the clients in FILE ("-": standard input), which --dump-json wrote on
this or another server, with those of the server: their keys, whether they are
enabled, and their settings. The status is 0 if they agree, 1 if they differ,
and 2 if they cannot be compared.

)";

constexpr Option kRestoreOptions[] = {
    kHelp,   {"enable", 0, "", "Also enable clients that are enabled in FILE."},
    kServer, kServerTimeout,
    kDebug,
};
constexpr std::string_view kRestoreUsage = R"(Usage: mandos-ctl restore [--enable] FILE

Gives the clients of the server the settings that they have in FILE ("-":
standard input), which --dump-json wrote on this or another server, and disables
those that are disabled there. A client with a different key is not changed, and
no client is enabled without --enable. The status is 0 if the server agrees with
FILE afterwards.

)";

Result<std::string> read_file(const std::string& name) {
  UniqueFd opened;
  if (name != "-") {
    opened.reset(open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened) return errno_error(errno, "cannot open ", printable(name));
  }
  std::string text;
  std::array<char, 65536> part{};
  for (;;) {
    const ssize_t got = read(opened ? opened.get() : STDIN_FILENO, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error(errno, "cannot read ", printable(name));
    if (got == 0) return text;
    text.append(part.data(), static_cast<std::size_t>(got));
    if (text.size() > kLongestFile) return Error{concat(printable(name), " is too long")};
  }
}

Result<std::vector<Client>> read_saved(const std::string& name) {
  const auto text = read_file(name);
  if (!text) return Error{text.error()};
  auto clients = read_dump(*text);
  if (!clients) return Error{concat(printable(name), ": ", clients.error())};
  return clients;
}

/// Whether both have the same key, if `saved` has one.
bool same_key(const Client& saved, const Client& now) {
  const auto key = saved.properties.find("KeyID");
  return key == saved.properties.end() || key->second == now.value("KeyID");
}

/// The properties in which `now` differs from the saved ones: settings, and "Enabled" first, so
/// that clients are disabled before anything else changes.
std::vector<std::string_view> differences(const Client& saved, const Client& now) {
  std::vector<std::string_view> found;
  for (const auto& property : all_properties()) {
    if (!property.setting && property.name != "Enabled") continue;
    const auto value = saved.properties.find(property.name);
    if (value != saved.properties.end() && value->second != now.value(property.name)) {
      found.push_back(property.name);
    }
  }
  return found;
}

std::string both(const Client& saved, const Client& now, std::string_view property) {
  return concat(printable(now.name()), ": ", property, ": file ", shown(saved.value(property)),
                ", server ", shown(now.value(property)), "\n");
}

/// All differences between the two lists of clients, as lines.
std::string compared(const std::vector<Client>& saved, const std::vector<Client>& now) {
  std::string text;
  const ByName on_server(now);
  const ByName in_file(saved);
  for (const auto& client : saved) {
    const Client* const other = on_server.find(client.name());
    if (other == nullptr) {
      text += concat(printable(client.name()), ": only in the file\n");
      continue;
    }
    if (!same_key(client, *other)) text += both(client, *other, "KeyID");
    for (const auto property : differences(client, *other)) text += both(client, *other, property);
  }
  for (const auto& client : now) {
    if (in_file.find(client.name()) == nullptr) {
      text += concat(printable(client.name()), ": only on the server\n");
    }
  }
  return text;
}

class Restoring {
 public:
  Restoring(Bus& bus, bool enable) : bus_(bus), enable_(enable) {}

  void restore(const Client& saved, const Client& now) {
    const std::string name = printable(now.name());
    if (!same_key(saved, now)) {
      return left(concat(name, ": its key differs from that in the file; not changed"));
    }
    const auto changed = differences(saved, now);
    std::vector<Change> changes;
    changes.reserve(changed.size());
    for (const auto property : changed) changes.push_back({property, saved.value(property)});
    for (const auto& text : warnings(now, changes, wall_now())) warn(text);
    for (const auto property : changed) {
      const Value& wanted = saved.value(property);
      if (property == "Enabled" && wanted == Value(true) && !enable_) {
        left(concat(name, ": enabled in the file, and left disabled without --enable"));
        continue;
      }
      if (const auto done = bus_.set(now.path, std::string(property).c_str(), wanted); !done) {
        left(concat(name, ": ", property, ": ", done.error()));
        continue;
      }
      done_ += concat(name, ": ", property, " = ", shown(wanted), "\n");
    }
  }

  void left(std::string_view text) { status_ = complain(kFailure, text); }
  int status() const { return status_; }
  const std::string& done() const { return done_; }

 private:
  Bus& bus_;
  bool enable_;
  int status_ = kSuccess;
  std::string done_;
};

}  // namespace

int diff(Words words) {
  const auto arguments = parse_arguments(kDiffOptions, words);
  if (!arguments) return wrong_usage("diff", arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kDiffUsage, help_of(kDiffOptions))) ? kSuccess : kUsage;
  }
  if (arguments->operands.size() != 1) return wrong_usage("diff", "diff takes one file");
  if (const auto used = use_chosen_server(*arguments); !used) {
    return wrong_usage("diff", used.error());
  }
  const auto saved = read_saved(arguments->operands[0]);
  if (!saved) return complain(kUsage, saved.error());
  Bus bus;
  if (const auto opened = bus.open(arguments->has("debug")); !opened) {
    return complain(kUsage, opened.error());
  }
  const auto now = bus.clients();
  if (!now) return complain(kUsage, now.error());
  const std::string text = compared(*saved, *now);
  if (!write_out(text)) return kUsage;
  return text.empty() ? kSuccess : kFailure;
}

int restore(Words words) {
  const auto arguments = parse_arguments(kRestoreOptions, words);
  if (!arguments) return wrong_usage("restore", arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kRestoreUsage, help_of(kRestoreOptions))) ? kSuccess : kFailure;
  }
  if (arguments->operands.size() != 1) return wrong_usage("restore", "restore takes one file");
  if (const auto used = use_chosen_server(*arguments); !used) {
    return wrong_usage("restore", used.error());
  }
  const auto saved = read_saved(arguments->operands[0]);
  if (!saved) return complain(kFailure, saved.error());
  Bus bus;
  if (const auto opened = bus.open(arguments->has("debug")); !opened) {
    return complain(kFailure, opened.error());
  }
  const auto now = bus.clients();
  if (!now) return complain(kFailure, now.error());
  Restoring restoring(bus, arguments->has("enable"));
  const ByName on_server(*now);
  for (const auto& client : *saved) {
    if (const Client* const other = on_server.find(client.name())) {
      restoring.restore(client, *other);
    } else {
      restoring.left(no_such_client(client.name(), *now));
    }
  }
  return write_out(restoring.done()) ? restoring.status() : kFailure;
}

}  // namespace mandos::ctl
