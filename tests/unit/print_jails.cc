// SPDX-License-Identifier: GPL-3.0-or-later
// Prints what the five jails are made of, one table row per line, as SECURITY.md has them: process,
// layer, names. A star: only with certain arguments. Then the system calls of each operation. For
// security_tables_test.py.
#include <cap-ng.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "bus-agent/jail.h"
#include "checker-runner/jail.h"
#include "monitor/jail.h"
#include "networker/jail.h"
#include "supervisor/jail.h"

namespace {

using namespace mandos;

std::string name_of(int number) {
  char* text = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
  const std::string name = text == nullptr ? "?" : text;
  std::free(text);
  return name;
}
std::string name_of(const jail::SyscallRule& rule) {
  return rule.arguments.empty() ? name_of(rule.number) : name_of(rule.number) + "*";
}

void print(const char* process, const char* layer, const std::set<std::string>& names) {
  std::string row;
  for (const auto& name : names) row += (row.empty() ? "" : ", ") + name;
  std::printf("| %s | %s | %s |\n", process, layer, row.empty() ? "none" : row.c_str());
}

void print(const char* process, const jail::Jail& jail) {
  static const std::map<int, std::string> kLimits = {
      {RLIMIT_NOFILE, "open files"}, {RLIMIT_NPROC, "processes"}, {RLIMIT_FSIZE, "file size"}};
  std::set<std::string> capabilities;
  std::set<std::string> limits = {"core size"};
  std::set<std::string> allowed;
  std::set<std::string> refused;
  for (const unsigned each : jail.capabilities) {
    capabilities.insert(capng_capability_to_name(each));
  }
  for (const auto& [limit, most] : jail.limits) limits.insert(kLimits.at(limit));
  for (const auto& rule : jail.filter.allowed) allowed.insert(name_of(rule));
  for (const auto& rule : jail.filter.refused) refused.insert(name_of(rule));
  print(process, "capabilities", capabilities);
  print(process, "limits", limits);
  print(process, "calls, allowed",
        jail.filter.allow_list ? allowed : std::set<std::string>{"others"});
  print(process, "calls, refused", refused);
}

}  // namespace

int main() {
  print("supervisor", supervisor::supervisor_jail());
  print("monitor", monitor::monitor_jail({}, {}));
  print("networker", networker::networker_jail(5, 1024));
  print("checker-runner", checker_runner::checker_jail());
  print("bus-agent", bus_agent::bus_agent_jail());
  for (const auto& operation : jail::operations()) {
    std::string calls;
    for (const auto& call : operation.calls) {
      calls += (calls.empty() ? "" : ", ") + name_of(call.number);
    }
    std::printf("operation | %s | %s\n", name_of(operation.named).c_str(), calls.c_str());
  }
}
