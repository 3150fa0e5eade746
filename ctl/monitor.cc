// SPDX-License-Identifier: GPL-3.0-or-later
// mandos-monitor(8), the live view. Connects a View with the bus (Watch) and the terminal
// (Screen).
#include <locale.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/event_loop.h"
#include "common/result.h"
#include "common/text.h"
#include "config.h"
#include "ctl/arguments.h"
#include "ctl/bus.h"
#include "ctl/cells.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/screen.h"
#include "ctl/times.h"
#include "ctl/view.h"
#include "ctl/watch.h"

namespace mandos::ctl {
namespace {

constexpr Option kOptions[] = {
    kHelp,
    {"version", 0, "", "Show the version and exit.", 0, true},
};

constexpr std::string_view kUsageText = R"(Usage: mandos-monitor

Shows the clients of the Mandos server and events about them. Keys change the
clients; ? lists all keys. Requires a terminal, and root or membership in
the group )" MANDOS_BUS_GROUP R"(.

)";

int fail(int status, std::string_view text) {
  const std::string line = concat("mandos-monitor: ", text, "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
  return status;
}

/// The local time of day.
std::string clock_text() {
  const std::int64_t now = wall_now() / 1000;
  const auto seconds = static_cast<time_t>(now);
  tm parts{};
  std::array<char, 16> text{};
  if (localtime_r(&seconds, &parts) == nullptr ||
      strftime(text.data(), text.size(), "%H:%M:%S", &parts) == 0) {
    return "--:--:--";
  }
  return text.data();
}

struct Wording {
  std::string_view doing;
  std::string_view done;
};

/// How the log describes an action.
Wording wording_of(View::Act act) {
  switch (act) {
    case View::Act::kApprove:
      return {"approve", "approved"};
    case View::Act::kDeny:
      return {"deny", "denied"};
    case View::Act::kEnable:
      return {"enable", "enabled"};
    case View::Act::kDisable:
      return {"disable", "disabled"};
    case View::Act::kCheck:
      return {"start the checker of", "started the checker of"};
    case View::Act::kStopCheck:
      return {"stop the checker of", "stopped the checker of"};
    case View::Act::kCountAsChecked:
      return {"count as checked:", "counted as checked:"};
    case View::Act::kRemove:
      break;
  }
  return {"remove", "removed"};
}

Status carry_out(Bus& bus, View::Act act, const std::string& path) {
  switch (act) {
    case View::Act::kApprove:
    case View::Act::kDeny:
      return bus.approve(path, act == View::Act::kApprove);
    case View::Act::kEnable:
    case View::Act::kDisable:
      return bus.set(path, "Enabled", act == View::Act::kEnable);
    case View::Act::kCheck:
    case View::Act::kStopCheck:
      return bus.set(path, "CheckerRunning", act == View::Act::kCheck);
    case View::Act::kCountAsChecked:
      return bus.set(path, "LastCheckedOK", std::string());
    case View::Act::kRemove:
      break;
  }
  return bus.remove(path);
}

class Monitor {
 public:
  Monitor() : watch_(loop_, false, [this](const Event& event) { happened(event); }) {
    watch_.on_change = [this](const std::string& path) { changed(path); };
    watch_.on_ready = [this](const Status& ready) { open(ready); };
    watch_.on_trouble = [this](std::string_view text) { note(readable(text), Style::kBad); };
  }

  int run() {
    if (const auto started = watch_.start(); !started) return fail(kFailure, started.error());
    loop_.on_signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH},
                     [this](int number) { signal(number); });
    const int status = loop_.run();
    screen_.leave();
    return problem_.empty() ? status : fail(status, problem_);
  }

 private:
  /// Not before the first answer, so that an error about it stays on the normal screen.
  void open(const Status& ready) {
    const auto opened = ready ? screen_.open() : ready;
    if (!opened) {
      problem_ = opened.error();
      return loop_.stop(kFailure);
    }
    loop_.watch(STDIN_FILENO, EPOLLIN, [this](std::uint32_t events) { keys(events); });
    is_open_ = true;
    draw();
    tick();
  }

  void happened(const Event& event) {
    view_.happened(clock_text(), event);
    draw_soon();
  }

  void note(const std::wstring& text, Style style) {
    view_.note(clock_text(), text, style);
    draw_soon();
  }

  void changed(const std::string& path) {
    const auto& clients = watch_.by_path();
    if (path.empty()) {
      view_.clear();
      for (const auto& [each, client] : clients) view_.update(client);
    } else if (const auto found = clients.find(path); found != clients.end()) {
      view_.update(found->second);
    } else {
      view_.remove(path);
    }
    draw_soon();
  }

  void signal(int number) {
    switch (number) {
      case SIGTSTP:
        stop();
        break;
      case SIGCONT:
        resume();
        break;
      case SIGWINCH:
        resize();
        break;
      default:
        loop_.stop(kSuccess);
    }
  }

  /// Gives the terminal to the shell. Events in the meantime are shown afterwards.
  void stop() {
    screen_.leave();
    sigset_t stopping;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTSTP);
    ::signal(SIGTSTP, SIG_DFL);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stopping, nullptr);  // the process stops here
    sigprocmask(SIG_BLOCK, &stopping, nullptr);
    resume();
  }

  /// The shell may have changed modes and the screen, and only it was told of a new size.
  void resume() {
    if (is_open_) screen_.redraw();
    resize();
  }

  void resize() {
    if (!is_open_) return;
    screen_.resize();
    draw();
  }

  void keys(std::uint32_t events) {
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) return loop_.stop(kFailure);  // the terminal is gone
    while (const auto key = screen_.read()) {
      const auto request = view_.press(*key);
      using What = View::Request::What;
      if (request.what == What::kQuit) return loop_.stop(kSuccess);
      if (request.what == What::kRedraw) screen_.redraw();
      if (request.what == What::kAct) act(request);
      draw();  // before the next key, which may refer to the result
    }
  }

  void act(const View::Request& request) {
    const auto words = wording_of(request.act);
    const std::string failed = concat("cannot ", words.doing, " ", request.name);
    const std::string done = concat(words.done, " ", request.name);
    Bus* const bus = watch_.bus();
    if (bus == nullptr) return note(readable(concat(failed, ": no system bus")), Style::kBad);
    const auto answered = [this, failed, done](const Status& status) {
      if (status) {
        note(readable(concat("You ", done)), Style::kPlain);
      } else {
        note(readable(concat(failed, ": ", status.error())), Style::kBad);
      }
    };
    bus->answer_later(answered);
    if (const auto sent = carry_out(*bus, request.act, request.path); !sent) answered(sent);
    watch_.pump();
  }

  /// Draws once for many changes.
  void draw_soon() {
    constexpr Milliseconds kTogether{50};
    if (!is_open_ || std::exchange(draws_soon_, true)) return;
    loop_.after(kTogether, [this] { draw(); });
  }

  void draw() {
    draws_soon_ = false;
    screen_.show(view_.layout(screen_.rows(), screen_.columns(), wall_now()));
  }

  /// Updates the countdowns.
  void tick() {
    constexpr Milliseconds kSecond{1000};
    loop_.after(kSecond, [this] {
      draw();
      tick();
    });
  }

  EventLoop loop_;
  View view_;
  Screen screen_;
  Watch watch_;
  std::string problem_;  // why the screen could not be opened
  bool is_open_ = false;
  bool draws_soon_ = false;
};

int run(Words words) {
  const auto arguments = parse_arguments(kOptions, words);
  const auto wrong = [](std::string_view text) {
    return fail(kUsage, concat(text, "\nTry: mandos-monitor --help"));
  };
  if (!arguments) return wrong(arguments.error());
  if (arguments->has("help")) {
    return write_out(concat(kUsageText, help_of(kOptions))) ? kSuccess : kFailure;
  }
  if (arguments->has("version")) {
    return write_out("mandos-monitor " MANDOS_VERSION " (mandos-separated)\n") ? kSuccess
                                                                               : kFailure;
  }
  if (!arguments->operands.empty()) {
    return wrong(concat("unexpected argument: ", printable(arguments->operands[0])));
  }
  // Without the locale's encoding, only ASCII could be shown.
  setlocale(LC_ALL, "");  // NOLINT(concurrency-mt-unsafe): no threads
  tzset();
  Monitor monitor;
  return monitor.run();
}

}  // namespace
}  // namespace mandos::ctl

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return mandos::ctl::run(words);
}
