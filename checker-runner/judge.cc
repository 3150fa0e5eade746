// SPDX-License-Identifier: GPL-3.0-or-later
#include "checker-runner/judge.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <iterator>
#include <utility>

#include "common/text.h"
#include "common/unique_fd.h"
#include "config.h"

namespace mandos::checker_runner {
namespace {

// What a shell knows by itself (POSIX.1, "Shell Command Language", and bash, which some call sh).
constexpr std::string_view kOfTheShell[] = {
    ".",      ":",        "alias",    "bg",      "break",  "builtin", "case",  "cd",
    "coproc", "declare",  "dirs",     "do",      "done",   "echo",    "elif",  "else",
    "enable", "esac",     "eval",     "exit",    "export", "false",   "fc",    "fg",
    "fi",     "for",      "function", "getopts", "hash",   "help",    "if",    "in",
    "jobs",   "kill",     "let",      "local",   "popd",   "printf",  "pushd", "pwd",
    "read",   "readonly", "return",   "select",  "set",    "shift",   "shopt", "source",
    "test",   "then",     "time",     "times",   "trap",   "true",    "type",  "typeset",
    "ulimit", "umask",    "unalias",  "unset",   "until",  "wait",    "while", "}"};
// Run their operands as a command. The first two are the shell's own.
constexpr std::string_view kPrefixes[] = {"command", "exec",   "env",    "nice",
                                          "nohup",   "setsid", "timeout"};
// Of a script, what the kernel looks at (BINPRM_BUF_SIZE, execve(2)).
constexpr std::size_t kFirstLine = 256;

template <std::size_t N>
bool one_of(const std::string& word, const std::string_view (&words)[N]) {
  return std::ranges::find(words, word) != std::end(words);
}

struct Token {
  // An unclear word has an expansion in it, or is not closed.
  enum class Kind { kWord, kOperator, kUnclear, kEnd };
  Kind kind = Kind::kEnd;
  std::string text{};       // of a word, without its quotes
  bool quoted = false;      // a part of it
  bool assignment = false;  // NAME=VALUE
};

/// Takes a command apart as the shell does (POSIX.1, "Token Recognition"), without expanding
/// anything.
class Scanner {
 public:
  explicit Scanner(std::string_view command) : rest_(command) {}
  Token next();
  std::string_view rest() const { return rest_; }

 private:
  static constexpr std::string_view kOperators = "\n;&|()<>";
  static constexpr std::string_view kName =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";

  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }
  void skip_blanks();
  /// False: it is unclear.
  bool take_part(Token& word);
  bool take_quoted(Token& word, char quote);
  bool take_percent(Token& word);

  std::string_view rest_;
};

void Scanner::skip_blanks() {
  for (;;) {
    if (rest_.starts_with("\\\n")) {
      rest_.remove_prefix(2);
    } else if (rest_.starts_with(' ') || rest_.starts_with('\t')) {
      rest_.remove_prefix(1);
    } else if (rest_.starts_with('#')) {
      rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
    } else {
      return;
    }
  }
}

bool Scanner::take_percent(Token& word) {
  if (!rest_.starts_with('%')) return false;
  word.text += take();
  return true;
}

bool Scanner::take_quoted(Token& word, char quote) {
  word.quoted = true;
  while (!rest_.empty()) {
    char c = take();
    if (c == quote) return true;
    if (c == '%') {
      if (!take_percent(word)) return false;
      continue;
    }
    if (quote == '"') {
      if (c == '$' || c == '`') return false;
      if (c == '\\' && !rest_.empty() &&
          std::string_view("$`\"\\\n").find(rest_.front()) != std::string_view::npos) {
        c = take();
        if (c == '\n') continue;
      }
    }
    word.text += c;
  }
  return false;
}

bool Scanner::take_part(Token& word) {
  const char c = take();
  switch (c) {
    case '\'':
    case '"':
      return take_quoted(word, c);
    case '\\':
      if (rest_.empty()) return false;
      if (rest_.front() != '\n') {
        word.quoted = true;
        if (rest_.front() == '%') return false;
        word.text += take();
      } else {
        take();
      }
      return true;
    case '%':
      return take_percent(word);
    case '$':
    case '`':
    case '*':
    case '?':
    case '[':
      return false;
    case '~':
      if (word.text.empty()) return false;
      break;
    case '=':
      word.assignment |= !word.quoted && !word.text.empty() &&
                         word.text.find_first_not_of(kName) == std::string::npos &&
                         (word.text.front() < '0' || word.text.front() > '9');
      break;
    default:
      break;
  }
  word.text += c;
  return true;
}

Token Scanner::next() {
  skip_blanks();
  Token token;
  if (rest_.empty()) return token;
  if (kOperators.find(rest_.front()) != std::string_view::npos) {
    token.kind = Token::Kind::kOperator;
    const char first = take();
    token.text = first;
    const bool redirects = first == '<' || first == '>';
    if (!rest_.empty() && first != '\n' &&
        (rest_.front() == first ||
         (redirects && std::string_view("&<>|").find(rest_.front()) != std::string_view::npos))) {
      token.text += take();
    }
    return token;
  }
  token.kind = Token::Kind::kWord;
  while (!rest_.empty() && rest_.front() != ' ' && rest_.front() != '\t' &&
         kOperators.find(rest_.front()) == std::string_view::npos) {
    if (!take_part(token)) return {.kind = Token::Kind::kUnclear};
  }
  // bash expands {a,b}.
  if (token.text.find_first_of("{}") != std::string::npos && token.text.size() > 1) {
    token.kind = Token::Kind::kUnclear;
  }
  return token;
}

/// What a shell would run first, as far as that is clear.
class FirstProgram {
 public:
  FirstProgram(std::string_view command, const Judging& judging)
      : scanner_(command), judging_(judging) {}
  std::optional<std::string> judge();

 private:
  enum class Found { kYes, kNo, kUnclear };
  Found executable(const std::string& path) const;
  Found found(const std::string& program, std::string& path) const;
  std::optional<std::string> judge_program(const std::string& program) const;
  std::optional<std::string> judge_interpreter(const std::string& program,
                                               const std::string& path) const;
  bool skip_redirection(const Token& token);

  Scanner scanner_;
  const Judging& judging_;
  bool other_path_ = false;  // PATH is set before the program
};

FirstProgram::Found FirstProgram::executable(const std::string& path) const {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    return errno == ENOENT || errno == ENOTDIR || judging_.as_checker_user ? Found::kNo
                                                                           : Found::kUnclear;
  }
  if (!S_ISREG(status.st_mode)) return Found::kNo;
  if (access(path.c_str(), X_OK) == 0) return Found::kYes;
  return judging_.as_checker_user || (status.st_mode & 0111) == 0 ? Found::kNo : Found::kUnclear;
}

FirstProgram::Found FirstProgram::found(const std::string& program, std::string& path) const {
  if (program.find('/') != std::string::npos) {
    // Checkers run in the root directory.
    path = program.starts_with('/') ? program : "/" + program;
    return executable(path);
  }
  if (other_path_) return Found::kUnclear;
  Found best = Found::kNo;
  for (std::string_view rest = judging_.path; !rest.empty();) {
    const auto folder = rest.substr(0, rest.find(':'));
    path = concat(folder, "/", program);
    const auto here = executable(path);
    if (here == Found::kYes) return here;
    if (here == Found::kUnclear) best = here;
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
  }
  return best;
}

std::string complaint(const std::string& what) {
  return concat(what,
                " is not found, or user " MANDOS_CHECKER_USER
                " may not execute it: the check cannot tell whether its client is alive; install "
                "it, or set another checker");
}

/// Of a script, execve(2): the interpreter, and the program that env(1) is to find.
std::optional<std::string> FirstProgram::judge_interpreter(const std::string& program,
                                                           const std::string& path) const {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  std::array<char, kFirstLine> buffer{};
  const auto size = file ? read(file.get(), buffer.data(), buffer.size()) : -1;
  std::string_view line(buffer.data(), size < 0 ? 0 : static_cast<std::size_t>(size));
  if (!line.starts_with("#!") || line.find('\n') == std::string_view::npos) return std::nullopt;
  line = line.substr(2, line.find('\n') - 2);
  const auto word = [&line] {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const auto end = std::min(line.find_first_of(" \t"), line.size());
    std::string taken(line.substr(0, end));
    line.remove_prefix(end);
    return taken;
  };
  std::string interpreter = word();
  std::string unused;
  if (!interpreter.starts_with('/')) return std::nullopt;
  if (interpreter.ends_with("/env") && found(interpreter, unused) == Found::kYes) {
    interpreter = word();
    // The kernel hands the rest of the line over as one argument.
    if (interpreter.empty() || !word().empty() || interpreter.starts_with('-') ||
        interpreter.find('=') != std::string::npos) {
      return std::nullopt;
    }
  }
  if (found(interpreter, unused) != Found::kNo) return std::nullopt;
  return complaint(concat("the interpreter ", escaped(interpreter), " of the checker program ",
                          escaped(program)));
}

std::optional<std::string> FirstProgram::judge_program(const std::string& program) const {
  std::string path;
  switch (found(program, path)) {
    case Found::kYes:
      return judge_interpreter(program, path);
    case Found::kNo:
      return complaint("the checker program " + escaped(program));
    case Found::kUnclear:
      break;
  }
  return std::nullopt;
}

bool FirstProgram::skip_redirection(const Token& token) {
  // Not a here-document, which takes lines from further on.
  return (token.text.starts_with('<') || token.text.starts_with('>')) && token.text != "<<" &&
         scanner_.next().kind == Token::Kind::kWord;
}

std::optional<std::string> FirstProgram::judge() {
  std::string prefix;
  bool begins = true;  // a command, so that reserved words are such
  bool has_duration = false;
  for (;;) {
    const Token token = scanner_.next();
    if (token.kind == Token::Kind::kOperator) {
      if (begins && (token.text == "(" || token.text == "\n")) continue;
      if (!skip_redirection(token)) return std::nullopt;
      begins = false;
      continue;
    }
    if (token.kind != Token::Kind::kWord || token.text.empty()) return std::nullopt;
    if (begins && !token.quoted && (token.text == "!" || token.text == "{")) continue;
    begins = false;
    // The descriptor of a redirection.
    if (!token.quoted && token.text.find_first_not_of("0123456789") == std::string::npos &&
        (scanner_.rest().starts_with('<') || scanner_.rest().starts_with('>'))) {
      continue;
    }
    if ((prefix.empty() || prefix == "env") && token.assignment) {
      other_path_ |= token.text.starts_with("PATH=");
      continue;
    }
    if (prefix == "timeout" && !std::exchange(has_duration, true)) {
      if (token.text.starts_with('-')) return std::nullopt;
      continue;
    }
    if (one_of(token.text, kPrefixes)) {
      prefix = token.text;
      has_duration = false;
      if (prefix == "command" || prefix == "exec") continue;
      if (auto missing = judge_program(token.text)) return missing;
      continue;
    }
    if (token.text.starts_with('-') || token.text.find('=') != std::string::npos ||
        one_of(token.text, kOfTheShell)) {
      return std::nullopt;
    }
    // A function of that name, or what is to be run in its place.
    const auto rest = scanner_.rest();
    if (rest.find("||") != std::string_view::npos || scanner_.next().text == "(") {
      return std::nullopt;
    }
    return judge_program(token.text);
  }
}

}  // namespace

std::optional<std::string> judge_command(std::string_view command, const Judging& judging) {
  return FirstProgram(command, judging).judge();
}

}  // namespace mandos::checker_runner
