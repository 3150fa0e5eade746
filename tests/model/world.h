// SPDX-License-Identifier: GPL-3.0-or-later
// One monitor in a world of its own: its registry and its doors, with peers, a disk, a
// configuration and a clock that do what an event says. What must always hold is checked after
// every event, against a record of what was said, not of what the monitor thinks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "monitor/doors/bus_agent.h"
#include "monitor/doors/checker_runner.h"
#include "monitor/doors/networker.h"
#include "monitor/merge.h"
#include "tests/model/fakes.h"
#include "tests/support/memory_disk.h"

namespace mandos::model {

inline constexpr int kConnections = 2;
inline constexpr int kClients = 2;

/// What can happen. `a` is a connection, or a client; `b` a key.
enum class What : std::uint8_t {
  kOpen,
  kProof,
  kStaleProof,
  kNextPart,
  kClosed,
  kDelivered,
  kApprove,
  kDeny,
  kEnable,
  kDisable,
  kRemove,
  kCheckerOk,
  kCheckerFailed,
  kCheckerNotStarted,
  kReload,  // with `a` and `b` as in File
  kTimePasses,
  kDue,
  kGap,
  kNetworkerDies,
  kRunnerDies,
  kBusAgentDies,
  kDiskFinishes,
  kDiskFails,
  kDiskFailsLate,  // what was to be written is there nevertheless
  kRestart,
  kRestartLate,   // the same
  kStop,          // in order, and a start
  kStartWithout,  // the same, with the section of client `a` missing
  kSet,           // over the bus: setting `b` of client `a`
  kOutOfTurn,     // message `b` of a networker that was taken over
};
struct Happening {
  What what;
  std::uint8_t a = 0;
  std::uint8_t b = 0;
};

/// What clients.conf says of a client.
enum Section : std::uint8_t {
  kOriginal,
  kNewKey,
  kNewSecret,
  kNoKey,
  kAbsent,
  kOthersKey,
  kRenamed,
  kSections
};

/// What kSet sets, to one of two values.
enum Setting : std::uint8_t { kDelay, kByDefault, kTimeout, kSecret, kSettings };
/// What kOutOfTurn says.
enum Claim : std::uint8_t { kProofAgain, kPartTooEarly, kOpenAgain, kNeverDelivered, kClaims };

struct Scene {
  const char* name;
  int clients;
  int connections;
  Milliseconds approval_delay;
  bool approved_by_default;
  bool two_parts;
  std::vector<What> without;  // events that this scene leaves out
  int depth;                  // as shipped
  bool edits_default = false;
};

class World {
 public:
  explicit World(const Scene& scene);
  ~World();

  /// What can happen now.
  std::vector<Happening> possible();
  /// Makes it happen. False: something that must hold does not; see problem().
  bool happen(const Happening& event);
  const std::string& problem() const { return problem_; }
  /// Two worlds with the same one go on in the same way.
  std::uint64_t hash();
  static std::string text(const Happening& event);

 private:
  struct Connection {
    enum State { kNone, kNonce, kAsked, kGranted, kWhole, kRefused } state = kNone;
    std::uint32_t number = 0;
    monitor::Nonce nonce{};
    std::uint8_t key = 0;
    unsigned char secret = 0;  // of which it has a part
    bool part_wanted = false;
  };
  struct Checker {
    monitor::CheckerId id;
    bool killed = false;
    bool stopped = false;  // with the monitor
  };
  struct Asked {  // over the bus
    What what;
    std::string name;
    Instant at;
  };
  /// What was said of a client and must hold.
  struct Told {
    std::optional<bool> enabled;  // confirmed, and nothing else asked for since
    bool removed = false;
    bool removal_confirmed = false;
    std::optional<Instant> denied;   // confirmed, and until then
    std::uint64_t last_answer = 0;   // the serial of the last approval or denial
    std::uint8_t section = kAbsent;  // when it was removed, or missing at a start
    // Secrets that it may have: the last that was set over the bus, and before it is confirmed the
    // one of before too. None: that of clients.conf.
    std::set<int> secrets;
  };

  void live();
  void die();
  void connect_networker();
  void connect_runner();
  void connect_bus_agent();
  monitor::Registry::Outlets outlets();
  std::map<std::string, monitor::ClientSettings> file() const;
  std::string name_of(int client) const;
  std::optional<std::uint8_t> key_of(int client) const;
  int secret_of(int client) const;
  Port& port(const void* room);
  void say(const door::networker::ToMonitor& message, bool must_break);
  void ask(What what, int client, std::uint8_t setting = 0);
  void expect_kept_secrets();
  void stop();
  void reload(const std::map<std::string, monitor::ClientSettings>& before,
              const std::array<std::uint8_t, kClients>& sections);
  void listen();
  void hear_networker(const Port::Sent& sent);
  void hear_bus_agent(const Port::Sent& sent);
  void hear_runner(const Port::Sent& sent);
  void forget_connections();
  void apply(const Happening& event);
  void check();
  std::map<std::string, Instant> expiries_that_stay(What what) const;
  void fail(const std::string& why) {
    if (problem_.empty()) problem_ = why;
  }
  const monitor::Client* client(int number) const;

  const Scene& scene_;
  std::string problem_;
  std::array<std::uint8_t, kClients> sections_{};
  bool default_edited_ = false;   // a setting of DEFAULT, which each section takes from there
  std::set<std::string> absent_;  // as ClientLoader::absent_
  std::array<Connection, kConnections> connections_;
  std::uint32_t next_number_ = 1;
  std::vector<Checker> checkers_;
  std::map<std::uint64_t, Asked> asked_;
  std::uint64_t next_serial_ = 1;
  std::map<std::string, Told> told_;
  bool broken_ = false;  // the networker's door
  std::size_t granted_now_ = 0;

  std::map<std::string, monitor::Saved> kept_;  // on disk, while no monitor runs
  std::unique_ptr<EventLoop> loop_;
  Log log_ = Log::to_socket(-1, LogLevel::kInfo);
  std::unique_ptr<monitor::test::MemoryDisk> disk_;
  std::unique_ptr<monitor::Registry> registry_;
  std::unique_ptr<monitor::NetworkerDoor> networker_;
  std::unique_ptr<monitor::CheckerRunnerDoor> runner_;
  std::unique_ptr<monitor::BusAgentDoor> bus_agent_;
  const Door* networker_port_ = nullptr;
  const Door* runner_port_ = nullptr;
  const Door* bus_agent_port_ = nullptr;
};

}  // namespace mandos::model
