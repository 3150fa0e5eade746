// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/log_inlet.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace mandos::monitor {
namespace {

constexpr int kLinesPerRound = 16;

}  // namespace

LogInlet::LogInlet(EventLoop& loop, UniqueFd log_socket, std::string label, Log& log,
                   std::function<void(const std::string& why)> on_broken)
    : loop_(loop),
      socket_(std::move(log_socket)),
      label_(std::move(label)),
      log_(log),
      on_broken_(std::move(on_broken)) {
  loop_.watch(socket_.get(), EPOLLIN, [this](std::uint32_t) { ready(); });
}

LogInlet::~LogInlet() { loop_.unwatch(socket_.get()); }

void LogInlet::ready() {
  std::array<char, kMaxLogLine + 1> line{};
  for (int i = 0; i < kLinesPerRound; ++i) {
    iovec part{line.data(), line.size()};
    msghdr header{.msg_name = nullptr,
                  .msg_namelen = 0,
                  .msg_iov = &part,
                  .msg_iovlen = 1,
                  .msg_control = nullptr,
                  .msg_controllen = 0,
                  .msg_flags = 0};
    const ssize_t size = recvmsg(socket_.get(), &header, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return;
    // Receiving one takes as long as its close, which the sender chooses: never receive a second.
    const bool descriptors = (header.msg_flags & MSG_CTRUNC) != 0;
    if (descriptors) on_broken_("descriptors with a log line");
    // The process ended, or this is not a log line; the process's door reports what happened.
    if (size <= 0 || descriptors) return loop_.unwatch(socket_.get());
    if (!rate_.take(BootClock::now())) {
      ++suppressed_;
      continue;
    }
    if (suppressed_ > 0) {
      log_.warning(label_, std::exchange(suppressed_, 0), " log lines were suppressed");
    }
    const int digit = line[0] - '0';
    const LogLevel level = digit >= static_cast<int>(LogLevel::kCritical) &&
                                   digit <= static_cast<int>(LogLevel::kDebug)
                               ? static_cast<LogLevel>(digit)
                               : LogLevel::kWarning;
    if (level > log_.level()) continue;
    log_.write(level, label_ + escaped({line.data() + 1, static_cast<std::size_t>(size) - 1},
                                       kMaxLogLine - 64));
  }
}

}  // namespace mandos::monitor
