// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/log.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "config.h"

namespace mandos {
namespace {

constexpr int kSyslogDaemonFacility = 3 << 3;
constexpr sockaddr_un kSyslogSocket{AF_UNIX, MANDOS_SYSLOG_SOCKET};
// Its queue is short (net.unix.max_dgram_qlen): it is full while the daemon is only busy, too. So
// long a line waits for it.
constexpr timeval kSyslogPatience{.tv_sec = 0, .tv_usec = 100'000};
// All lines together wait a tenth of the time, and may do so for so long ahead.
constexpr std::chrono::seconds kMostWaited{10};

/// Whether standard error leads to the journal (JOURNAL_STREAM, systemd.exec(5)).
bool stderr_is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat status {};
  return stream != nullptr && fstat(STDERR_FILENO, &status) == 0 &&
         concat(status.st_dev, ":", status.st_ino) == stream;
}

}  // namespace

Log Log::to_socket(int log_socket, LogLevel level) {
  Log log;
  log.log_socket_ = log_socket;
  log.level_ = level;
  return log;
}

Log Log::to_system(std::string_view tag, LogLevel level, bool to_stderr) {
  Log log;
  // Not connected: a syslog daemon that is restarted makes a new socket under the same name.
  log.owned_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  setsockopt(log.owned_.get(), SOL_SOCKET, SO_SNDTIMEO, &kSyslogPatience, sizeof kSyslogPatience);
  log.tag_ = concat(tag, "[", getpid(), "]: ");
  // The journal names the program that the unit starts by itself.
  if (tag != "mandos") log.label_ = concat(tag, ": ");
  log.level_ = level;
  log.to_stderr_ = to_stderr;
  // What a process said just before its end can be told to be its unit's only by this way: of a
  // datagram on the syslog socket the journal knows a process number, which may be gone already.
  log.stderr_is_journal_ = stderr_is_journal();
  return log;
}

void Log::write(LogLevel level, std::string_view line) {
  line = line.substr(0, kMaxLogLine);
  if (lost_ > 0 && deliver(LogLevel::kWarning, concat(lost_, " log lines were lost"))) lost_ = 0;
  if (lost_ > 0 || !deliver(level, line)) ++lost_;
  if (to_stderr_ && !stderr_is_journal_) {
    const auto show = [this](std::string_view what) {
      const std::string text = concat(tag_, what, "\n");
      return ::write(STDERR_FILENO, text.data(), text.size()) >= 0;
    };
    if (unshown_ > 0 && show(concat(unshown_, " log lines were lost"))) unshown_ = 0;
    if (unshown_ > 0 || !show(line)) ++unshown_;
  }
}

bool Log::deliver(LogLevel level, std::string_view line) {
  if (log_socket_ >= 0) {
    const std::string datagram = concat(static_cast<int>(level), line);
    return send(log_socket_, datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
  }
  if (on_journal_stream()) {
    // The level is read from the line (sd-daemon(3)). A journal that does not read stops nobody.
    const std::string text = concat("<", static_cast<int>(level), ">", label_, line, "\n");
    if (send(STDERR_FILENO, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
      return true;
  }
  const std::string datagram =
      concat("<", kSyslogDaemonFacility | static_cast<int>(level), ">", tag_, line);
  const auto to_syslog = [&](int flags) {
    return sendto(owned_.get(), datagram.data(), datagram.size(), MSG_NOSIGNAL | flags,
                  reinterpret_cast<const sockaddr*>(&kSyslogSocket), sizeof kSyslogSocket) >= 0;
  };
  if (to_syslog(MSG_DONTWAIT)) return true;
  // One that hangs is waited for once, not at each line.
  const Instant now = BootClock::now();
  if (errno != EAGAIN || lost_ > 0 || patient_again_ > now + kMostWaited) return false;
  const bool taken = to_syslog(0);
  patient_again_ = std::max(patient_again_, now) + 10 * (BootClock::now() - now);
  return taken;
}

}  // namespace mandos
