// SPDX-License-Identifier: GPL-3.0-or-later
// In a development build a refused call names itself. Needs root.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <vector>

#include "monitor/jail.h"
#include "networker/jail.h"
#include "tests/support/as_networker.h"

namespace mandos {
namespace {

constexpr uid_t kUser = 60999;

void call_inside(const jail::Jail& jail, const std::vector<unsigned>* dropped_to) {
  if (dropped_to != nullptr) test::drop_to(kUser, *dropped_to);
  if (const auto entered = jail::enter(jail); !entered) test::die(entered.error().c_str());
  syscall(SYS_getpriority, 0, 0);
  _exit(0);
}

TEST(JailTrap, NamesTheCallInTheMonitor) {
  EXPECT_EXIT(call_inside(monitor::monitor_jail({}, {}), nullptr),
              testing::ExitedWithCode(128 + SIGSYS), "refused call getpriority \\([0-9]+\\)");
}

TEST(JailTrap, NamesTheCallInTheNetworkerThatMayNotWriteAtAll) {
  const std::vector<unsigned> capabilities = {CAP_SETPCAP, CAP_SYS_CHROOT};
  test::provide_root();
  EXPECT_EXIT(call_inside(networker::networker_jail(5, 64), &capabilities),
              testing::ExitedWithCode(128 + SIGSYS), "refused call getpriority \\([0-9]+\\)");
}

}  // namespace
}  // namespace mandos
