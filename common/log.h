// SPDX-License-Identifier: GPL-3.0-or-later
// Log lines. The supervisor and the monitor write to syslog and standard error. Every other process
// sends its lines over its log socket to the monitor, which bounds, escapes and labels them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/text.h"
#include "common/unique_fd.h"

namespace mandos {

/// In the order and with the names of --debuglevel; the numbers are syslog's (RFC 5424 table 2).
enum class LogLevel { kCritical = 2, kError = 3, kWarning = 4, kInfo = 6, kDebug = 7 };

/// Longest line that leaves a process, in bytes; longer ones are cut.
inline constexpr std::size_t kMaxLogLine = 1024;

class Log {
 public:
  /// For a child: each line is one datagram on `log_socket`, which begins with the level's digit.
  /// Never blocks. Lines that do not fit are counted, and the count is sent once there is room.
  static Log to_socket(int log_socket, LogLevel level);
  /// For supervisor and monitor: to the syslog socket, which may appear, vanish and be restarted at
  /// any time, and with `to_stderr` also to standard error. If standard error is the journal
  /// (JOURNAL_STREAM, systemd.exec(5)), a line goes only there, or to the socket if that is full.
  /// Waits for a slow syslog daemon, up to a tenth of a second per line and a second in about ten.
  /// After that, lines are counted as above, until the daemon accepts one. Lines that standard
  /// error does not accept at once are counted, too; see never_wait_for().
  static Log to_system(std::string_view tag, LogLevel level, bool to_stderr);

  LogLevel level() const { return level_; }
  void set_level(LogLevel level) { level_ = level; }
  void set_stderr(bool to_stderr) { to_stderr_ = to_stderr; }
  /// Whether a process that inherits our standard error could forge our lines in the journal.
  bool on_journal_stream() const { return to_stderr_ && stderr_is_journal_; }

  /// One line. The caller must escape bytes that are not printable ASCII or UTF-8: see escaped().
  void write(LogLevel level, std::string_view line);
  template <class... Parts>
  void critical(const Parts&... parts) {
    write_if(LogLevel::kCritical, parts...);
  }
  template <class... Parts>
  void error(const Parts&... parts) {
    write_if(LogLevel::kError, parts...);
  }
  template <class... Parts>
  void warning(const Parts&... parts) {
    write_if(LogLevel::kWarning, parts...);
  }
  template <class... Parts>
  void info(const Parts&... parts) {
    write_if(LogLevel::kInfo, parts...);
  }
  template <class... Parts>
  void debug(const Parts&... parts) {
    write_if(LogLevel::kDebug, parts...);
  }

 private:
  template <class... Parts>
  void write_if(LogLevel level, const Parts&... parts) {
    if (level <= level_) write(level, concat(parts...));
  }

  /// False: it is lost.
  bool deliver(LogLevel level, std::string_view line);

  LogLevel level_ = LogLevel::kWarning;
  UniqueFd owned_;       // the syslog socket, of to_system()
  int log_socket_ = -1;  // of to_socket()
  std::string tag_;      // of a line for syslog or a terminal
  std::string label_;    // of a line for the journal
  bool to_stderr_ = false;
  bool stderr_is_journal_ = false;
  unsigned long lost_ = 0;
  unsigned long unshown_ = 0;  // on standard error
  Instant patient_again_{};    // ten times what was waited for syslog, one wait after the other
};

}  // namespace mandos
