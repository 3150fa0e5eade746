// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-ctl without a command: lists, JSON, changes, approvals and --is-enabled, with the options
// of the original.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <ranges>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/duration.h"
#include "common/result.h"
#include "common/text.h"
#include "common/unique_fd.h"
#include "config.h"
#include "ctl/bus.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/fleet.h"
#include "ctl/json.h"
#include "ctl/servers.h"
#include "ctl/times.h"
#include "ctl/warnings.h"

namespace mandos::ctl {
namespace {

enum Group { kNoGroup, kEnabling, kChecking, kByDefault, kAnswering };

constexpr Option kOptions[] = {
    kHelp,
    {"version", 0, "", "Show the version and exit.", kNoGroup, true},
    {"all", 'a', "", "Apply the other options to every client."},
    {"verbose", 'v', "", "List every property, not only the first four."},
    {"dump-json", 'j', "", "Write the clients as JSON."},
    {"enable", 'e', "", "Enable the clients.", kEnabling},
    {"disable", 'd', "", "Disable the clients immediately.", kEnabling},
    {"bump-timeout", 'b', "", "Count now as a successful check."},
    {"start-checker", 0, "", "Start a checker now.", kChecking},
    {"stop-checker", 0, "", "Stop the running checker.", kChecking},
    {"is-enabled", 'V', "", "Exit with status 0 if the client is enabled."},
    {"remove", 'r', "", "Remove the clients from the server."},
    {"checker", 'c', "COMMAND", "Set the checker's shell command."},
    {"timeout", 't', "TIME", "Set how long a successful check counts."},
    {"extended-timeout", 0, "TIME", "Set how long a secret that was sent counts."},
    {"interval", 'i', "TIME", "Set the time between checks."},
    {"approve-by-default", 0, "", "Approve if nobody answers in time.", kByDefault},
    {"deny-by-default", 0, "", "Deny if nobody answers in time.", kByDefault},
    {"approval-delay", 0, "TIME", "Set how long a client waits for an answer."},
    {"approval-duration", 0, "TIME", "Set how long an answer applies."},
    {"host", 'H', "STRING", "Set the host that the checker contacts."},
    {"secret", 's', "FILENAME", "Replace the secret (\"-\": standard input)."},
    {"approve", 'A', "", "Approve the clients that are waiting.", kAnswering},
    {"deny", 'D', "", "Deny the clients that are waiting.", kAnswering},
    kServer,
    kServerTimeout,
    kDebug,
    {"check", 0, "", "Test the program itself and exit.", kNoGroup, true},
};

constexpr std::string_view kUsageText = R"(Usage: mandos-ctl [--verbose | --dump-json] [CLIENT...]
       mandos-ctl OPTION... {--all | CLIENT...}
       mandos-ctl --is-enabled CLIENT
       mandos-ctl COMMAND ...

Lists or changes the clients of the Mandos server, and approves or denies them.
Requires root or membership in the group )" MANDOS_BUS_GROUP R"(.
With --server, this and every command applies to other servers.

)";

constexpr std::string_view kAfterOptions = R"(
TIME is a duration such as PT5M, P1DT12H or "1d 12h".

Commands, each with its own --help:
  diff FILE                Compare the clients with --dump-json output.
  events                   Print one line per event, or run a program.
  metrics                  Write OpenMetrics text.
  restore FILE             Apply the settings in --dump-json output.
  status                   Check the server, like a monitoring plugin.
  verify CLIENT            Check whether a client will get its password.
  wait CLIENT              Wait until a client requests approval.

See mandos-ctl(8).
)";

struct Switch {
  std::string_view option;
  const char* property;
  bool value;
};
constexpr Switch kSwitches[] = {
    {"enable", "Enabled", true},
    {"disable", "Enabled", false},
    {"start-checker", "CheckerRunning", true},
    {"stop-checker", "CheckerRunning", false},
    {"approve-by-default", "ApprovedByDefault", true},
    {"deny-by-default", "ApprovedByDefault", false},
};

struct Operand {
  std::string_view option;
  const char* property;
};
constexpr Operand kTexts[] = {{"checker", "Checker"}, {"host", "Host"}};
constexpr Operand kDurations[] = {{"timeout", "Timeout"},
                                  {"extended-timeout", "ExtendedTimeout"},
                                  {"interval", "Interval"},
                                  {"approval-delay", "ApprovalDelay"},
                                  {"approval-duration", "ApprovalDuration"}};

/// The bytes of a new secret, wiped on destruction.
class Secret {
 public:
  explicit Secret(std::vector<unsigned char> bytes) : bytes_(std::move(bytes)) {}
  Secret(Secret&&) = default;
  Secret& operator=(Secret&&) = default;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret() {
    // A moved-from object has no memory, and explicit_bzero() must not get a null pointer.
    if (!bytes_.empty()) explicit_bzero(bytes_.data(), bytes_.size());
  }
  std::span<const unsigned char> bytes() const { return bytes_; }

 private:
  std::vector<unsigned char> bytes_;
};

/// One change or query, applied to each selected client.
struct Step {
  enum What { kSet, kSecret, kDeny, kApprove, kRemove, kIsEnabled };
  What what;
  const char* property = nullptr;
  Value value = false;
  std::optional<Secret> secret = std::nullopt;
};

Result<Secret> read_secret(const std::string& name) {
  // The server accepts at most 1 MiB; with one byte more, it reports that itself. The buffer is
  // never reallocated, which would leave copies.
  std::vector<unsigned char> bytes((std::size_t{1} << 20) + 1);
  UniqueFd opened;
  if (name != "-") {
    opened.reset(open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened) return errno_error(errno, "cannot open the secret ", printable(name));
  }
  const int fd = opened ? opened.get() : STDIN_FILENO;
  std::size_t used = 0;
  while (used < bytes.size()) {
    const ssize_t got = read(fd, bytes.data() + used, bytes.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error(errno, "cannot read the secret ", printable(name));
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  bytes.resize(used);
  return Secret(std::move(bytes));
}

/// The step for an option; none for an option that selects clients or a format.
Result<std::optional<Step>> step_of(const Arguments::Given& given) {
  const std::string_view name = given.option->name;
  for (const auto& each : kSwitches) {
    if (name == each.option) return std::optional(Step{Step::kSet, each.property, each.value});
  }
  for (const auto& each : kTexts) {
    if (name == each.option) return std::optional(Step{Step::kSet, each.property, given.value});
  }
  for (const auto& each : kDurations) {
    if (name != each.option) continue;
    const auto time = read_duration(given.value);
    if (!time) {
      return Error{
          concat("--", name, ": found \"", printable(given.value), "\", expected ", time.error())};
    }
    return std::optional(
        Step{Step::kSet, each.property, static_cast<std::uint64_t>(time->count())});
  }
  if (name == "secret") {
    auto secret = read_secret(given.value);
    if (!secret) return Error{secret.error()};
    return std::optional(Step{Step::kSecret, "Secret", false, std::move(*secret)});
  }
  // Any text that is written means "checked just now".
  if (name == "bump-timeout") {
    return std::optional(Step{Step::kSet, "LastCheckedOK", std::string()});
  }
  if (name == "approve") return std::optional(Step{Step::kApprove});
  if (name == "deny") return std::optional(Step{Step::kDeny});
  if (name == "remove") return std::optional(Step{Step::kRemove});
  if (name == "is-enabled") return std::optional(Step{Step::kIsEnabled});
  return std::optional<Step>();
}

/// Why these options cannot be combined; empty if they can.
std::string conflict(const Arguments& arguments, const std::vector<Step>& steps) {
  const bool all = arguments.has("all");
  const auto has = [&](Step::What what) {
    return std::ranges::any_of(steps, [&](const Step& step) { return step.what == what; });
  };
  if (arguments.has("dump-json") && (!steps.empty() || arguments.has("verbose"))) {
    return "--dump-json cannot be combined with other options";
  }
  if (arguments.has("verbose") && !steps.empty())
    return "--verbose cannot be combined with changes";
  if (all && steps.empty()) return "--all needs a change to make, such as --enable";
  if (!steps.empty() && !all && arguments.operands.empty()) {
    return "found no client to change: name clients, or use --all";
  }
  if (has(Step::kIsEnabled) && arguments.operands.size() > 1) {
    return "--is-enabled takes one client";
  }
  const auto others =
      std::ranges::count_if(steps, [](const Step& step) { return step.what != Step::kDeny; });
  if (has(Step::kRemove) && others > 1) return "--remove: only --deny may be given with it";
  return {};
}

/// Only the server can see a secret's form. Once it reports that, it has the new secret.
Status set_secret(Bus& bus, const Secret& secret, const Client& client) {
  if (auto done = bus.set_secret(client.path, secret.bytes()); !done) return done;
  const auto answer = bus.secret_form(client.path);
  // The original's server does not report it.
  const std::string form = answer ? answer->value_or("OpenPGP") : "OpenPGP";
  if (form != "OpenPGP") {
    warn(concat(printable(client.name()), ": the new secret is ",
                form == "damaged OpenPGP" ? "a damaged" : "not an",
                " OpenPGP message: the client could not decrypt it"));
  }
  return Ok{};
}

Status carry_out(Bus& bus, const Step& step, const Client& client) {
  switch (step.what) {
    case Step::kSet:
      return bus.set(client.path, step.property, step.value);
    case Step::kSecret:
      return set_secret(bus, *step.secret, client);
    case Step::kApprove:
    case Step::kDeny:
      return bus.approve(client.path, step.what == Step::kApprove);
    case Step::kRemove:
      return bus.remove(client.path);
    case Step::kIsEnabled:
      break;
  }
  return Ok{};
}

// --is-enabled answered "no"; with several servers, this must differ from a failure.
constexpr int kNotEnabled = 4;

/// Warns about the effects of the settings in `steps` on a client, before any change.
void warn_before(const std::vector<Step>& steps, const std::vector<Client>& clients) {
  std::vector<Change> changes;
  for (const auto& step : steps) {
    if (step.what == Step::kSet) changes.push_back({step.property, step.value});
  }
  for (const auto& client : clients) {
    for (const auto& text : warnings(client, changes, wall_now())) warn(text);
  }
}

/// Applies each step to each client. If one fails, the others are still attempted.
int carry_out_all(Bus& bus, const std::vector<Step>& steps, const std::vector<Client>& clients) {
  int status = kSuccess;
  warn_before(steps, clients);
  for (const auto& step : steps) {
    if (step.what == Step::kIsEnabled) {
      const bool enabled =
          std::ranges::all_of(clients, [](const Client& client) { return client.flag("Enabled"); });
      return enabled && !clients.empty() ? status : kNotEnabled;
    }
    for (const auto& client : clients) {
      if (const auto done = carry_out(bus, step, client); !done) {
        status = complain(kFailure, concat(printable(client.name()), ": ", done.error()));
      }
    }
  }
  return status;
}

/// Does everything for one server, including the connection. For one of several servers, a list is
/// printed as JSON with all clients, and a client that the server lacks does not keep the others
/// from being changed.
int on_server(const Arguments& arguments, const std::vector<Step>& steps, bool one_of_several) {
  Bus bus;
  if (const auto opened = bus.open(arguments.has("debug")); !opened) {
    return complain(kFailure, opened.error());
  }
  const auto everybody = bus.clients();
  if (!everybody) return complain(kFailure, everybody.error());
  if (one_of_several && steps.empty())
    return write_out(dump_json(*everybody)) ? kSuccess : kFailure;
  int status = kSuccess;
  std::vector<Client> chosen;
  const ByName by_name(*everybody);
  std::set<std::string_view> named;
  for (const auto& name : arguments.operands) {
    const Client* const found = by_name.find(name);
    if (found == nullptr) {
      status = complain(kFailure, no_such_client(name, *everybody));
      if (!one_of_several) return status;
    } else if (named.insert(name).second) {
      // A client that is named twice is changed once.
      chosen.push_back(*found);
    }
  }
  if (arguments.operands.empty()) chosen = *everybody;

  if (!steps.empty()) {
    const int carried = carry_out_all(bus, steps, chosen);
    return status == kSuccess ? carried : status;
  }
  const std::string text =
      arguments.has("dump-json") ? dump_json(chosen) : table(chosen, arguments.has("verbose"));
  return write_out(text) ? kSuccess : kFailure;
}

/// Lists the named clients, or all, of all servers, from the servers' answers in JSON.
int list_all(const Arguments& arguments, std::vector<Answer>& answers) {
  std::vector<Listing> listings;
  std::vector<Client> everybody;
  for (auto& answer : answers) {
    auto& listing = listings.emplace_back(Listing{answer.server, std::nullopt});
    if (answer.failed()) continue;
    auto clients = read_dump(answer.output);
    if (clients) {
      everybody.insert(everybody.end(), clients->begin(), clients->end());
      listing.clients = std::move(*clients);
    } else {
      answer.status = kFailure;
      answer.errors = clients.error();
    }
  }
  complain_of(answers);
  const int status = joint_status(answers);
  if (status == kFailure) return status;
  const std::set<std::string, std::less<>> names(arguments.operands.begin(),
                                                 arguments.operands.end());
  const ByName known(everybody);
  for (const auto& name : arguments.operands) {
    if (known.find(name) == nullptr) {
      return complain(kFailure, no_such_client(name, everybody));
    }
  }
  for (auto& listing : listings) {
    if (names.empty() || !listing.clients) continue;
    std::erase_if(*listing.clients,
                  [&names](const Client& client) { return !names.contains(client.name()); });
  }
  std::string text;
  if (arguments.has("dump-json")) {
    text = fleet_json(listings);
  } else {
    text = fleet_table(listings, arguments.has("verbose"));
    const std::string differences = disagreements(listings);
    if (!differences.empty()) text += concat("\nThe servers disagree:\n", differences);
  }
  return write_out(text) ? status : kFailure;
}

/// --is-enabled for several servers: 0 and 1 only if all gave the same answer.
int enabled_on_all(std::vector<Answer>& answers) {
  const bool none =
      std::ranges::all_of(answers, [](const Answer& each) { return each.status == kNotEnabled; });
  if (none) return kFailure;
  bool all_failed = true;
  for (auto& answer : answers) {
    if (answer.status == kNotEnabled) answer.errors = "not enabled";
    all_failed = all_failed && answer.failed() && answer.status != kNotEnabled;
  }
  complain_of(answers);
  if (all_failed) return kFailure;
  return joint_status(answers) == kSuccess ? kSuccess : kPartly;
}

int on_servers(const Servers& servers, const Arguments& arguments, const std::vector<Step>& steps) {
  const bool several = servers.list.size() > 1;
  auto answers = on_each(servers, arguments.has("debug"),
                         [&] { return on_server(arguments, steps, several); });
  if (!several) return relay(answers);
  if (steps.empty()) return list_all(arguments, answers);
  return arguments.has("is-enabled") ? enabled_on_all(answers) : relay(answers);
}

/// Tests everything that needs no server.
int self_test() {
  const auto right = [](std::string_view text, std::int64_t seconds) {
    const auto found = read_duration(text);
    return found && found->count() == seconds * 1000;
  };
  const bool durations = right("PT5M", 300) && right("P1DT1S", 86401) && right("1d12h", 129600) &&
                         right("5m 30s", 330) && !read_duration("5") && !read_duration("");
  const auto given =
      parse_arguments(kOptions, std::vector<std::string_view>{"--exten=PT1S", "-eHx"});
  const bool options = given && given->options.size() == 3 && given->options[2].value == "x";
  if (!durations) complain(kFailure, "self-test: durations are read wrongly");
  if (!options) complain(kFailure, "self-test: options are read wrongly");
  if (!durations || !options) return kFailure;
  return write_out("self-test: ok\n") ? kSuccess : kFailure;
}

}  // namespace

int manage(Words words) {
  const auto arguments = parse_arguments(kOptions, words);
  if (!arguments) return wrong_usage("", arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kUsageText, help_of(kOptions), kAfterOptions)) ? kSuccess : kFailure;
  }
  if (arguments->has("version")) {
    return write_out("mandos-ctl " MANDOS_VERSION " (mandos-separated)\n") ? kSuccess : kFailure;
  }
  if (arguments->has("check")) return self_test();

  std::vector<Step> steps;
  for (const auto& given : arguments->options) {
    auto step = step_of(given);
    if (!step) return wrong_usage("", step.error());
    if (*step) steps.push_back(std::move(**step));
  }
  if (const auto text = conflict(*arguments, steps); !text.empty()) return wrong_usage("", text);
  // After its removal, a client cannot be denied.
  std::ranges::stable_sort(steps, {}, [](const Step& step) { return step.what == Step::kRemove; });

  const auto servers = chosen_servers(*arguments);
  if (!servers) return wrong_usage("", servers.error());
  const int status = servers->list.empty() ? on_server(*arguments, steps, false)
                                           : on_servers(*servers, *arguments, steps);
  return status == kNotEnabled ? kFailure : status;
}

}  // namespace mandos::ctl
