// SPDX-License-Identifier: GPL-3.0-or-later
// load-client: many Mandos clients in one thread, non-blocking. Keeps a number of connections busy
// for a time or a count and prints one JSON object about what became of them.
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/unique_fd.h"
#include "tests/support/test_key.h"

namespace mandos::test {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr std::string_view kUsageText = R"(Usage: load-client --port N --keys FILE [OPTION...]
       load-client --generate N --keys FILE [--key-type T]   make N keys, print their key IDs

  --host ADDRESS        numeric; default ::1
  --keys FILE           private keys in PEM form, used in turn
  --concurrency N       connections at a time; default 1
  --connections N       stop after so many; 0 (default): no bound
  --seconds T           stop after so long; 0 (default): no bound
  --rate R              begin at most R connections a second; default: as fast as they end
  --timeout T           seconds for one connection; default 30
  --blob-size N         a blob of any other size counts as wrong
  --sources SPEC        come from these addresses in turn: ADDRESS, or an IPv4 network A.B.C.D/N;
                        may be given many times
  --behaviour WHAT      fetch (default): get the blob; silent: connect and say nothing; line: say
                        the version line and no more; half: stop within the handshake; junk: say
                        nonsense; the ones who wait are begun again when the server closes them
  --first               try again until one is served, then stop; prints the moment on
                        CLOCK_MONOTONIC as "first_ns"
)";

enum class Behaviour { kFetch, kSilent, kLine, kHalf, kJunk };
constexpr std::array<std::string_view, 5> kBehaviours = {"fetch", "silent", "line", "half", "junk"};

enum class End {
  kServed,
  kWrongBlob,
  kNothing,
  kNoHandshake,
  kClosedEarly,
  kTruncated,
  kNoConnection,
  kTimeout,
  kStillOpen,
};
constexpr std::array<std::string_view, 9> kEnds = {"served",        "wrong_blob",   "nothing",
                                                   "no_handshake",  "closed_early", "truncated",
                                                   "no_connection", "timeout",      "still_open"};

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

bool parse_address(const std::string& text, std::uint16_t port, Address& address) {
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  address.storage = {};
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof *v6;
  } else {
    return false;
  }
  return true;
}

/// Where connections come from: single addresses and IPv4 networks, one after the other.
class Sources {
 public:
  bool add(const std::string& spec) {
    const std::size_t slash = spec.find('/');
    Range range{};
    if (!parse_address(spec.substr(0, slash), 0, range.first)) return false;
    if (slash != std::string::npos) {
      unsigned bits = 0;
      if (!parse_number(std::string_view(spec).substr(slash + 1), bits) || bits < 1 || bits > 30 ||
          range.first.storage.ss_family != AF_INET)
        return false;
      range.count = (1U << (32U - bits)) - 2;  // neither the network nor its broadcast address
    }
    ranges_.push_back(range);
    return true;
  }
  bool empty() const { return ranges_.empty(); }
  Address next() {
    const Range& range = ranges_[at_];
    Address address = range.first;
    if (range.count > 1) {
      auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
      v4->sin_addr.s_addr = htonl(ntohl(v4->sin_addr.s_addr) + 1 + offset_);
    }
    if (++offset_ >= range.count) {
      offset_ = 0;
      at_ = (at_ + 1) % ranges_.size();
    }
    return address;
  }

 private:
  struct Range {
    Address first;
    std::uint32_t count = 1;
  };
  std::vector<Range> ranges_;
  std::size_t at_ = 0;
  std::uint32_t offset_ = 0;
};

struct Options {
  std::string host = "::1";
  std::uint16_t port = 0;
  std::string keys_file;
  std::string key_type = "ed25519";
  std::size_t generate = 0;
  std::size_t concurrency = 1;
  std::uint64_t connections = 0;
  double seconds = 0;
  double rate = 0;
  double timeout = 30;
  std::size_t blob_size = 0;
  Sources sources;
  Behaviour behaviour = Behaviour::kFetch;
  bool first = false;
};

struct Connection {
  UniqueFd fd;
  Session session;
  Clock::time_point started;
  std::uint64_t number = 0;
  std::uint32_t waiting_for = 0;
  bool connected = false;
  bool heard = false;
  bool handshaken = false;
  std::size_t received = 0;
  std::size_t sent = 0;
  std::size_t slot = 0;
};

class Load {
 public:
  Load(Options options, std::vector<Credentials> credentials)
      : options_(std::move(options)), credentials_(std::move(credentials)) {
    gnutls_priority_t raw = nullptr;
    gnutls_priority_init(&raw, client_priority().c_str(), nullptr);
    priority_.reset(raw);
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    slots_.resize(options_.concurrency);
    for (std::size_t i = options_.concurrency; i > 0; --i) idle_.push_back(i - 1);
  }

  /// False when the address is none.
  bool run() {
    if (!parse_address(options_.host, options_.port, to_)) return false;
    own_before_ = own_cpu();
    start_ = Clock::now();
    next_sweep_ = start_;
    std::array<epoll_event, 256> events{};
    while (!over()) {
      begin();
      const int count = epoll_wait(epoll_.get(), events.data(), events.size(), pause());
      for (int i = 0; i < count; ++i) {
        Connection& connection = slots_[events[static_cast<std::size_t>(i)].data.u64 & 0xffffffff];
        // An event of a connection that ended within this round is not its successor's.
        if ((events[static_cast<std::size_t>(i)].data.u64 >> 32U) ==
            (connection.number & 0xffffffff))
          advance(connection);
      }
      sweep();
    }
    elapsed_ = Seconds(Clock::now() - start_).count();
    for (const Connection& connection : slots_)
      if (connection.fd) ++ends_[static_cast<std::size_t>(End::kStillOpen)];
    return true;
  }

  void print() {
    std::sort(latencies_.begin(), latencies_.end());
    const auto quantile = [this](double share) {
      if (latencies_.empty()) return 0.0;
      const double at = share * static_cast<double>(latencies_.size() - 1);
      return latencies_[static_cast<std::size_t>(at)] * 1e3;
    };
    std::ostringstream out;
    out << "{\"begun\": " << begun_ << ", \"elapsed\": " << elapsed_
        << ", \"rate\": " << static_cast<double>(latencies_.size()) / elapsed_
        << ", \"p50_ms\": " << quantile(0.5) << ", \"p90_ms\": " << quantile(0.9)
        << ", \"p99_ms\": " << quantile(0.99) << ", \"max_ms\": " << quantile(1)
        << ", \"first_ns\": " << first_ns_ << ", \"own_cpu_us\": " << own_cpu() - own_before_;
    for (std::size_t i = 0; i < kEnds.size(); ++i) out << ", \"" << kEnds[i] << "\": " << ends_[i];
    std::cout << out.str() << "}\n";
  }

 private:
  static long own_cpu() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
  }

  bool time_is_up() const {
    return options_.seconds > 0 && Seconds(Clock::now() - start_).count() >= options_.seconds;
  }
  bool over() const {
    if (first_ns_ != 0) return true;
    if (options_.connections > 0 && begun_ >= options_.connections)
      return idle_.size() == slots_.size();
    // What is on its way at the end of the time is waited for, except those who wait for ever.
    return time_is_up() &&
           (options_.behaviour != Behaviour::kFetch || idle_.size() == slots_.size());
  }
  bool may_begin() const {
    if (idle_.empty() || time_is_up()) return false;
    if (options_.connections > 0 && begun_ >= options_.connections) return false;
    return options_.rate <= 0 ||
           static_cast<double>(begun_) <= options_.rate * Seconds(Clock::now() - start_).count();
  }
  /// Milliseconds to sleep.
  int pause() const {
    if (options_.rate <= 0) return options_.first && idle_.size() == slots_.size() ? 1 : 100;
    const double due = static_cast<double>(begun_) / options_.rate;
    const double left = due - Seconds(Clock::now() - start_).count();
    return static_cast<int>(std::clamp(left * 1e3 + 1, 1.0, 100.0));
  }

  void begin() {
    // A refused connection ends at once: one round must end too.
    for (std::size_t tries = options_.concurrency; tries > 0 && may_begin(); --tries) {
      const std::size_t slot = idle_.back();
      idle_.pop_back();
      Connection& connection = slots_[slot];
      connection = Connection{};
      connection.slot = slot;
      connection.number = ++begun_;
      connection.started = Clock::now();
      connection.fd.reset(
          socket(to_.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      const int on = 1;
      if (!connection.fd) {
        std::perror("load-client: socket");
        finish(connection, End::kNoConnection);
        continue;
      }
      setsockopt(connection.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (!options_.sources.empty()) {
        const Address from = options_.sources.next();
        setsockopt(connection.fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(connection.fd.get(), from.get(), from.size) != 0) std::perror("load-client: bind");
      }
      if (connect(connection.fd.get(), to_.get(), to_.size) != 0 && errno != EINPROGRESS) {
        finish(connection, End::kNoConnection);
        continue;
      }
      wait_for(connection, EPOLLOUT);
    }
  }

  void wait_for(Connection& connection, std::uint32_t events) {
    if (connection.waiting_for == events) return;
    epoll_event event{};
    event.events = events;
    event.data.u64 = (connection.number << 32U) | connection.slot;
    epoll_ctl(epoll_.get(), connection.waiting_for == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
              connection.fd.get(), &event);
    connection.waiting_for = events;
  }

  void finish(Connection& connection, End end) {
    ++ends_[static_cast<std::size_t>(end)];
    if (end == End::kServed) {
      latencies_.push_back(Seconds(Clock::now() - connection.started).count());
      if (options_.first) {
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        first_ns_ = now.tv_sec * 1000000000L + now.tv_nsec;
      }
    }
    connection.session.reset();
    connection.fd.reset();
    connection.number = 0;
    idle_.push_back(connection.slot);
  }

  bool open_session(Connection& connection) {
    gnutls_session_t raw = nullptr;
    if (gnutls_init(&raw,
                    GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_ENABLE_RAWPK) != 0)
      return false;
    connection.session.reset(raw);
    gnutls_priority_set(raw, priority_.get());
    gnutls_credentials_set(
        raw, GNUTLS_CRD_CERTIFICATE,
        credentials_[static_cast<std::size_t>(connection.number % credentials_.size())].get());
    gnutls_handshake_set_timeout(raw, 0);
    gnutls_transport_set_int(raw, connection.fd.get());
    if (options_.behaviour == Behaviour::kHalf) {
      gnutls_transport_set_ptr(raw, &connection);
      gnutls_transport_set_push_function(raw, push_half);
      gnutls_transport_set_pull_function(raw, pull_half);
      gnutls_transport_set_pull_timeout_function(raw, poll_half);
    }
    return true;
  }
  /// Lets a hundred bytes of the handshake through, which is most of a ServerHello.
  static ssize_t push_half(gnutls_transport_ptr_t self, const void* bytes, std::size_t size) {
    auto* connection = static_cast<Connection*>(self);
    const std::size_t room = std::min<std::size_t>(size, 100 - connection->sent);
    if (room > 0) connection->sent += room, ::send(connection->fd.get(), bytes, room, MSG_NOSIGNAL);
    return static_cast<ssize_t>(size);
  }
  static ssize_t pull_half(gnutls_transport_ptr_t self, void* to, std::size_t size) {
    return recv(static_cast<Connection*>(self)->fd.get(), to, size, 0);
  }
  static int poll_half(gnutls_transport_ptr_t, unsigned) { return 1; }

  void advance(Connection& connection) {
    if (!connection.connected) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(connection.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) return finish(connection, End::kNoConnection);
      connection.connected = true;
      std::string_view words = options_.behaviour == Behaviour::kSilent ? ""
                               : options_.behaviour == Behaviour::kJunk
                                   ? std::string_view("\x16\x03\x01 nonsense\r\n")
                                   : "1\r\n";
      if (!words.empty() && ::send(connection.fd.get(), words.data(), words.size(), MSG_NOSIGNAL) !=
                                static_cast<ssize_t>(words.size()))
        return finish(connection, End::kClosedEarly);
      wait_for(connection, EPOLLIN);
      return;
    }
    if (options_.behaviour != Behaviour::kFetch && options_.behaviour != Behaviour::kHalf) {
      std::array<char, 4096> sink{};
      const ssize_t got = recv(connection.fd.get(), sink.data(), sink.size(), 0);
      if (got == 0 || (got < 0 && errno != EAGAIN)) finish(connection, End::kClosedEarly);
      return;
    }
    if (!connection.session && !open_session(connection))
      return finish(connection, End::kNoHandshake);
    gnutls_session_t session = connection.session.get();
    if (!connection.handshaken) {
      if (!connection.heard) {
        char byte = 0;
        const ssize_t got = recv(connection.fd.get(), &byte, 1, MSG_PEEK);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return finish(connection, End::kClosedEarly);
        connection.heard = true;
      }
      const int result = gnutls_handshake(session);
      if (result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED)
        return wait_for(connection, gnutls_record_get_direction(session) == 1 ? EPOLLOUT : EPOLLIN);
      if (result < 0 && gnutls_error_is_fatal(result) == 0) return;
      if (result < 0) return finish(connection, End::kNoHandshake);
      connection.handshaken = true;
      wait_for(connection, EPOLLIN);
    }
    std::array<char, 16384> sink{};
    for (;;) {
      const ssize_t got = gnutls_record_recv(session, sink.data(), sink.size());
      if (got > 0) {
        connection.received += static_cast<std::size_t>(got);
        continue;
      }
      if (got == 0) {
        const bool right = options_.blob_size == 0 || connection.received == options_.blob_size;
        return finish(connection, connection.received == 0 ? End::kNothing
                                  : right                  ? End::kServed
                                                           : End::kWrongBlob);
      }
      if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) return;
      if (gnutls_error_is_fatal(static_cast<int>(got)) != 0)
        return finish(connection, connection.received == 0 ? End::kNothing : End::kTruncated);
    }
  }

  /// Ends what took too long; those who wait on purpose have all the time.
  void sweep() {
    const Clock::time_point now = Clock::now();
    if (now < next_sweep_) return;
    next_sweep_ = now + std::chrono::milliseconds(50);
    if (options_.behaviour != Behaviour::kFetch) return;
    for (Connection& connection : slots_)
      if (connection.fd && Seconds(now - connection.started).count() > options_.timeout)
        finish(connection, End::kTimeout);
  }

  Options options_;
  std::vector<Credentials> credentials_;
  Priority priority_;
  Address to_;
  UniqueFd epoll_;
  std::vector<Connection> slots_;
  std::vector<std::size_t> idle_;
  std::vector<double> latencies_;
  std::array<std::uint64_t, kEnds.size()> ends_{};
  std::uint64_t begun_ = 0;
  long own_before_ = 0;  // what reading the keys took
  Clock::time_point start_;
  Clock::time_point next_sweep_;
  double elapsed_ = 0;
  long first_ns_ = 0;
};

int fail(std::string_view why) {
  std::cerr << "load-client: " << why << '\n';
  return 1;
}

int generate(const Options& options) {
  umask(077);
  std::ofstream file(options.keys_file);
  for (std::size_t i = 0; i < options.generate; ++i) {
    auto key = generate_key(options.key_type);
    if (!key) return fail(key.error());
    file << key->private_pem;
    std::cout << key->key_id << '\n';
  }
  return file.flush() ? 0 : fail("cannot write the keys");
}

bool parse_positive(const std::string& text, double& number) {
  char extra = 0;
  return std::sscanf(text.c_str(), "%lf%c", &number, &extra) == 1 && number >= 0;
}

int run(int argc, char** argv) {
  static const option kOptions[] = {
      {"host", 1, nullptr, 'h'},        {"port", 1, nullptr, 'p'},
      {"keys", 1, nullptr, 'k'},        {"key-type", 1, nullptr, 'y'},
      {"generate", 1, nullptr, 'g'},    {"concurrency", 1, nullptr, 'c'},
      {"connections", 1, nullptr, 'n'}, {"seconds", 1, nullptr, 't'},
      {"rate", 1, nullptr, 'r'},        {"timeout", 1, nullptr, 'T'},
      {"blob-size", 1, nullptr, 'b'},   {"sources", 1, nullptr, 's'},
      {"behaviour", 1, nullptr, 'B'},   {"first", 0, nullptr, 'f'},
      {"help", 0, nullptr, 'H'},        {nullptr, 0, nullptr, 0},
  };
  Options options;
  for (int found = 0; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    const std::string value = optarg != nullptr ? optarg : "";
    bool good = true;
    switch (found) {
      case 'h':
        options.host = value;
        break;
      case 'p':
        good = parse_number(value, options.port);
        break;
      case 'k':
        options.keys_file = value;
        break;
      case 'y':
        options.key_type = value;
        break;
      case 'g':
        good = parse_number(value, options.generate);
        break;
      case 'c':
        good = parse_number(value, options.concurrency) && options.concurrency > 0 &&
               options.concurrency <= 100000;
        break;
      case 'n':
        good = parse_number(value, options.connections);
        break;
      case 't':
        good = parse_positive(value, options.seconds);
        break;
      case 'r':
        good = parse_positive(value, options.rate);
        break;
      case 'T':
        good = parse_positive(value, options.timeout);
        break;
      case 'b':
        good = parse_number(value, options.blob_size);
        break;
      case 's':
        good = options.sources.add(value);
        break;
      case 'B': {
        const auto* at = std::find(kBehaviours.begin(), kBehaviours.end(), value);
        good = at != kBehaviours.end();
        options.behaviour = static_cast<Behaviour>(at - kBehaviours.begin());
        break;
      }
      case 'f':
        options.first = true;
        break;
      case 'H':
        std::cout << kUsageText;
        return 0;
      default:
        good = false;
    }
    if (!good) return fail("bad option or value, see --help");
  }
  // Trying all the time would take the server's time to start.
  if (options.first && options.rate == 0) options.rate = 1000;
  if (optind != argc || options.keys_file.empty()) return fail("see --help");
  if (options.generate > 0) return generate(options);
  if (options.port == 0) return fail("no port, see --help");
  if (options.connections == 0 && options.seconds == 0 && !options.first)
    return fail("neither --connections nor --seconds: it would never end");

  std::signal(SIGPIPE, SIG_IGN);
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  auto keys = load_keys(options.keys_file);
  if (!keys) return fail(keys.error());
  std::vector<Credentials> credentials;
  for (const KeyPair& key : *keys) {
    auto made = raw_key_credentials(key);
    if (!made) return fail(made.error());
    credentials.push_back(*std::move(made));
  }
  Load load(std::move(options), std::move(credentials));
  if (!load.run()) return fail("--host wants a numeric address");
  load.print();
  return 0;
}

}  // namespace
}  // namespace mandos::test

int main(int argc, char** argv) { return mandos::test::run(argc, argv); }
