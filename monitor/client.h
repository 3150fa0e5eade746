// SPDX-License-Identifier: GPL-3.0-or-later
// One client's life: enabled, checked, expiring, waiting for approval, granted, refused. A pure
// state machine, (state, event, now) -> (state, effects): no clock, no descriptor, no protobuf, no
// randomness of its own. Rules: mandos-clients.conf(5), mandos(8), the D-Bus interface's text.
#pragma once

#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "monitor/client_settings.h"

namespace mandos::monitor {

/// A proven connection; the number is the caller's.
using ConnectionId = std::uint64_t;
/// Never used twice: the client's `number` in the upper 32 bits, a counter in the lower ones.
using CheckerId = std::uint64_t;

/// How often in a row, without a successful check in between, an expiry is postponed because we
/// could not check (see Missed). The limit keeps a monitor that crashes in a loop, or that somebody
/// stops again and again, from keeping a stolen client enabled.
inline constexpr std::uint32_t kMostGraces = 3;

/// The properties of a client on the bus, with the names that they have there.
// clang-format off
enum class Property : std::uint8_t {
#define ROW(type, name, property, ...) k##property,
  MANDOS_CLIENT_SETTINGS(ROW, ROW, ROW, ROW)
#undef ROW
  kApprovalPending,
  kCheckerRunning,
  kCreated,
  kExpires,
  kLastApprovalRequest,
  kLastCheckedOk,
  kLastCheckerStatus,
  kLastEnabled,
  kName,
  kObjectPath,
};
// clang-format on
using Properties = std::bitset<static_cast<std::size_t>(Property::kObjectPath) + 1>;

/// A schedule takes longer durations for this one, so that no sum of them exceeds the range of
/// Instant (292 years).
inline constexpr Milliseconds kLongestDuration = std::chrono::hours(24 * 365 * 90);

struct Client {
  // Set once by the owner, who may also fill in what was saved on disk, before Started.
  std::string name;
  std::string object_path;  // empty when there is no bus
  std::uint32_t number = 0;
  WallTime created{};
  /// Removed over the bus. Remembered until its section in clients.conf changes or disappears.
  bool removed = false;

  /// Those in force: clients.conf merged with run-time changes. Never null.
  SettingsPtr settings = std::make_shared<const ClientSettings>();
  /// See enabled(). At first, what clients.conf says.
  bool is_enabled = true;
  std::optional<WallTime> last_enabled;
  std::optional<WallTime> last_checked_ok;
  std::optional<WallTime> last_approval_request;
  /// -2 before any checker has finished, -1 when the last was killed by a signal, else its exit
  /// status.
  std::int16_t last_checker_status = -2;
  /// No check has completed since the client was added or enabled, so nothing is known of it.
  bool unjudged = false;
  /// Failed checks since the last success. A check has failed if it ended with another status than
  /// 0, if its command is unusable, or if it still ran when the next one was due.
  std::uint32_t failed_checks = 0;
  /// When the client will be disabled; set only while it is enabled.
  std::optional<Instant> expires;
  /// The same for people, by the wall clock at the time when it was set.
  std::optional<WallTime> expires_shown;
  /// How often `expires` was postponed since the last successful check; at most kMostGraces.
  std::uint32_t graces = 0;
  /// An administrator's answer, and until when it holds.
  struct Decision {
    bool approved;
    Instant until;
  };
  std::optional<Decision> decision;

  // Lost with the process.
  std::optional<Instant> next_check;
  struct Checker {
    CheckerId id;
    std::string command;
    bool killed = false;       // has not ended yet, but is not shown any more
    bool start_again = false;  // as soon as it has ended
    bool stopped = false;      // did not run for some time (see Missed): its failure does not count
  };
  std::optional<Checker> checker;
  std::uint32_t checkers_started = 0;
  struct Waiting {
    ConnectionId connection;
    Instant deadline;
  };
  std::vector<Waiting> waiting;

  /// Makes this a new client with these settings.
  void begin_with(const ClientSettings& initial) {
    settings = std::make_shared<const ClientSettings>(initial);
    is_enabled = initial.enabled;
  }
  bool enabled() const { return is_enabled; }
  bool approval_pending() const { return !waiting.empty(); }
  bool checker_running() const { return checker && (!checker->killed || checker->start_again); }
};

// Events.

/// The first event of every client. `fraction` is random, in [0, 1): when in the interval the first
/// checker runs. If the client was saved on disk, the owner has set `expires`, which stays as it is
/// unless nobody could check (see Missed).
struct Started {
  double fraction;
};
/// next_deadline() is reached. (Every event but Started first does what is due.)
struct Due {};
/// Each StartChecker leads to one CheckerFinished or CheckerLost. `wait_status` is that of wait(2).
struct CheckerFinished {
  CheckerId checker;
  int wait_status;
};
/// The checker could not be started, or died with the checker-runner: this says nothing of the
/// client.
struct CheckerLost {
  CheckerId checker;
};
/// This process did not run for the time `late`, which postpones waiting connections and the next
/// check. Unless its last check failed, the client gets a grace: it does not expire before one more
/// check, or if its expiry has passed, before its timeout. Started and CheckerLost give one, too.
/// If a checker that is running now fails, it counts as lost and is started again.
struct Missed {
  Milliseconds late;
};
/// A grace that Started gave could not be saved. It would not be counted after another restart, so
/// it is taken back, unless the expiry has moved since.
struct Unsaved {
  std::optional<Instant> given;
  std::optional<Instant> before;
};
/// A connection that has proven to be this client asks for the secret. One Decided answers it,
/// unless it hangs up before.
struct Requested {
  ConnectionId connection;
};
/// The peer has gone. If the connection waits, it is forgotten. No Decided follows, even if its
/// deadline has passed.
struct HungUp {
  ConnectionId connection;
};
/// The whole secret has reached the peer.
struct Delivered {};
struct Approve {
  bool approved;
};
struct CheckedOk {};
/// An administrator's change. Anything that is not writable() has no effect.
struct Set {
  using Value = std::variant<bool, Milliseconds, std::string, SecretPtr>;
  Property property;
  Value value;
};
bool writable(const Set& set);
/// clients.conf was read again. `settings` and `enabled` are what is in force now: see merge().
/// `fraction` is as in Started, for a client that this enables. If the key changes, waiting
/// connections are refused and an approval ends: both were for the old key.
struct Reloaded {
  SettingsPtr settings;
  bool enabled;
  double fraction = 0;
};
/// The client is removed: refuses waiting connections, kills the checker. The last event.
struct Removed {};

using Event = std::variant<Started, Due, CheckerFinished, CheckerLost, Missed, Unsaved, Requested,
                           HungUp, Delivered, Approve, CheckedOk, Set, Reloaded, Removed>;

// Effects.

enum class Verdict : std::uint8_t {
  kNoApprovalNeeded,
  kApproved,
  kApprovedByDefault,
  kDisabled,
  kDenied,
  kApprovalTimedOut,
  kKeyChanged,
};
constexpr bool granted(Verdict verdict) { return verdict <= Verdict::kApprovedByDefault; }
/// For the audit line; of a refusal it is also the reason in the bus signal Rejected.
std::string_view text(Verdict verdict);

/// Give the connection its secret, or close it (on the bus: Rejected).
struct Decided {
  ConnectionId connection;
  Verdict verdict;
  bool shown = true;  // the registry clears it when there were too many
};
/// On the bus: CheckerStarted.
struct StartChecker {
  CheckerId checker;
  std::string command;
};
struct KillChecker {
  CheckerId checker;
};
/// For the log: the checker command could not be expanded. Tried again at the next interval.
struct CheckerUnusable {
  std::string why;
};
// Signals on the bus.
struct CheckerCompleted {
  std::int16_t exit_code;  // -1: killed by a signal
  int wait_status;
  std::string command;
};
struct NeedApproval {
  Milliseconds delay;
  bool approved_by_default;
};
struct GotSecret {};
/// Properties on the bus have changed. At most one per event, after all of the above.
struct Changed {
  Properties properties;
};
/// What is saved on disk has changed. Always the last effect.
struct Save {};

using Effect = std::variant<Decided, StartChecker, KillChecker, CheckerUnusable, CheckerCompleted,
                            NeedApproval, GotSecret, Changed, Save>;

/// Changes `client` by `event`, and appends to `out` what must be done, in order.
void react(Client& client, const Event& event, const Moment& now, std::vector<Effect>& out);

/// When the next Due is due.
std::optional<Instant> next_deadline(const Client& client);

/// Calls `visit(Property, ClientSettings::*)` for each setting.
template <class Visitor>
void for_each_setting(Visitor&& visit) {
#define ROW(type, name, property, ...) visit(Property::k##property, &ClientSettings::name);
  MANDOS_CLIENT_SETTINGS(ROW, ROW, ROW, ROW)
#undef ROW
}

/// Whether two values of a setting mean the same.
template <class T>
bool same_setting(const T& one, const T& other) {
  return one == other;
}
bool same_setting(const SecretPtr& one, const SecretPtr& other);
bool same_settings(const ClientSettings& one, const ClientSettings& other);
/// Keeps an equal value, so that a secret which is being sent stays the same object.
template <class T>
void replace(T& setting, const T& value) {
  if (!same_setting(setting, value)) setting = value;
}

}  // namespace mandos::monitor
