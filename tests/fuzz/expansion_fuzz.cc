// SPDX-License-Identifier: GPL-3.0-or-later
// Any texts as a client's attributes and its checker: what the shell receives is the value. Judged
// by a model of the shell's quoting (IEEE Std 1003.1, 2.2 and 2.6.5) and, when that finds the word
// harmless, by /bin/sh. The first byte picks the attribute, then follow its value behind a length,
// and the checker.
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/unique_fd.h"
#include "monitor/checker_command.h"
#include "monitor/client.h"
#include "tests/fuzz/input.h"
#include "tests/support/client_settings.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;

/// The one word that `text` is to a shell, or nothing if it is anything else than one plain word.
std::optional<std::string> one_word(std::string_view text) {
  std::string out;
  if (text.empty()) return std::nullopt;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char quote = text[i];
    if (quote == '\'' || quote == '"') {
      const auto end = text.find(quote, i + 1);
      if (end == text.npos) return std::nullopt;
      const auto inside = text.substr(i + 1, end - i - 1);
      if (quote == '"' && inside.find_first_of("$`\\") != inside.npos) return std::nullopt;
      out += inside;
      i = end;
    } else {
      // Reserved words and assignments matter only as a command's first word, which this is not.
      constexpr std::string_view kSpecial = "|&;<>()$`\\ \t\n*?[#~{}!";
      const auto byte = static_cast<unsigned char>(quote);
      if (byte <= ' ' || byte >= 0x7f || kSpecial.find(quote) != kSpecial.npos) return std::nullopt;
      out += quote;
    }
  }
  return out;
}

/// A shell that answers every word with the same word.
class Shell {
 public:
  Shell() {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    require(pipe2(in.data(), O_CLOEXEC) == 0 && pipe2(out.data(), O_CLOEXEC) == 0, "pipe");
    pid_ = fork();
    require(pid_ >= 0, "fork");
    if (pid_ == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      execl("/bin/sh", "sh", static_cast<char*>(nullptr));
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to_.reset(in[1]);
    from_.reset(out[0]);
  }
  ~Shell() {
    to_.reset();
    waitpid(pid_, nullptr, 0);
  }
  Shell(const Shell&) = delete;
  Shell& operator=(const Shell&) = delete;

  std::string ask(std::string_view word) {
    const std::string line = concat("printf '%s\\0' ", word, "\n");
    require(write(to_.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size()),
            "the shell reads on");
    std::string answer;
    while (answer.empty() || answer.back() != '\0') {
      pollfd ready{from_.get(), POLLIN, 0};
      require(poll(&ready, 1, 10000) == 1, "the shell answers", word);
      std::array<char, 4096> buffer{};
      const ssize_t size = read(from_.get(), buffer.data(), buffer.size());
      require(size > 0, "the shell goes on", word);
      answer.append(buffer.data(), static_cast<std::size_t>(size));
    }
    answer.pop_back();
    return answer;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd to_, from_;
};

std::string expanded(monitor::Client& client, std::string checker) {
  monitor::test::own(client).checker = std::move(checker);
  const auto command = monitor::expand_checker(client);
  require(static_cast<bool>(command), "a good checker is expanded");
  return *command;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 2048) return 0;
  Input input(data, size);
  monitor::Client client;
  struct Attribute {
    std::string_view name;
    std::string& place;
  };
  auto& first = monitor::test::own(client);
  const Attribute attributes[] = {{"host", first.host},
                                  {"fingerprint", first.fingerprint},
                                  {"name", client.name},
                                  {"dbus_object_path", client.object_path}};
  const auto& [name, place] = attributes[input.below(4)];
  const std::string value(input.sized(2));
  const std::string checker(input.rest());
  place = value;

  if (value.find('\0') == value.npos && !(name == "dbus_object_path" && value.empty())) {
    const std::string reference = concat("%(", name, ")s");
    const std::string word = expanded(client, reference);
    const auto received = one_word(word);
    require(received && *received == value, "what the model of a shell receives is the value",
            word);
    static Shell shell;
    require(shell.ask(word) == value, "what a shell receives is the value", word);
    require(expanded(client, concat("100%% ", reference, "%%", reference)) ==
                concat("100% ", word, "%", word),
            "an expansion changes nothing around it");
  }

  // Any checker: good or explained, and never with a zero byte, which would end the command early.
  monitor::test::own(client).checker = checker;
  const auto command = monitor::expand_checker(client);
  require(command ? command->find('\0') == command->npos : !command.error().empty(),
          "a checker is expanded or explained");
  if (checker.find('%') == checker.npos && checker.find('\0') == checker.npos) {
    require(command && *command == checker, "a checker without a percent sign stays as it is");
  }
  // And with every moment and duration that a client can have.
  Input numbers(data, size);
  const auto wall = [&] {
    return WallTime(std::chrono::microseconds(numbers.number(8) % 253'402'300'800'000'000));
  };
  auto& settings = monitor::test::own(client);
  settings.timeout = settings.interval = Milliseconds(numbers.number(8) >> 12);
  client.created = wall();
  client.last_enabled = client.expires_shown = client.last_checked_ok = wall();
  for (const char* attribute : {"timeout", "interval", "created", "last_enabled", "expires",
                                "last_checked_ok", "last_approval_request", "key_id", "enabled"}) {
    require(one_word(expanded(client, concat("%(", attribute, ")s"))).has_value(),
            "every attribute is one word", attribute);
  }
  return 0;
}
