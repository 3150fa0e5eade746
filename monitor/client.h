// SPDX-License-Identifier: GPL-3.0-or-later
// One client's life: enabled, checked, expiring, waiting for approval, granted, refused. A pure
// state machine, (state, event, now) -> (state, effects): no clock, no descriptor, no protobuf, no
// randomness of its own. Rules: mandos-clients.conf(5), mandos(8), the D-Bus interface's text.
#pragma once

#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
/// Never used twice: the client's `number` in the upper 32 bits, a count below.
using CheckerId = std::uint64_t;

/// How often in a row, without a check that succeeded in between, an expiry is put off because we
/// could not check (see Missed): neither a monitor that crashes in a loop nor one that is stopped
/// again and again keeps a stolen client enabled.
inline constexpr std::uint32_t kMostGraces = 3;

/// What the bus shows of a client, named as there.
enum class Property : std::uint8_t {
  kApprovalDelay,
  kApprovalDuration,
  kApprovalPending,
  kApprovedByDefault,
  kChecker,
  kCheckerRunning,
  kCreated,
  kEnabled,
  kExpires,
  kExtendedTimeout,
  kFingerprint,
  kHost,
  kInterval,
  kKeyId,
  kLastApprovalRequest,
  kLastCheckedOk,
  kLastCheckerStatus,
  kLastEnabled,
  kName,
  kObjectPath,
  kSecret,
  kTimeout,
};
using Properties = std::bitset<static_cast<std::size_t>(Property::kTimeout) + 1>;

/// Durations count no longer than this in a schedule, so that no sum of them leaves the range of
/// Instant (292 years).
inline constexpr Milliseconds kLongestDuration = std::chrono::hours(24 * 365 * 90);

struct Client {
  // Set once by the owner, who may also fill in all that is kept on disk before Started.
  std::string name;
  std::string object_path;  // empty when there is no bus
  std::uint32_t number = 0;
  WallTime created{};
  /// Removed over the bus: kept until its section in clients.conf changes or goes.
  bool removed = false;

  /// `settings.enabled` is the state of now.
  ClientSettings settings;
  std::optional<WallTime> last_enabled;
  std::optional<WallTime> last_checked_ok;
  std::optional<WallTime> last_approval_request;
  /// -2 before any checker has finished, -1 when the last was killed by a signal, else its exit
  /// status.
  std::int16_t last_checker_status = -2;
  /// Since it was added or enabled no check has completed, so nothing is known of it.
  bool unjudged = false;
  /// Checks that failed since one succeeded: that ended badly, could not be started for what their
  /// command says, or still ran when the next one was due.
  std::uint32_t failed_checks = 0;
  /// When the client will be disabled: none unless enabled.
  std::optional<Instant> expires;
  /// The same for people, as the wall clock stood when it was set.
  std::optional<WallTime> expires_shown;
  /// How often it was put off since a check succeeded; at most kMostGraces times.
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
    bool killed = false;       // its end is awaited; to the outside it is gone already
    bool start_again = false;  // as soon as it has ended
    bool stopped = false;  // like us, for some time (see Missed), so that its failure says nothing
  };
  std::optional<Checker> checker;
  std::uint32_t checkers_started = 0;
  struct Waiting {
    ConnectionId connection;
    Instant deadline;
  };
  std::vector<Waiting> waiting;

  bool enabled() const { return settings.enabled; }
  bool approval_pending() const { return !waiting.empty(); }
  bool checker_running() const { return checker && (!checker->killed || checker->start_again); }
};

// Events.

/// The first event of every client. `fraction` in [0, 1) is random: where in its interval the first
/// checker runs. Of a client that was kept on disk, `expires` is set (converted to Instant by the
/// owner), and stays unless nobody could check (see Missed).
struct Started {
  double fraction;
};
/// next_deadline() is reached. (Every event but Started first does what is due.)
struct Due {};
/// This or CheckerLost, once for each StartChecker. `wait_status` as by wait(2).
struct CheckerFinished {
  CheckerId checker;
  int wait_status;
};
/// The checker could not be started, or died with the checker-runner: this says nothing of the
/// client.
struct CheckerLost {
  CheckerId checker;
};
/// This process did not run for so long. Connections wait, and checks come, so much later. A client
/// gets a grace unless its last check failed: it does not expire before one more check could
/// decide, and if its expiry has passed, not before its timeout. The same after Started and
/// CheckerLost. A checker that runs and then fails is lost, and started again.
struct Missed {
  Milliseconds late;
};
/// A grace of Started could not be saved, so that it would not count after another restart: it is
/// taken back, unless the expiry has moved since.
struct Unsaved {
  std::optional<Instant> given;
  std::optional<Instant> before;
};
/// A connection that has proven to be this client asks for the secret. It is answered by one
/// Decided, unless it hangs up before.
struct Requested {
  ConnectionId connection;
};
/// The peer has gone. Forgets the connection if it waits; it is never decided after this, even if
/// its deadline has passed.
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
/// clients.conf was read again. `settings` is what shall be in force (the caller merged it with the
/// changes made at run time). `fraction` as in Started, for a client that becomes enabled by it.
/// Another key ends the wait of every connection, and an approval: both were for the old key.
struct Reloaded {
  ClientSettings settings;
  double fraction;
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
/// What the bus shows has changed. At most one an event, after all of the above.
struct Changed {
  Properties properties;
};
/// What is kept on disk has changed; the last effect.
struct Save {};

using Effect = std::variant<Decided, StartChecker, KillChecker, CheckerUnusable, CheckerCompleted,
                            NeedApproval, GotSecret, Changed, Save>;

/// Appends to `out` what must be done, in this order.
void react(Client& client, const Event& event, const Moment& now, std::vector<Effect>& out);

/// When the next Due is due.
std::optional<Instant> next_deadline(const Client& client);

/// Calls `visit(Property, ClientSettings::*)` for each setting.
template <class Visitor>
void for_each_setting(Visitor&& visit) {
  visit(Property::kKeyId, &ClientSettings::key_id);
  visit(Property::kFingerprint, &ClientSettings::fingerprint);
  visit(Property::kSecret, &ClientSettings::secret);
  visit(Property::kHost, &ClientSettings::host);
  visit(Property::kChecker, &ClientSettings::checker);
  visit(Property::kEnabled, &ClientSettings::enabled);
  visit(Property::kTimeout, &ClientSettings::timeout);
  visit(Property::kExtendedTimeout, &ClientSettings::extended_timeout);
  visit(Property::kInterval, &ClientSettings::interval);
  visit(Property::kApprovedByDefault, &ClientSettings::approved_by_default);
  visit(Property::kApprovalDelay, &ClientSettings::approval_delay);
  visit(Property::kApprovalDuration, &ClientSettings::approval_duration);
}

/// Whether two values of a setting mean the same.
template <class T>
bool same_setting(const T& one, const T& other) {
  return one == other;
}
bool same_setting(const SecretPtr& one, const SecretPtr& other);
bool same_settings(const ClientSettings& one, const ClientSettings& other);

}  // namespace mandos::monitor
