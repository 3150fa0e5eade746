// SPDX-License-Identifier: GPL-3.0-or-later
// Any datagrams as a process's log lines: what comes out is labelled, printable, bounded in length
// and number, and of a level that a process may use. An input is a sequence of datagrams: length (2
// bytes), how often (1), bytes.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "monitor/log_inlet.h"
#include "tests/fuzz/peer.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;

// monitor/log_inlet.h.
constexpr std::size_t kLinesAtOnce = 500;
constexpr std::size_t kLinesPerSecond = 50;
constexpr std::size_t kMostDatagrams = 2000;
constexpr std::string_view kLabel = "child: ";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  auto in = make_door();
  auto out = make_door();
  require(in && out, "socketpair");
  EventLoop loop;
  Log log = Log::to_socket(out->second.get(), LogLevel::kInfo);
  std::optional<monitor::LogInlet> inlet;
  inlet.emplace(loop, std::move(in->first), std::string(kLabel), log, [](const std::string&) {});
  Peer child(std::move(in->second));
  Peer reader(std::move(out->first));
  const Instant start = BootClock::now();
  std::size_t lines = 0;
  std::size_t datagrams = 0;
  while (!input.empty() && datagrams < kMostDatagrams) {
    const std::string line(input.sized(2));
    const unsigned times = input.byte() + 1U;
    for (unsigned i = 0; i < times && ++datagrams < kMostDatagrams; ++i) {
      child.send(line);
      loop.run_once(Milliseconds(0));
      reader.receive([&](std::string_view told) {
        ++lines;
        require(told.size() <= kMaxLogLine + 1, "a line is short");
        const char level = told[0];
        require(level >= '2' && level <= '6', "a level is one of a process, and of interest");
        require(told.substr(1).starts_with(kLabel) || told.find("lost") != told.npos,
                "a line is labelled", told);
        require(std::ranges::all_of(told, [](char c) { return c >= ' ' && c <= '~'; }),
                "a line is printable");
      });
    }
  }
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(BootClock::now() - start).count();
  // And how many were suppressed may be told once for each that passes.
  require(lines <= 2 * (kLinesAtOnce + kLinesPerSecond * static_cast<std::size_t>(seconds)),
          "lines are bounded");
  return 0;
}
