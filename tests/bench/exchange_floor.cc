// SPDX-License-Identifier: GPL-3.0-or-later
// exchange-floor COUNT HALF VERIFICATION: what the kernel takes for a served connection, whoever
// serves it: COUNT connections, one at a time, that cross the same sockets with as many messages as
// long between two processes without capabilities, jail, TLS or protobuf. For what is computed in
// between they only keep the processor busy, so that it sleeps and wakes as often: HALF
// microseconds the one that speaks to the client, and VERIFICATION the other. Prints the CPU of
// both for one connection in microseconds, less that.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>
#include <utility>

#include "common/text.h"

namespace {

// Bytes of what crosses the sockets of a connection with a blob of 1 KiB. With the proof go the end
// of the connection before and the wish for the next one's nonce.
constexpr std::size_t kVersionLine = 3, kHello = 239, kFlight = 403, kFinished = 64, kRecord = 1070;
constexpr std::size_t kProof = 555, kPart = 1036, kNonce = 41;
constexpr std::size_t kAuditLine = 169;

std::array<char, 4096> buffer{};

void require(bool truth, const char* what) {
  if (truth) return;
  std::perror(what);
  std::_Exit(1);
}

double now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

/// Keeps the processor busy for that many microseconds of this process.
void work(double microseconds) {
  const double end = now(CLOCK_PROCESS_CPUTIME_ID) + microseconds;
  while (now(CLOCK_PROCESS_CPUTIME_ID) < end) {
  }
}

void say(int fd, std::size_t size, int flags = 0) {
  require(send(fd, buffer.data(), size, flags | MSG_NOSIGNAL) == static_cast<ssize_t>(size),
          "send");
}

/// The size of what came; 0 at the end.
std::size_t hear(int fd) {
  const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
  require(size >= 0, "recv");
  return static_cast<std::size_t>(size);
}

class Events {
 public:
  void watch(int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    require(epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
  }
  void unwatch(int fd) { epoll_ctl(fd_, EPOLL_CTL_DEL, fd, nullptr); }
  int next() {
    epoll_event event{};
    require(epoll_wait(fd_, &event, 1, -1) == 1, "epoll_wait");
    return event.data.fd;
  }

 private:
  int fd_ = epoll_create1(EPOLL_CLOEXEC);
};

/// In the networker's place, until the other end of `door` is gone with its work.
void front(int listener, int door, double half, int count) {
  Events events;
  events.watch(listener);
  events.watch(door);
  int peer = -1;
  for (int served = 0; served < count;) {
    const int fd = events.next();
    if (fd == listener) {
      peer = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      require(peer >= 0, "accept4");
      events.watch(peer);
      require(hear(peer) == kVersionLine, "a version line");
      work(half / 3);
      say(peer, kHello);
    } else if (fd == door) {
      require(hear(door) == kPart, "a part");
      say(peer, kRecord);
      events.unwatch(peer);
      close(std::exchange(peer, -1));
      require(hear(door) == kNonce, "a nonce");
      ++served;
    } else {
      require(hear(peer) == kFlight, "a flight");
      work(half * 2 / 3);
      say(peer, kFinished, MSG_MORE);
      say(door, kProof);
    }
  }
}

/// In the monitor's place.
void back(int door, int log, double verification, int count) {
  Events events;
  events.watch(door);
  std::FILE* const file = std::tmpfile();
  require(file != nullptr, "tmpfile");
  for (int served = 0; served < count; ++served) {
    events.next();
    require(hear(door) == kProof, "a proof");
    work(verification);
    say(log, kAuditLine);
    require(write(fileno(file), buffer.data(), kAuditLine) == ssize_t{kAuditLine}, "write");
    say(door, kPart);
    say(door, kNonce);
  }
}

void client(const sockaddr_in& address, double half) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  require(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "connect");
  say(fd, kVersionLine);
  require(hear(fd) == kHello, "a ClientHello");
  work(half);
  say(fd, kFlight);
  while (hear(fd) != 0) {
  }
  close(fd);
}

template <class Role>
pid_t start(Role role) {
  const pid_t pid = fork();
  require(pid >= 0, "fork");
  if (pid > 0) return pid;
  role();
  std::_Exit(0);
}

/// Microseconds of CPU of a process that has ended well.
double spent(pid_t pid) {
  rusage usage{};
  int status = 0;
  require(wait4(pid, &status, 0, &usage) == pid && status == 0, "a process");
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  const double half = argc == 4 ? std::atof(argv[2]) : 0;
  const double verification = argc == 4 ? std::atof(argv[3]) : 0;
  if (argc != 4 || !mandos::parse_number(std::string_view(argv[1]), count) || count <= 0 ||
      half <= 0 || verification <= 0) {
    std::fputs("Usage: exchange-floor COUNT HALF VERIFICATION\n", stderr);
    return 2;
  }
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  require(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "bind");
  require(listen(listener, 16) == 0, "listen");
  require(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
  const int yes = 1;
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  std::array<int, 2> door{};
  std::array<int, 2> log{};
  require(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, door.data()) == 0, "socketpair");
  require(socketpair(AF_UNIX, SOCK_DGRAM, 0, log.data()) == 0, "socketpair");

  const pid_t reader = start([&] {
    for (int i = 0; i < count; ++i) hear(log[1]);
  });
  const pid_t serving = start([&] { front(listener, door[0], half, count); });
  const pid_t deciding = start([&] { back(door[1], log[0], verification, count); });
  for (int i = 0; i < count; ++i) client(address, half);
  const double all = spent(serving) + spent(deciding);
  spent(reader);
  std::printf("%.2f\n", all / count - half - verification);
}
