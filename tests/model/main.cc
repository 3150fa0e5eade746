// SPDX-License-Identifier: GPL-3.0-or-later
// A model checker over the monitor's own code: every order of a small alphabet of events, breadth
// first, so that the first counterexample is among the shortest. A state is reached again by
// replaying the events that led to it; two states with the same hash are one. Memory is bounded by
// kMostStates: about 2 GiB.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <memory>
#include <unordered_set>
#include <vector>

#include "tests/model/world.h"

namespace mandos::model {
namespace {

constexpr std::size_t kMostStates = 30'000'000;

struct Node {
  std::uint32_t parent;
  Happening event;
};

std::vector<Happening> path;  // of the world at hand

void print_path() {
  for (std::size_t i = 0; i < path.size(); ++i) {
    std::fprintf(stderr, "%3zu. %s\n", i + 1, World::text(path[i]).c_str());
  }
}

/// An assertion of a library failed in the monitor's code.
void on_abort(int) {
  std::fputs("the monitor aborts after these events:\n", stderr);
  print_path();
  std::_Exit(1);
}

double seconds() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

/// Every state that so many events lead to. False: a counterexample was printed.
bool explore(const Scene& scene, int depth, double until) {
  std::vector<Node> nodes;
  std::unordered_set<std::uint64_t> seen;
  std::size_t transitions = 0;
  nodes.push_back({0, {}});
  seen.insert(World(scene).hash());
  std::size_t level_end = 1;  // of the level that is being expanded
  int level = 0;
  bool whole = true;
  for (std::size_t at = 0; at < nodes.size(); ++at) {
    if (at == level_end) {
      level_end = nodes.size();
      ++level;
    }
    if (level == depth) break;
    if (nodes.size() >= kMostStates || seconds() > until) {
      whole = false;
      break;
    }
    std::vector<Happening> prefix;
    for (std::size_t node = at; node != 0; node = nodes[node].parent) {
      prefix.insert(prefix.begin(), nodes[node].event);
    }
    auto world = std::make_unique<World>(scene);
    path.clear();
    const auto replay = [&] {
      for (const auto& event : prefix) {
        path.push_back(event);
        world->happen(event);
      }
    };
    replay();
    const auto possible = world->possible();
    for (std::size_t i = 0; i < possible.size(); ++i) {
      if (i > 0) {
        world.reset();  // only one at a time has the clock
        world = std::make_unique<World>(scene);
        path.clear();
        replay();
      }
      path.push_back(possible[i]);
      ++transitions;
      if (!world->happen(possible[i])) {
        std::cerr << scene.name << ": " << world->problem() << ", after these events:\n";
        print_path();
        return false;
      }
      if (seen.insert(world->hash()).second) {
        nodes.push_back({static_cast<std::uint32_t>(at), possible[i]});
      }
    }
  }
  std::cout << scene.name << ": " << nodes.size() << " states, " << transitions
            << " transitions, all orders of up to " << level << " events"
            << (whole ? "" : " (and some longer ones: out of time or memory)") << std::endl;
  return true;
}

int run(int depth, double minutes) {
  using enum What;
  const std::vector<What> checkers = {kCheckerOk, kCheckerFailed, kCheckerNotStarted, kRunnerDies};
  const std::vector<What> disk = {kDiskFinishes, kDiskFails, kDiskFailsLate, kRestartLate,
                                  kBusAgentDies};
  auto quick = checkers;
  quick.insert(quick.end(), disk.begin(), disk.end());
  // These have scenes of their own.
  const std::vector<What> rare = {kStop, kStartWithout, kSet, kOutOfTurn};
  quick.insert(quick.end(), rare.begin(), rare.end());
  const auto all_but = [](std::vector<What> left_out) {
    std::vector<What> without;
    for (auto i = 0; i <= static_cast<int>(kOutOfTurn); ++i) {
      const auto what = static_cast<What>(i);
      if (std::ranges::find(left_out, what) == left_out.end()) without.push_back(what);
    }
    return without;
  };
  const std::vector<What> settings = all_but({kOpen, kProof, kNextPart, kSet, kApprove, kTimePasses,
                                              kDue, kReload, kRestart, kStop, kDiskFinishes});
  const std::vector<What> liar = all_but(
      {kOpen, kProof, kNextPart, kClosed, kOutOfTurn, kApprove, kDisable, kTimePasses, kDue});
  const std::vector<What> files = all_but({kDisable, kEnable, kRemove, kReload, kDiskFinishes,
                                           kTimePasses, kDue, kRestart, kStop, kStartWithout});
  auto open_and_rare = rare;
  open_and_rare.push_back(kOpen);
  const Milliseconds wait = std::chrono::seconds(10);
  const std::array<Scene, 9> scenes = {{
      {"everything, one client", 1, 1, wait, true, false, rare, 5},
      {"set on the bus", 1, 1, Milliseconds(0), true, false, settings, 5},
      {"a networker that lies", 1, 2, wait, true, true, liar, 6},
      {"DEFAULT, and sections that are missing", 1, 1, wait, true, false, files, 6, true},
      {"two connections, approved by default", 1, 2, wait, true, false, quick, 5},
      {"two connections, denied by default", 1, 2, wait, false, false, quick, 5},
      {"secrets in two parts", 1, 2, Milliseconds(0), true, true, quick, 5},
      {"two clients", 2, 2, wait, true, false, quick, 4},
      {"checkers and the disk", 1, 1, Milliseconds(0), true, false, open_and_rare, 5},
  }};
  const double start = seconds();
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    const auto& scene = scenes.at(i);
    const double share = minutes * 60 / static_cast<double>(scenes.size());
    const double until = minutes > 0 ? start + share * static_cast<double>(i + 1) : 1e18;
    if (!explore(scene, depth > 0 ? depth : scene.depth, until)) return 1;
  }
  std::cout << "nothing found in " << static_cast<int>(seconds() - start) << " s\n";
  return 0;
}

}  // namespace
}  // namespace mandos::model

int main(int argc, char** argv) {
  int depth = 0;
  double minutes = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--depth") == 0) depth = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--minutes") == 0) minutes = std::atof(argv[i + 1]);
  }
  if (argc % 2 == 0 || (argc > 1 && depth == 0 && minutes == 0)) {
    std::cerr << "Usage: model [--depth EVENTS] [--minutes MINUTES]\n";
    return 2;
  }
  std::signal(SIGABRT, mandos::model::on_abort);
  return mandos::model::run(depth, minutes);
}
