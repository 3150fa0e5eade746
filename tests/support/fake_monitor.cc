// SPDX-License-Identifier: GPL-3.0-or-later
// fake-monitor: starts a networker as the supervisor does and plays the monitor towards it, without
// looking at any proof. Says on standard output what happens, a line each; takes orders on standard
// input. Ends when its standard input ends, or with the networker.
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "common/text.h"
#include "tests/support/as_networker.h"
#include "tests/support/datagram.h"

namespace mandos::test {
namespace {

using door::networker::ToMonitor;
using door::networker::ToNetworker;

constexpr std::string_view kUsage =
    R"(Usage: fake-monitor --networker FILE [OPTION...]
  --uid N                 user and group of the networker (60999)
  --listen ADDRESS        numeric IPv6 or IPv4 address (::1); may be repeated, one port for all
  --port N                (0: any)
  --priority STRING       --log-level N    --tls-debug N
  --max-connections N     --max-per-source N    --grace-ms N    --penalty-ms N
  --penalty-threshold N   --exempt ADDRESS/BITS   IPv6; may be repeated
  --files N               the networker's limit on open files
  --verdict give|refuse|hold    what follows a proof (give); hold: by order
  --blob FILE             what is given ("blob")
  --part-size N           bytes of it in one message (32768)
Orders: nonce C | give C | refuse C    to connection C, whatever its state
        raw HEX                        a datagram
Lines:  port N | pid N | greeting PROBLEM | open C | proof C ADDRESS HEX | next C
        closed C DELIVERED | log LEVEL TEXT | rubbish | gone WHY | status WAITSTATUS
)";

struct Options {
  std::string networker;
  unsigned uid = 60999;
  std::vector<std::string> listen;
  std::uint16_t port = 0;
  rlim_t files = 0;
  std::string verdict = "give";
  std::string blob = "blob";
  std::size_t part_size = 32768;
  ToNetworker::Settings settings;
};

void say(const std::string& line) { std::cout << line << std::endl; }

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : as_bytes(bytes)) text += {kDigits[byte >> 4], kDigits[byte & 15]};
  return text;
}

std::string unhex(std::string_view text) {
  std::string bytes;
  for (std::size_t at = 0; at + 1 < text.size(); at += 2) {
    bytes += static_cast<char>(std::stoi(std::string(text.substr(at, 2)), nullptr, 16));
  }
  return bytes;
}

std::vector<UniqueFd> make_listeners(const Options& options) {
  std::vector<UniqueFd> listeners;
  in_port_t port = htons(options.port);
  for (const auto& text : options.listen) {
    sockaddr_in6 ipv6{};
    sockaddr_in ipv4{};
    const bool is_ipv6 = inet_pton(AF_INET6, text.c_str(), &ipv6.sin6_addr) == 1;
    if (!is_ipv6 && inet_pton(AF_INET, text.c_str(), &ipv4.sin_addr) != 1) die(text.c_str());
    ipv6.sin6_family = AF_INET6;
    ipv4.sin_family = AF_INET;
    ipv6.sin6_port = ipv4.sin_port = port;
    UniqueFd fd(socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int yes = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    auto* address =
        is_ipv6 ? reinterpret_cast<sockaddr*>(&ipv6) : reinterpret_cast<sockaddr*>(&ipv4);
    socklen_t size = is_ipv6 ? sizeof ipv6 : sizeof ipv4;
    if (bind(fd.get(), address, size) != 0 || listen(fd.get(), 4096) != 0) die(text.c_str());
    getsockname(fd.get(), address, &size);
    port = is_ipv6 ? ipv6.sin6_port : ipv4.sin_port;
    listeners.push_back(std::move(fd));
  }
  say(concat("port ", ntohs(port)));
  return listeners;
}

/// What the supervisor does between fork and exec, and one descriptor too many.
[[noreturn]] void become_networker(const Options& options, int door, int log) {
  const int program = open(options.networker.c_str(), O_PATH | O_CLOEXEC);
  if (program < 0) die(options.networker.c_str());
  provide_root();
  const int high_program = fcntl(program, F_DUPFD_CLOEXEC, 100);
  const int high_door = fcntl(door, F_DUPFD_CLOEXEC, 100);
  const int high_log = fcntl(log, F_DUPFD_CLOEXEC, 100);
  if (dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 0) < 0 || dup2(high_door, 3) < 0 ||
      dup2(high_log, 4) < 0 || dup2(0, 9) < 0) {
    die("dup2");
  }
  if (options.files > 0) {
    const rlimit limit{options.files, options.files};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  drop_to_networker(options.uid);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  char name[] = "mandos: networker";
  std::array<char*, 2> argv{name, nullptr};
  syscall(SYS_execveat, high_program, "", argv.data(), environ, AT_EMPTY_PATH);
  die(options.networker.c_str());
}

class FakeMonitor {
 public:
  FakeMonitor(EventLoop& loop, const Options& options, UniqueFd door, UniqueFd log)
      : loop_(loop),
        options_(options),
        log_(std::move(log)),
        door_(
            loop, std::move(door), {.receive = 65536, .queue = 64 << 20},
            [this](Channel::Datagram datagram) { received(datagram.bytes); },
            [this](const std::string& why) {
              say(concat("gone ", why));
              loop_.stop(0);
            }) {
    loop_.watch(log_.get(), EPOLLIN, [this](std::uint32_t) { read_log(); });
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    loop_.watch(STDIN_FILENO, EPOLLIN, [this](std::uint32_t) { read_orders(); });
  }

  void greet(const std::vector<UniqueFd>& listeners) {
    ToNetworker message;
    *message.mutable_settings() = options_.settings;
    std::vector<int> fds;
    for (const auto& listener : listeners) fds.push_back(listener.get());
    door_.send(message, fds);
  }

  void read_log() {
    std::array<char, 4096> line{};
    for (;;) {
      const ssize_t size = recv(log_.get(), line.data(), line.size(), MSG_DONTWAIT);
      if (size == 0) loop_.unwatch(log_.get());
      if (size <= 0) return;
      say(concat("log ", line[0], " ",
                 std::string_view(line.data() + 1, static_cast<std::size_t>(size) - 1)));
    }
  }

 private:
  void received(std::string_view bytes) {
    const auto messages = messages_of(bytes);
    if (!messages || messages->empty()) return say("rubbish");
    for (const auto& message : *messages) received(message);
  }

  void received(const ToMonitor& message) {
    const std::uint32_t connection = message.connection();
    switch (message.message_case()) {
      case ToMonitor::kGreeting:
        return say(concat("greeting ", message.greeting().problem()));
      case ToMonitor::kOpen:
        say(concat("open ", connection));
        return give_nonce(connection);
      case ToMonitor::kProof:
        say(concat("proof ", connection, " ", message.proof().address(), " ",
                   hex(message.proof().transcript())));
        if (options_.verdict == "give") give(connection);
        if (options_.verdict == "refuse") refuse(connection);
        return;
      case ToMonitor::kNextPart:
        say(concat("next ", connection));
        return give(connection);
      case ToMonitor::kClosed:
        given_.erase(connection);
        return say(concat("closed ", connection, " ", int{message.closed().delivered()}));
      default:
        say("rubbish");
    }
  }

  void give_nonce(std::uint32_t connection) {
    std::array<char, 32> nonce{};
    if (getrandom(nonce.data(), nonce.size(), 0) != ssize_t{nonce.size()}) die("getrandom");
    ToNetworker message;
    message.set_connection(connection);
    message.mutable_nonce()->set_nonce(nonce.data(), nonce.size());
    door_.send(message);
  }

  void give(std::uint32_t connection) {
    std::size_t& given = given_[connection];
    const std::size_t size = std::min(options_.part_size, options_.blob.size() - given);
    ToNetworker message;
    message.set_connection(connection);
    message.mutable_part()->set_last(given + size == options_.blob.size());
    message.set_blob(options_.blob.data() + given, size);
    given += size;
    door_.send(message);
  }

  void refuse(std::uint32_t connection) {
    ToNetworker message;
    message.set_connection(connection);
    message.mutable_refused();
    door_.send(message);
  }

  void read_orders() {
    std::array<char, 65536> some{};
    const ssize_t size = read(STDIN_FILENO, some.data(), some.size());
    if (size <= 0) return loop_.stop(0);
    orders_.append(some.data(), static_cast<std::size_t>(size));
    for (auto end = orders_.find('\n'); end != std::string::npos; end = orders_.find('\n')) {
      std::istringstream order(orders_.substr(0, end));
      orders_.erase(0, end + 1);
      std::string verb;
      std::string argument;
      order >> verb >> argument;
      std::uint32_t connection = 0;
      if (verb == "raw") {
        // As a message of any kind: an unknown one keeps its bytes.
        ToNetworker message;
        if (message.ParseFromString(unhex(argument))) door_.send(message);
      } else if (!parse_number(argument, connection)) {
        std::cerr << "fake-monitor: no such order\n";
      } else if (verb == "nonce") {
        give_nonce(connection);
      } else if (verb == "give") {
        give(connection);
      } else if (verb == "refuse") {
        refuse(connection);
      }
    }
  }

  EventLoop& loop_;
  const Options& options_;
  UniqueFd log_;
  Door door_;
  std::string orders_;
  std::map<std::uint32_t, std::size_t> given_;
};

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  auto& settings = options.settings;
  settings.set_priority(
      "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA");
  settings.set_log_level(7);
  settings.set_max_connections(1000);
  settings.set_max_per_source(1000);
  settings.set_login_grace_ms(10000);
  settings.set_penalty_threshold(20);
  const std::vector<option> known{
      {"networker", 1, nullptr, 'n'},      {"uid", 1, nullptr, 'u'},
      {"listen", 1, nullptr, 'l'},         {"port", 1, nullptr, 'p'},
      {"priority", 1, nullptr, 'P'},       {"log-level", 1, nullptr, 'L'},
      {"tls-debug", 1, nullptr, 'T'},      {"max-connections", 1, nullptr, 'c'},
      {"max-per-source", 1, nullptr, 's'}, {"grace-ms", 1, nullptr, 'g'},
      {"penalty-ms", 1, nullptr, 'y'},     {"files", 1, nullptr, 'f'},
      {"verdict", 1, nullptr, 'v'},        {"blob", 1, nullptr, 'b'},
      {"part-size", 1, nullptr, 'z'},      {"penalty-threshold", 1, nullptr, 't'},
      {"exempt", 1, nullptr, 'x'},         {}};
  const auto number = [] { return static_cast<std::uint32_t>(std::stoul(optarg)); };
  for (int c = 0; (c = getopt_long(argc, argv, "", known.data(), nullptr)) != -1;) {
    switch (c) {
      case 'n':
        options.networker = optarg;
        break;
      case 'u':
        options.uid = number();
        break;
      case 'l':
        options.listen.emplace_back(optarg);
        break;
      case 'p':
        options.port = static_cast<std::uint16_t>(number());
        break;
      case 'P':
        settings.set_priority(optarg);
        break;
      case 'L':
        settings.set_log_level(number());
        break;
      case 'T':
        settings.set_tls_debug_level(number());
        break;
      case 'c':
        settings.set_max_connections(number());
        break;
      case 's':
        settings.set_max_per_source(number());
        break;
      case 'g':
        settings.set_login_grace_ms(number());
        break;
      case 'y':
        settings.set_penalty_ms(number());
        break;
      case 't':
        settings.set_penalty_threshold(number());
        break;
      case 'x':
        settings.set_penalty_exempt(concat(settings.penalty_exempt(), " ", optarg));
        break;
      case 'f':
        options.files = number();
        break;
      case 'v':
        options.verdict = optarg;
        break;
      case 'z':
        options.part_size = number();
        break;
      case 'b': {
        std::ifstream file(optarg, std::ios::binary);
        options.blob.assign(std::istreambuf_iterator<char>(file), {});
        break;
      }
      default:
        return std::nullopt;
    }
  }
  if (options.listen.empty()) options.listen.emplace_back("::1");
  if (options.networker.empty() || optind != argc) return std::nullopt;
  return options;
}

int run(int argc, char** argv) {
  const auto options = parse(argc, argv);
  if (!options) {
    std::cerr << kUsage;
    return 2;
  }
  const auto listeners = make_listeners(*options);
  auto door = make_door();
  auto log = make_door();
  if (!door || !log) die("socketpair");
  const pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) become_networker(*options, door->second.get(), log->second.get());
  door->second.reset();
  log->second.reset();
  say(concat("pid ", pid));
  {
    EventLoop loop;
    FakeMonitor monitor(loop, *options, std::move(door->first), std::move(log->first));
    monitor.greet(listeners);
    loop.run();
    monitor.read_log();
  }
  // The door is closed now; a networker that stays is a fault.
  int status = 0;
  for (int tenths = 0; waitpid(pid, &status, WNOHANG) == 0; ++tenths) {
    if (tenths == 50) kill(pid, SIGKILL);
    usleep(100000);
  }
  say(concat("status ", status));
  return 0;
}

}  // namespace
}  // namespace mandos::test

int main(int argc, char** argv) { return mandos::test::run(argc, argv); }
