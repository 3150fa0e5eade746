// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/model/world.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <span>
#include <type_traits>
#include <utility>

#include "tests/support/datagram.h"

namespace mandos::model {
namespace {

using door::bus_agent::ToBusAgent;
using door::checker_runner::ToCheckerRunner;
using door::networker::ToNetworker;
using monitor::Client;
using monitor::ClientSettings;
using monitor::Registry;
using monitor::Secret;
using monitor::SecretPtr;

constexpr std::uint8_t kForeignKey = 9;
constexpr std::uint8_t kBoth = 0xff;
constexpr std::uint8_t kUnchanged = 0xfe;
constexpr std::uint8_t kDefault = 0xfd;
constexpr std::size_t kPart = 32768;
constexpr int kOwnSecret = 4;  // set over the bus
constexpr Milliseconds kGapLength = std::chrono::minutes(10);
constexpr Milliseconds kAnswerHolds = std::chrono::seconds(2);  // longer than a restart takes

constexpr std::array<const char*, 30> kWhatTexts = {
    "opens",
    "proves key",
    "proves with another nonce key",
    "asks for the next part",
    "closes",
    "closes, and claims delivery",
    "approve client",
    "deny client",
    "enable client",
    "disable client",
    "remove client",
    "the checker succeeds of client",
    "the checker fails of client",
    "the checker cannot be started of client",
    "reload",
    "time passes up to the next timer",
    "the timers that are due run",
    "the monitor is stopped for ten minutes",
    "the networker dies",
    "the checker-runner dies",
    "the bus-agent dies",
    "the disk finishes",
    "the disk fails",
    "the disk fails after it wrote",
    "the monitor is killed and starts again",
    "the disk writes; the monitor is killed before it hears of it, and starts again",
    "the monitor stops in order and starts again",
    "the monitor stops in order and starts again, without the section of client",
    "set on the bus",
    "out of turn",
};
constexpr std::array<const char*, kSettings> kSettingTexts = {
    "approval_delay", "approved_by_default", "timeout", "secret"};
constexpr std::array<const char*, kClaims> kClaimTexts = {
    "proves again", "asks for a part that it may not have", "opens again",
    "closes, and claims the delivery of what it never got"};
constexpr std::array<const char*, kSections> kSectionTexts = {"as at first",
                                                              "with a new key and secret",
                                                              "with a new secret",
                                                              "without a key",
                                                              "gone",
                                                              "with the other's key",
                                                              "renamed"};

const std::set<int> kAnySecret = {0, 1, 2, 3, 4};

/// The same objects in every world. Two parts of one, so that the second must be asked for.
SecretPtr secret(int number, bool two_parts) {
  static const auto made = [] {
    std::array<std::array<SecretPtr, 5>, 2> all;
    for (std::size_t i = 0; i < 5; ++i) {
      const auto first = static_cast<char>('A' + i);
      all[0].at(i) = std::make_shared<const Secret>(as_bytes(std::string(20, first)));
      all[1].at(i) = std::make_shared<const Secret>(as_bytes(std::string(40000, first)));
    }
    return all;
  }();
  return made.at(two_parts ? 1 : 0).at(static_cast<std::size_t>(number));
}

// As in fakes.cc.
template <auto Member>
struct Connections {
  friend auto connections_of(monitor::NetworkerDoor& door) { return &(door.*Member); }
};
auto connections_of(monitor::NetworkerDoor& door);
template struct Connections<&monitor::NetworkerDoor::connections_>;
template <auto Member>
struct Random {
  friend auto random_of(Registry& registry) { return &(registry.*Member); }
};
auto random_of(Registry& registry);
template struct Random<&Registry::random_>;
template <int Which, auto Member>
struct SaverPart {
  friend auto part_of(monitor::Saver& saver, std::integral_constant<int, Which>) {
    return &(saver.*Member);
  }
};
auto part_of(monitor::Saver& saver, std::integral_constant<int, 0>);
auto part_of(monitor::Saver& saver, std::integral_constant<int, 1>);
auto part_of(monitor::Saver& saver, std::integral_constant<int, 2>);
auto part_of(monitor::Saver& saver, std::integral_constant<int, 3>);
template struct SaverPart<0, &monitor::Saver::gathering_>;
template struct SaverPart<1, &monitor::Saver::due_>;
template struct SaverPart<2, &monitor::Saver::failed_>;
template struct SaverPart<3, &monitor::Saver::urgent_>;

class Hash {
 public:
  template <class T>
  Hash& operator<<(T value) {
    state_ ^=
        static_cast<std::uint64_t>(value) + 0x9e3779b97f4a7c15 + (state_ << 6) + (state_ >> 2);
    state_ *= 0xff51afd7ed558ccd;
    state_ ^= state_ >> 33;
    return *this;
  }
  Hash& operator<<(const std::string& text) {
    for (const char c : text) *this << c;
    return *this << text.size();
  }
  Hash& operator<<(const std::optional<Instant>& when) {
    return when ? *this << 1 << (*when - now).count() : *this << 0;
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0;
};

}  // namespace

World::World(const Scene& scene) : scene_(scene) {
  reset();
  sections_.fill(kAbsent);
  for (int i = 0; i < scene_.clients; ++i) sections_.at(static_cast<std::size_t>(i)) = kOriginal;
  live();
  listen();
}

World::~World() { die(); }

std::string World::name_of(int number) const {
  const std::string name = number == 0 ? "one" : "two";
  return sections_.at(static_cast<std::size_t>(number)) == kRenamed ? name + "-renamed" : name;
}

std::optional<std::uint8_t> World::key_of(int number) const {
  switch (sections_.at(static_cast<std::size_t>(number))) {
    case kOriginal:
    case kNewSecret:
    case kRenamed:
      return number;
    case kNewKey:
      return 2 + number;
    case kOthersKey:
      return 1 - number;
    default:
      return std::nullopt;
  }
}

int World::secret_of(int number) const {
  const auto section = sections_.at(static_cast<std::size_t>(number));
  return section == kNewKey || section == kNewSecret ? 2 + number : number;
}

std::map<std::string, ClientSettings> World::file() const {
  std::map<std::string, ClientSettings> clients;
  for (int i = 0; i < kClients; ++i) {
    if (sections_.at(static_cast<std::size_t>(i)) == kAbsent) continue;
    ClientSettings settings;
    if (const auto key = key_of(i)) settings.key_id = key_id(*key);
    settings.secret = secret(secret_of(i), scene_.two_parts);
    settings.checker = "check";
    settings.interval = std::chrono::seconds(100);
    settings.timeout = std::chrono::seconds(default_edited_ ? 300 : 250);
    settings.extended_timeout = std::chrono::seconds(400);
    settings.approval_delay = scene_.approval_delay;
    settings.approved_by_default = scene_.approved_by_default;
    settings.approval_duration = kAnswerHolds;
    settings.section.fill(sections_.at(static_cast<std::size_t>(i)) + 1);
    clients.emplace(name_of(i), std::move(settings));
  }
  return clients;
}

const Client* World::client(int number) const {
  const auto* entry = registry_->find(name_of(number));
  return entry == nullptr ? nullptr : &entry->client;
}

// The life of a monitor, as monitor/monitor.cc has it.

Registry::Outlets World::outlets() {
  return {.start_checker =
              [this](monitor::CheckerId id, const std::string& command) {
                if (runner_) return runner_->run(id, command);
                loop_->at(now, [this, id] { registry_->checker_lost(id); });
              },
          .kill_checker =
              [this](monitor::CheckerId id) {
                if (runner_) runner_->kill(id);
              },
          .waiting = [this](monitor::ConnectionId id) -> const monitor::Proven* {
            return networker_ ? networker_->waiting(id) : nullptr;
          },
          .grant =
              [this](monitor::ConnectionId id, SecretPtr given) {
                if (networker_) networker_->grant(id, std::move(given));
              },
          .refuse =
              [this](monitor::ConnectionId id) {
                if (networker_) networker_->refuse(id);
              },
          .object_path = [](const std::string& name) { return "/clients/" + name; },
          .effects =
              [this](const Client& changed, std::span<const monitor::Effect> effects) {
                if (bus_agent_) bus_agent_->effects(changed, effects);
              },
          .added =
              [this](const Client& added) {
                if (bus_agent_) bus_agent_->added(added);
              },
          .removed =
              [this](const Client& removed) {
                if (bus_agent_) bus_agent_->removed(removed);
              },
          .not_found =
              [this](const monitor::KeyId& id, const std::string& address) {
                if (bus_agent_) bus_agent_->not_found(id, address);
              }};
}

void World::live() {
  loop_ = std::make_unique<EventLoop>();
  disk_ = std::make_unique<monitor::test::MemoryDisk>(*loop_);
  disk_->automatic = false;
  disk_->kept = std::exchange(kept_, {});
  registry_ = std::make_unique<Registry>(*loop_, log_, *disk_, outlets());
  random_of(*registry_)->seed(1);
  for (auto& [name, settings] : file()) {
    Registry::Entry entry;
    if (const auto found = disk_->kept.find(name); found != disk_->kept.end()) {
      entry.client =
          monitor::from_saved(found->second, settings, Moment::now(), &entry.unsaved_at_start);
    } else {
      entry.client.name = name;
      entry.client.created = Moment::now().wall;
      entry.client.begin_with(settings);
    }
    entry.set_file(std::make_shared<const ClientSettings>(settings));
    registry_->add(std::move(entry));
  }
  const auto clients = file();
  absent_.clear();
  for (const auto& [name, saved] : disk_->kept)
    if (!clients.contains(name)) absent_.insert(name);
  registry_->start();
  connect_runner();
  connect_networker();
  connect_bus_agent();
}

void World::die() {
  networker_.reset();
  runner_.reset();
  bus_agent_.reset();
  registry_.reset();
  if (disk_) kept_ = std::move(disk_->kept);
  disk_.reset();
  loop_.reset();
  ports().clear();
  checkers_.clear();
  asked_.clear();
  forget_connections();
}

void World::forget_connections() {
  for (auto& connection : connections_) connection = {};
}

void World::connect_networker() {
  networker_.reset();
  forget_connections();
  broken_ = false;
  monitor::NetworkerDoor::Options options;
  options.index = 0;
  options.settings.set_max_connections(8);
  options.settings.set_login_grace_ms(10000);
  options.on_greeting = [](const std::string&) {};
  options.on_broken = [this](const std::string&) { broken_ = true; };
  networker_ =
      std::make_unique<monitor::NetworkerDoor>(*loop_, *registry_, UniqueFd(), std::move(options));
  networker_port_ = ports().back().first;
  door::networker::ToMonitor greeting;
  greeting.mutable_greeting();
  say(greeting, false);
}

void World::connect_runner() {
  runner_.reset();
  checkers_.clear();
  runner_ = std::make_unique<monitor::CheckerRunnerDoor>(
      *loop_, *registry_, UniqueFd(), LogLevel::kInfo, false,
      [this](const std::string& why) { fail("the checker-runner's door broke: " + why); });
  runner_port_ = ports().back().first;
}

void World::connect_bus_agent() {
  bus_agent_.reset();
  asked_.clear();
  bus_agent_ = std::make_unique<monitor::BusAgentDoor>(
      *loop_, *registry_, UniqueFd(),
      monitor::BusAgentDoor::Options{
          .settings = {},
          .on_greeting = [] {},
          .on_withdrawn = [] {},
          .on_broken =
              [this](const std::string& why) { fail("the bus-agent's door broke: " + why); }});
  bus_agent_port_ = ports().back().first;
  door::bus_agent::ToMonitor greeting;
  greeting.mutable_greeting();
  port(bus_agent_port_).deliver({greeting.SerializeAsString(), {}});
}

Port& World::port(const void* door) {
  return std::ranges::find_if(ports(), [door](const auto& each) { return each.first == door; })
      ->second;
}

// What the others say.

void World::say(const door::networker::ToMonitor& message, bool must_break) {
  const std::string bytes = test::datagram_of({message});
  port(networker_port_).deliver({bytes, {}});
  if (broken_ != must_break) fail(broken_ ? "the networker's door broke" : "a message was allowed");
}

void World::ask(What what, int number, std::uint8_t setting) {
  door::bus_agent::ToMonitor message;
  auto& request = *message.mutable_request();
  request.set_serial(next_serial_);
  request.set_name(name_of(number));
  if (what == What::kApprove || what == What::kDeny) request.set_approve(what == What::kApprove);
  if (what == What::kEnable || what == What::kDisable) request.set_enabled(what == What::kEnable);
  if (what == What::kRemove) request.set_remove(true);
  if (what == What::kEnable) told_[request.name()].enabled.reset();
  if (what == What::kApprove || what == What::kDeny) {
    Told& told = told_[request.name()];
    told.last_answer = next_serial_;
    if (what == What::kApprove) told.denied.reset();
  }
  if (what == What::kRemove && client(number) != nullptr) {
    told_[request.name()].removed = true;
    told_[request.name()].section = sections_.at(static_cast<std::size_t>(number));
  }
  if (what == What::kSet) {
    const auto& settings = *client(number)->settings;
    const bool no_delay = settings.approval_delay == Milliseconds(0);
    if (setting == kDelay) request.set_approval_delay(no_delay ? 10000 : 0);
    if (setting == kByDefault) request.set_approved_by_default(!settings.approved_by_default);
    if (setting == kTimeout) request.set_timeout(settings.timeout.count() == 5000 ? 250000 : 5000);
    if (setting == kSecret) {
      door::bus_agent::ToMonitor part;
      part.mutable_secret_part();
      const auto bytes = secret(kOwnSecret, scene_.two_parts)->bytes();
      for (auto rest = bytes; !rest.empty(); rest = rest.subspan(std::min(rest.size(), kPart))) {
        const auto piece = rest.first(std::min(rest.size(), kPart));
        part.set_part(std::string(piece.begin(), piece.end()));
        port(bus_agent_port_).deliver({part.SerializeAsString(), {}});
      }
      request.set_secret(true);
      told_[request.name()].secrets = {kOwnSecret};
    }
  }
  asked_[next_serial_++] = {what, request.name(), now};
  port(bus_agent_port_).deliver({message.SerializeAsString(), {}});
}

// What the monitor says.

void World::listen() {
  for (const auto& [door, port] : ports()) {
    for (const auto& sent : port.sent) {
      if (door == networker_port_) hear_networker(sent);
      if (door == runner_port_) hear_runner(sent);
      if (door == bus_agent_port_) hear_bus_agent(sent);
    }
  }
  for (auto& [door, port] : ports()) port.sent.clear();
}

void World::hear_networker(const Port::Sent& sent) {
  ToNetworker message;
  message.ParseFromString(sent.bytes.substr(0, sent.bytes.size()));
  if (message.has_settings()) return;
  const auto found = std::ranges::find_if(connections_, [&](const auto& each) {
    return each.state != Connection::kNone && each.number == message.connection();
  });
  if (found == connections_.end()) return fail("an answer to a connection that is gone");
  Connection& connection = *found;
  if (message.has_nonce()) {
    std::ranges::copy(message.nonce().nonce(), connection.nonce.begin());
    return;
  }
  if (message.has_refused()) {
    // A secret that is being sent may be revoked.
    const bool revoked = connection.state == Connection::kGranted && connection.part_wanted;
    if (connection.state != Connection::kAsked && !revoked) return fail("a second answer");
    connection.state = Connection::kRefused;
    return;
  }
  const bool first = connection.state == Connection::kAsked;
  if (!first && !(connection.state == Connection::kGranted && connection.part_wanted)) {
    return fail("a part of a secret that nobody may have");
  }
  connection.part_wanted = false;
  if (first) ++granted_now_;
  connection.state = message.part().last() ? Connection::kWhole : Connection::kGranted;
  for (int i = 0; i < kClients; ++i) {
    if (sections_.at(static_cast<std::size_t>(i)) == kAbsent || key_of(i) != connection.key) {
      continue;
    }
    const Client* holder = client(i);
    if (holder == nullptr) return fail("a secret of a client that is removed");
    const auto text = sent.tail.front();
    const auto& own = told_[holder->name].secrets;
    if (own.empty() ? text != 'A' + secret_of(i) : !own.contains(text - 'A')) {
      return fail("the secret of another client, or another time");
    }
    if (first) connection.secret = text;
    if (connection.secret != text) return fail("half of one secret, and half of another");
    if (!holder->enabled()) return fail("a secret of a client that is disabled");
    if (*holder->expires <= now) return fail("a secret of a client that is past its expiry");
    if (first && holder->decision && !holder->decision->approved) {
      return fail("a secret of a client that is denied");
    }
    return;
  }
  fail("a secret to a key that no client has");
}

void World::hear_runner(const Port::Sent& sent) {
  ToCheckerRunner message;
  message.ParseFromString(sent.bytes);
  if (message.has_run()) {
    const auto id = message.run().checker();
    for (const auto& checker : checkers_) {
      if (checker.id >> 32U == id >> 32U) fail("two checkers of one client");
    }
    checkers_.push_back({id});
  } else if (message.has_kill()) {
    const auto found = std::ranges::find_if(
        checkers_, [&](const auto& each) { return each.id == message.kill().checker(); });
    if (found == checkers_.end()) return;  // it ends just now
    if (found->killed) return fail("a checker is killed twice");
    found->killed = true;
  }
}

void World::hear_bus_agent(const Port::Sent& sent) {
  ToBusAgent message;
  message.ParseFromString(sent.bytes);
  if (!message.has_reply()) return;
  const auto found = asked_.find(message.reply().serial());
  if (found == asked_.end()) return fail("a second reply, or to a question that was not asked");
  const Asked asked = found->second;
  const bool last_answer = found->first == told_[asked.name].last_answer;
  asked_.erase(found);
  if (!message.reply().error().empty()) return;
  Told& told = told_[asked.name];
  const auto& disk = disk_->kept;
  const auto kept = disk.find(asked.name);
  if (asked.what == What::kDeny && last_answer) told.denied = asked.at + kAnswerHolds;
  if (asked.what == What::kRemove) {
    if (told.removed && (kept == disk.end() || !kept->second.client.removed())) {
      return fail("a removal was confirmed and is not on disk");
    }
    told.removal_confirmed = told.removed;
  }
  const bool later = std::ranges::any_of(asked_, [&](const auto& each) {
    return each.second.name == asked.name &&
           (each.second.what == What::kEnable || each.second.what == What::kDisable);
  });
  if (later || (asked.what != What::kEnable && asked.what != What::kDisable)) return;
  const auto* entry = registry_->find(asked.name);
  if (entry == nullptr || entry->client.enabled() != (asked.what == What::kEnable)) return;
  if (kept == disk.end() ||
      kept->second.client.current().enabled() != (asked.what == What::kEnable)) {
    return fail("a change was confirmed and is not on disk");
  }
  if (asked.what == What::kDisable) told.enabled = false;
}

// Events.

std::vector<Happening> World::possible() {
  std::vector<Happening> all;
  const auto add = [&](What what, int a = 0, int b = 0) {
    if (std::ranges::find(scene_.without, what) != scene_.without.end()) return;
    all.push_back({what, static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b)});
  };
  for (int i = 0; i < scene_.connections; ++i) {
    const auto& connection = connections_.at(static_cast<std::size_t>(i));
    using State = Connection::State;
    if (connection.state == State::kNone) {
      add(What::kOpen, i);
      break;  // the next one is as good
    }
    if (connection.state == State::kNonce) {
      std::vector<int> keys = {0, 2, kForeignKey};
      if (scene_.clients > 1) keys = {0, 1, 2};
      for (const int key : keys) add(What::kProof, i, key);
      add(What::kStaleProof, i, 0);
    }
    if (connection.state == State::kAsked || connection.state == State::kGranted) {
      add(What::kNextPart, i);
    }
    add(What::kClosed, i);
    if (connection.state == State::kGranted || connection.state == State::kWhole) {
      add(What::kDelivered, i);
    }
    using enum Connection::State;
    if (connection.state != kNonce) add(What::kOutOfTurn, i, kProofAgain);
    if (connection.state != kAsked && connection.state != kGranted) {
      add(What::kOutOfTurn, i, kPartTooEarly);
    }
    add(What::kOutOfTurn, i, kOpenAgain);
    if (connection.state == kNonce || connection.state == kAsked || connection.state == kRefused) {
      add(What::kOutOfTurn, i, kNeverDelivered);
    }
  }
  for (int i = 0; i < scene_.clients; ++i) {
    const auto section = sections_.at(static_cast<std::size_t>(i));
    if (const Client* known = client(i); known != nullptr && section != kAbsent) {
      add(What::kApprove, i);
      add(What::kDeny, i);
      add(known->enabled() ? What::kDisable : What::kEnable, i);
      add(What::kRemove, i);
      for (int setting = 0; setting < kSettings; ++setting) add(What::kSet, i, setting);
      const bool runs = std::ranges::any_of(
          checkers_, [&](const auto& checker) { return checker.id >> 32U == known->number; });
      if (runs) add(What::kCheckerOk, i);
      if (runs) add(What::kCheckerFailed, i);
      if (runs) add(What::kCheckerNotStarted, i);
    }
    for (int next = 0; next < kSections; ++next) {
      if (next == section) continue;
      if (scene_.clients == 1 && (next == kOthersKey || next == kRenamed)) continue;
      if (next == kNewSecret && !scene_.two_parts) continue;
      if (i == 1 && (next == kNewKey || next == kNoKey || next == kRenamed)) continue;
      const auto before = sections_;
      sections_.at(static_cast<std::size_t>(i)) = static_cast<std::uint8_t>(next);
      if (!key_of(0) || key_of(0) != key_of(1)) add(What::kReload, i, next);
      sections_ = before;
    }
  }
  if (scene_.clients > 1) {
    add(What::kReload, kBoth, sections_[0] == kOthersKey ? kOriginal : kOthersKey);
  }
  add(What::kReload, kUnchanged, 0);
  if (scene_.edits_default) add(What::kReload, kDefault, 0);
  const auto& pending = timers(*loop_);
  const bool due = !pending.empty() && pending.begin()->first.first <= now;
  if (due) {
    add(What::kDue);
  } else if (!pending.empty()) {
    add(What::kTimePasses);
  }
  add(What::kGap);
  add(What::kNetworkerDies);
  if (!checkers_.empty()) add(What::kRunnerDies);
  if (!asked_.empty()) add(What::kBusAgentDies);
  if (disk_->busy()) {
    add(What::kDiskFinishes);
    add(What::kDiskFails);
    add(What::kDiskFailsLate);
    add(What::kRestartLate);
  }
  add(What::kRestart);
  add(What::kStop);
  for (int i = 0; i < scene_.clients; ++i) {
    if (sections_.at(static_cast<std::size_t>(i)) != kAbsent) add(What::kStartWithout, i);
  }
  return all;
}

std::string World::text(const Happening& event) {
  const std::string what = kWhatTexts.at(static_cast<std::size_t>(event.what));
  if (event.what <= What::kDelivered) {
    const bool proof = event.what == What::kProof || event.what == What::kStaleProof;
    return concat("connection ", int{event.a}, ' ', what, proof ? concat(' ', int{event.b}) : "");
  }
  if (event.what == What::kReload) {
    if (event.a == kUnchanged) return "reload with nothing changed";
    if (event.a == kDefault) return "reload with another DEFAULT";
    return concat("reload: section of client ",
                  event.a == kBoth ? "0 and of client 1" : std::to_string(event.a), ' ',
                  kSectionTexts.at(event.b));
  }
  if (event.what <= What::kCheckerNotStarted || event.what == What::kStartWithout) {
    return concat(what, ' ', int{event.a});
  }
  if (event.what == What::kSet) {
    return concat(what, ": ", kSettingTexts.at(event.b), " of client ", int{event.a});
  }
  if (event.what == What::kOutOfTurn) {
    return concat("connection ", int{event.a}, ' ', kClaimTexts.at(event.b));
  }
  return what;
}

// Who failed the last check gets no time for what was missed.
std::map<std::string, Instant> World::expiries_that_stay(What what) const {
  std::map<std::string, Instant> stay;
  if (what == What::kGap || what == What::kRunnerDies || what == What::kCheckerNotStarted) {
    registry_->for_each([&](const Client& each) {
      const bool vouched = each.unjudged || (each.last_checked_ok && each.last_checker_status == 0);
      if (each.enabled() && !vouched) stay[each.name] = *each.expires;
    });
  } else if (what == What::kRestart) {
    const Moment moment = Moment::now();
    for (const auto& [name, kept] : disk_->kept) {
      const auto& saved = kept.client;
      const bool vouched =
          saved.unjudged() || (saved.has_last_checked_ok() && saved.last_checker_status() == 0);
      if (!saved.has_expires() || vouched) continue;
      const WallTime expires{std::chrono::microseconds(saved.expires())};
      stay[name] = moment.boot + (expires - moment.wall);
    }
  }
  return stay;
}

bool World::happen(const Happening& event) {
  log_lines.clear();
  const auto stay = expiries_that_stay(event.what);
  if (registry_) random_of(*registry_)->seed(1);
  try {
    apply(event);
    listen();
    check();
    registry_->for_each([&](const Client& each) {
      const auto found = stay.find(each.name);
      if (found == stay.end() || !each.expires || *each.expires <= found->second) return;
      fail("a client that failed its last check lives longer for what was missed");
    });
  } catch (const std::exception& thrown) {
    fail(concat("the monitor ends: ", thrown.what()));
  }
  return problem_.empty();
}

void World::apply(const Happening& event) {
  const int a = event.a;
  auto& connection = connections_.at(event.a % kConnections);
  door::networker::ToMonitor message;
  message.set_connection(connection.number);
  switch (event.what) {
    case What::kOpen:
      connection = {};
      connection.state = Connection::kNonce;
      connection.number = next_number_++;
      message.set_connection(connection.number);
      message.mutable_open();
      return say(message, false);
    case What::kProof:
    case What::kStaleProof: {
      auto nonce = connection.nonce;
      if (event.what == What::kStaleProof) nonce.back() ^= 1;
      message.mutable_proof()->set_transcript(transcript(event.b, nonce));
      message.mutable_proof()->set_address("::1");
      connection.state = Connection::kAsked;
      connection.key = event.what == What::kStaleProof ? kForeignKey : event.b;
      return say(message, false);
    }
    case What::kNextPart: {
      message.mutable_next_part();
      connection.part_wanted = true;
      const bool allowed = connection.state == Connection::kGranted;
      return say(message, !allowed);
    }
    case What::kClosed:
    case What::kDelivered: {
      const bool whole = connection.state == Connection::kWhole;
      std::vector<std::optional<Instant>> before;
      registry_->for_each([&](const Client& each) { before.push_back(each.expires); });
      message.mutable_closed()->set_delivered(event.what == What::kDelivered);
      connection = {};
      say(message, false);
      std::size_t i = 0;
      registry_->for_each([&](const Client& each) {
        const auto was = before.at(i++);
        if (!whole && was && each.expires && *each.expires > *was) {
          fail("the expiry moved for a secret that was not delivered");
        }
      });
      return;
    }
    case What::kApprove:
    case What::kDeny:
    case What::kEnable:
    case What::kDisable:
    case What::kRemove:
      return ask(event.what, a);
    case What::kCheckerOk:
    case What::kCheckerFailed:
    case What::kCheckerNotStarted: {
      const auto number = client(a)->number;
      const auto found = std::ranges::find_if(
          checkers_, [&](const auto& each) { return each.id >> 32U == number; });
      door::checker_runner::ToMonitor finished;
      finished.mutable_finished()->set_checker(found->id);
      if (event.what != What::kCheckerNotStarted) {
        finished.mutable_finished()->set_wait_status(event.what == What::kCheckerOk ? 0 : 256);
      }
      const bool counts = !found->stopped || client(a)->next_check.value_or(now) <= now;
      const auto failures = client(a)->failed_checks;
      checkers_.erase(found);
      port(runner_port_).deliver({finished.SerializeAsString(), {}});
      if (!counts && client(a)->failed_checks > failures) {
        fail("a checker that was stopped counts against its client");
      }
      return;
    }
    case What::kSet:
      return ask(event.what, a, event.b);
    case What::kOutOfTurn:
      if (event.b == kNeverDelivered) return apply({What::kDelivered, event.a});
      if (event.b == kProofAgain) {
        message.mutable_proof()->set_transcript(transcript(connection.key, connection.nonce));
        message.mutable_proof()->set_address("::1");
      }
      if (event.b == kPartTooEarly) message.mutable_next_part();
      if (event.b == kOpenAgain) message.mutable_open();
      return say(message, true);
    case What::kReload: {
      const auto before = file();
      const auto sections = sections_;
      if (event.a == kBoth) sections_.fill(event.b);
      if (event.a < kClients) sections_.at(event.a) = event.b;
      if (event.a == kDefault) default_edited_ = !default_edited_;
      return reload(before, sections);
    }
    case What::kTimePasses:
      now = timers(*loop_).begin()->first.first;
      return;
    case What::kDue:
      return loop_->run_once(Milliseconds(0));
    case What::kGap:
      now += kGapLength;
      for (auto& checker : checkers_) checker.stopped = true;
      return loop_->run_once(Milliseconds(-1));
    case What::kNetworkerDies:
      return connect_networker();
    case What::kRunnerDies:
      return connect_runner();
    case What::kBusAgentDies:
      return connect_bus_agent();
    case What::kDiskFinishes:
      return disk_->finish();
    case What::kDiskFails:
      return disk_->fail("no space");
    case What::kDiskFailsLate:
      return disk_->fail("an error", true);
    case What::kRestartLate:
      for (const auto& change : disk_->in_flight()) {
        disk_->kept.erase(change.client);
        if (change.saved) disk_->kept.emplace(change.client, *change.saved);
      }
      [[fallthrough]];
    case What::kRestart:
      die();
      for (auto& [name, told] : told_) {
        told.removed = told.removal_confirmed;
        // It may not have been saved.
        if (told.secrets.contains(kOwnSecret)) told.secrets = kAnySecret;
      }
      expect_kept_secrets();
      now += std::chrono::seconds(1);
      live();
      // The state of one that a reload took away may not have been deleted yet.
      for (const auto& name : absent_) told_[name].secrets = kAnySecret;
      return;
    case What::kStop:
      stop();
      return live();
    case What::kStartWithout:
      stop();
      told_[name_of(a)].section = sections_.at(event.a);
      sections_.at(event.a) = kAbsent;
      return live();
  }
}

// Where the file has what it had when the state was written, a secret of the client's own is in
// force again: a reload that took it away may not have been saved.
void World::expect_kept_secrets() {
  for (const auto& [name, settings] : file()) {
    const auto found = kept_.find(name);
    if (found == kept_.end() || !found->second.client.own_secret()) continue;
    const auto hash = monitor::sha256({settings.secret->bytes()});
    if (found->second.client.file().secret_sha256() == std::string(hash.begin(), hash.end())) {
      told_[name].secrets = kAnySecret;
    }
  }
}

// Everything that was said before it is kept, confirmed or not.
void World::stop() {
  bool flushed = false;
  registry_->saver().flush([&flushed](const Status&) { flushed = true; });
  for (int i = 0; i < 100 && !flushed; ++i) {
    loop_->run_once(Milliseconds(0));
    if (disk_->busy()) disk_->finish();
  }
  if (!flushed) fail("the end does not come");
  for (auto& [name, told] : told_) told.removal_confirmed = told.removed;
  listen();
  die();
  now += std::chrono::seconds(1);
}

// As Monitor::reload() has it; `before` and `sections` are what the last one found.
void World::reload(const std::map<std::string, ClientSettings>& before,
                   const std::array<std::uint8_t, kClients>& sections) {
  const auto after = file();
  const auto find_section = [&](const std::string& name, const auto& all) -> std::uint8_t {
    for (int i = 0; i < kClients; ++i)
      if (after.contains(name) && name == name_of(i)) return all.at(static_cast<std::size_t>(i));
    return kAbsent;
  };
  const auto another = [&](const std::string& name) {
    const bool was_kept = absent_.contains(name) && after.contains(name);
    const auto was = was_kept ? told_[name].section : find_section(name, sections);
    if (!was_kept && !before.contains(name)) return true;
    return !after.contains(name) || was != find_section(name, sections_);
  };
  for (auto& [name, told] : told_) {
    const Told kept = told;
    if (another(name)) told = {};
    // A secret of its own stays unless the section has another one.
    if (!kept.removed && before.contains(name) && after.contains(name) &&
        monitor::same_setting(before.at(name).secret, after.at(name).secret)) {
      told.secrets = kept.secrets;
    }
  }
  // What is confirmed of a client that may be another by now says nothing.
  for (auto& [serial, asked] : asked_)
    if (another(asked.name)) asked.what = What::kReload;
  if (std::ranges::any_of(absent_, [&](const auto& name) { return after.contains(name); })) {
    stop();  // a fresh monitor is to read what was kept
    expect_kept_secrets();
    return live();
  }
  registry_->reload(after, monitor::merge);
  for (const auto& name : std::exchange(absent_, {})) registry_->saver().changed(name);
}

// What must hold, whatever happened.

void World::check() {
  if (broken_) {
    // It is started afresh, as Doors::broke() has it. Meanwhile nobody waits.
    registry_->for_each([this](const Client& each) {
      if (!each.waiting.empty()) fail("a connection of a door that broke is waited for");
    });
    listen();
    connect_networker();
    listen();
  }
  std::multiset<std::uint32_t> waiting;
  registry_->for_each([&](const Client& each) {
    if (each.graces > monitor::kMostGraces) fail("too many graces");
    for (const auto& one : each.waiting) {
      waiting.insert(static_cast<std::uint32_t>(one.connection));
      if (networker_->waiting(one.connection) == nullptr) fail("a client waits for nobody");
      if (!each.enabled()) fail("a connection waits for a disabled client");
    }
    const auto told = told_.find(each.name);
    if (told == told_.end()) return;
    if (told->second.enabled == false && each.enabled()) fail("a disabled client is enabled");
    if (told->second.removed) fail("a removed client is there");
    const auto& denied = told->second.denied;
    if (denied && now < *denied && (!each.decision || each.decision->approved)) {
      fail("a denial that was confirmed is forgotten");
    }
  });
  std::size_t open = 0;
  for (const auto& connection : connections_) {
    if (connection.state == Connection::kNone) continue;
    ++open;
    const bool asked = connection.state == Connection::kAsked;
    if (waiting.count(connection.number) != (asked ? 1U : 0U)) {
      fail(asked ? "a connection waits for nothing"
                 : "a connection that does not wait is waited for");
    }
  }
  if (connections_of(*networker_)->size() != open)
    fail("the door knows another number of connections");
  const auto told = static_cast<std::size_t>(std::ranges::count_if(
      log_lines, [](const auto& line) { return line.starts_with("audit: verdict=granted"); }));
  if (told != granted_now_) fail("the audit lines are not what was granted");
  granted_now_ = 0;
}

std::uint64_t World::hash() {
  Hash hash;
  for (const auto section : sections_) hash << section;
  hash << default_edited_;
  for (const auto& name : absent_) hash << name;
  for (const auto& connection : connections_) {
    hash << connection.state << connection.key << connection.secret << connection.part_wanted;
  }
  std::map<std::uint32_t, std::string> names;
  registry_->for_each([&](const Client& each) {
    names[each.number] = each.name;
    const auto& settings = *each.settings;
    hash << each.name << each.enabled() << (settings.key_id ? settings.key_id->bytes[0] : 0)
         << settings.secret->bytes().front() << each.last_checker_status
         << each.last_checked_ok.has_value() << each.unjudged << each.graces << each.expires
         << each.next_check << settings.timeout.count() << settings.approval_delay.count()
         << settings.approved_by_default;
    if (each.decision) hash << each.decision->approved << std::optional(each.decision->until);
    for (const auto& one : each.waiting) {
      const auto number = static_cast<std::uint32_t>(one.connection);
      for (std::size_t i = 0; i < connections_.size(); ++i) {
        if (connections_.at(i).number == number) hash << i;
      }
      hash << std::optional(one.deadline);
    }
    hash << 77;
    if (each.checker) hash << each.checker->killed << each.checker->start_again;
  });
  for (const auto& checker : checkers_) {
    const auto name = names.find(static_cast<std::uint32_t>(checker.id >> 32U));
    hash << (name == names.end() ? "" : name->second) << checker.killed << checker.stopped;
  }
  monitor::Saver& saver = registry_->saver();
  for (const auto& name : *part_of(saver, std::integral_constant<int, 0>())) hash << name;
  hash << 78;
  for (const auto& name : *part_of(saver, std::integral_constant<int, 1>())) hash << name;
  hash << 79;
  for (const auto& name : *part_of(saver, std::integral_constant<int, 2>())) hash << name;
  for (const auto& [name, waiting] : *part_of(saver, std::integral_constant<int, 3>())) {
    hash << name << waiting.size();
  }
  for (const auto& [serial, asked] : asked_) {
    hash << static_cast<int>(asked.what) << asked.name << (serial == told_[asked.name].last_answer);
  }
  for (const auto& [name, told] : told_) {
    hash << name << told.enabled.has_value() << told.removed << told.removal_confirmed
         << told.section << told.secrets.size();
    if (told.denied && *told.denied > now) hash << told.denied;
  }
  const auto wall = Moment::now().wall.time_since_epoch().count();
  const auto add = [&](const std::string& name, const state::SavedClient& saved) {
    hash << name << saved.removed() << saved.section_sha256() << saved.own_secret()
         << saved.current().timeout() << saved.file().timeout() << saved.current().approval_delay()
         << saved.current().approved_by_default() << saved.current().enabled()
         << saved.current().key_id() << saved.file().key_id() << saved.unjudged() << saved.graces()
         << saved.last_checker_status() << saved.has_last_checked_ok()
         << (saved.has_expires() ? saved.expires() - wall : 0);
    if (saved.decided_until() > wall) hash << saved.approved() << saved.decided_until() - wall;
  };
  for (const auto& [name, kept] : disk_->kept) add(name, kept.client);
  hash << disk_->busy();
  if (disk_->busy()) {
    for (const auto& change : disk_->in_flight()) {
      change.saved ? add(change.client, change.saved->client) : void(hash << change.client);
    }
  }
  for (const auto& [id, due] : timers(*loop_)) hash << std::optional(id.first);
  return hash.value();
}

}  // namespace mandos::model
