// SPDX-License-Identifier: GPL-3.0-or-later
// The process that reads the network: it is jailed before the first byte, and has no secret until
// it gets one for a peer that has proved its key.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "common/child.h"
#include "common/event_loop.h"
#include "common/inspection.h"
#include "networker/crash_note.h"
#include "networker/exemptions.h"
#include "networker/jail.h"
#include "networker/networker.h"
#include "networker/tls.h"

namespace {

using namespace mandos;
using namespace mandos::networker;

int serve(Child& child) {
  if (const Status warm = Tls::warm_up(); !warm) {
    child.log.critical(warm.error());
    return EXIT_FAILURE;
  }
  CrashNote crash_note(kMemoryFd);
  if (UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC)); dup2(null.get(), kMemoryFd) < 0) {
    child.log.critical(errno_error(errno, "/dev/null").text);
    return EXIT_FAILURE;
  }
  if (!crash_note.kept()) {
    child.log.warning(
        "no crash note: a peer that crashes this process will not be refused afterwards");
  }
  EventLoop loop;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  if (!child.enter(networker_jail(loop.timer_fd(), files.rlim_max))) return EXIT_FAILURE;
  const auto max_files = static_cast<std::size_t>(std::min<rlim_t>(files.rlim_max, SIZE_MAX));
  Networker networker(loop, child.log, std::move(child.door), max_files, crash_note);
  return loop.run();
}

}  // namespace

int main(int argc, char** argv) {
  // For `mandos --check`: whether a priority string and exempt networks are valid. Nothing is
  // served.
  if (argc == 6 && std::string_view(argv[1]) == "--judge-settings") {
    const auto tls = Tls::make(argv[2]);
    const auto exempt = Exemptions::parse(argv[4]);
    constexpr const char* kBad = inspection::kBad;
    // In the same form as the monitor uses at a start.
    const auto shown = [](const char* place, const std::string& error) {
      return escaped(concat(place, error), 800);
    };
    if (!tls) std::printf("%s%s\n", kBad, shown(argv[3], tls.error()).c_str());
    if (!exempt) std::printf("%s%s\n", kBad, shown(argv[5], exempt.error()).c_str());
    return tls && exempt ? 0 : 1;
  }
  live(serve);
}
