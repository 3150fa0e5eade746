// SPDX-License-Identifier: GPL-3.0-or-later
// The process that reads the network: jailed before the first byte, knows no secret until it is
// handed one for a peer that has proved its key.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>

#include "common/descriptors.h"
#include "common/event_loop.h"
#include "common/inspection.h"
#include "common/log.h"
#include "networker/crash_note.h"
#include "networker/exemptions.h"
#include "networker/jail.h"
#include "networker/networker.h"
#include "networker/tls.h"

namespace {

using namespace mandos;
using namespace mandos::networker;

int run() {
  int type = 0;
  socklen_t size = sizeof type;
  if (getsockopt(kDoorFd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
    static_cast<void>(std::fputs("This program is started by mandos, not by hand.\n", stderr));
    return 2;
  }
  Log log = Log::to_socket(kLogFd, LogLevel::kInfo);
  if (!close_descriptors(kLogFd + 1)) {
    log.critical("descriptors that it inherited cannot be closed");
    return 1;
  }
  if (const Status warm = Tls::warm_up(); !warm) {
    log.critical(warm.error());
    return 1;
  }
  CrashNote crash_note(STDIN_FILENO);
  if (UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC)); dup2(null.get(), STDIN_FILENO) < 0) {
    log.critical(errno_error(errno, "/dev/null").text);
    return 1;
  }
  if (!crash_note.kept())
    log.warning("no memory that outlives this process: whom it dies of will not be refused");
  EventLoop loop;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const auto report = jail::enter(networker_jail(loop.timer_fd(), files.rlim_max));
  if (!report) {
    log.critical("jail: ", report.error());
    return 1;
  }
  log.info("jail: ", *report);
  Networker networker(loop, log, UniqueFd(kDoorFd), files.rlim_max, crash_note);
  return loop.run();
}

}  // namespace

int main(int argc, char** argv) {
  // For `mandos --check`: whether a priority string and exempt networks could be used. Nothing is
  // served.
  if (argc == 6 && std::string_view(argv[1]) == "--judge-settings") {
    const auto tls = Tls::make(argv[2]);
    const auto exempt = Exemptions::parse(argv[4]);
    constexpr const char* kBad = inspection::kBad;
    // As the monitor shows the same at a start.
    const auto shown = [](const char* place, const std::string& error) {
      return escaped(concat(place, error), 800);
    };
    if (!tls) std::printf("%s%s\n", kBad, shown(argv[3], tls.error()).c_str());
    if (!exempt) std::printf("%s%s\n", kBad, shown(argv[5], exempt.error()).c_str());
    return tls && exempt ? 0 : 1;
  }
  // Not exit(): the libraries' own clean-up would need system calls that are gone.
  _exit(run());
}
