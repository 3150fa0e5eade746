// SPDX-License-Identifier: GPL-3.0-or-later
#include "checker-runner/judge.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

#include "common/text.h"
#include "common/unique_fd.h"
#include "config.h"

namespace mandos::checker_runner {
namespace {

// Builtins and reserved words of every shell (POSIX.1, "Shell Command Language").
constexpr std::string_view kOfTheShell[] = {
    ".",    "alias", "bg",   "break",  "case",    "do",    "done",  "elif",     "else",
    "esac", "eval",  "exit", "export", "fc",      "fg",    "fi",    "for",      "getopts",
    "hash", "if",    "in",   "jobs",   "kill",    "local", "read",  "readonly", "return",
    "set",  "shift", "then", "trap",   "unalias", "unset", "until", "while",    "}"};
// Those that do not change which programs later commands run.
constexpr std::string_view kHarmless[] = {":",      "[",      "cd",    "echo",  "false",
                                          "printf", "pwd",    "test",  "times", "true",
                                          "type",   "ulimit", "umask", "wait"};
// Known to bash, which some systems call sh, but not to dash.
constexpr std::string_view kOfBash[] = {
    "[[",  "builtin", "coproc", "declare", "dirs",  "enable", "function", "help",
    "let", "popd",    "pushd",  "select",  "shopt", "source", "time",     "typeset"};
/// A command that runs its operands as a command.
struct Prefix {
  std::string_view name;
  std::string_view flags = "";   // option letters
  std::string_view valued = "";  // option letters that take a value
  std::string_view longs = "";   // each between two spaces, with its "="
  bool of_the_shell = false;
};
constexpr Prefix kPrefixes[] = {
    {.name = "command", .of_the_shell = true},
    {.name = "env", .valued = "u"},
    {.name = "exec", .of_the_shell = true},
    {.name = "ionice", .flags = "t", .valued = "cn", .longs = " --ignore --class= --classdata= "},
    {.name = "nice", .valued = "n", .longs = " --adjustment= "},
    {.name = "nohup"},
    {.name = "setsid", .flags = "cfw", .longs = " --ctty --fork --wait "},
    {.name = "time", .flags = "p"},
    {.name = "timeout",
     .flags = "v",
     .valued = "ks",
     .longs = " --foreground --kill-after= --preserve-status --signal= --verbose "}};
// How much of a script the kernel reads (BINPRM_BUF_SIZE, execve(2)).
constexpr std::size_t kFirstLine = 256;

template <std::size_t N>
bool one_of(std::string_view word, const std::string_view (&words)[N]) {
  return std::ranges::find(words, word) != std::end(words);
}

struct Token {
  // An unclear word contains an expansion. After a lost one, we cannot tell where the next word
  // begins.
  enum class Kind { kEnd, kOperator, kWord, kUnclear, kLost, kUnclosed };
  Kind kind = Kind::kEnd;
  std::string text{};       // of a word, without quotes
  bool quoted = false;      // at least partly
  bool assignment = false;  // NAME=VALUE
};

/// Splits a command into tokens as the shell does (POSIX.1, "Token Recognition"), without expanding
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
  // Each of these consumes a part of a word and worsens the word's kind if necessary.
  void take_part(Token& word);
  void take_quoted(Token& word, char quote);
  void take_percent(Token& word);
  void take_dollar(Token& word);

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

/// A literal percent sign, or a value to be inserted: a word in shell quotes, with as many opening
/// as closing quotes.
void Scanner::take_percent(Token& word) {
  const auto end = rest_.starts_with('(') ? rest_.find(")s") : rest_.npos;
  if (rest_.starts_with('%')) {
    word.text += take();
  } else if (end != rest_.npos) {
    rest_.remove_prefix(end + 2);
    word.kind = std::max(word.kind, Token::Kind::kUnclear);
  } else {
    word.kind = Token::Kind::kLost;
  }
}

void Scanner::take_dollar(Token& word) {
  const bool nests = rest_.find_first_of("({'\"%") == 0;
  word.kind = std::max(word.kind, nests ? Token::Kind::kLost : Token::Kind::kUnclear);
}

void Scanner::take_quoted(Token& word, char quote) {
  word.quoted = true;
  while (!rest_.empty() && word.kind < Token::Kind::kLost) {
    char c = take();
    if (c == quote) return;
    if (c == '%') {
      take_percent(word);
      continue;
    }
    if (quote == '"') {
      if (c == '$') take_dollar(word);
      if (c == '`') word.kind = Token::Kind::kLost;
      if (c == '\\' && !rest_.empty() &&
          std::string_view("$`\"\\\n").find(rest_.front()) != std::string_view::npos) {
        c = take();
        if (c == '\n') continue;
      }
    }
    word.text += c;
  }
  if (word.kind < Token::Kind::kLost) word.kind = Token::Kind::kUnclosed;
}

void Scanner::take_part(Token& word) {
  const char c = take();
  switch (c) {
    case '\'':
    case '"':
      return take_quoted(word, c);
    case '\\':
      if (rest_.empty()) {
        word.kind = std::max(word.kind, Token::Kind::kUnclear);
      } else if (rest_.front() != '\n') {
        word.quoted = true;
        if (rest_.front() == '%') word.kind = Token::Kind::kLost;
        word.text += take();
      } else {
        take();
      }
      return;
    case '%':
      return take_percent(word);
    case '$':
      return take_dollar(word);
    case '`':
      word.kind = Token::Kind::kLost;
      return;
    case '*':
    case '?':
    case '[':
      word.kind = std::max(word.kind, Token::Kind::kUnclear);
      break;
    case '~':
      if (word.text.empty()) word.kind = std::max(word.kind, Token::Kind::kUnclear);
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
  // These are commands and not patterns.
  for (const std::string_view command : {"[[", "["}) {
    if (!rest_.starts_with(command) ||
        rest_.find_first_of(" \t\n", command.size()) != command.size())
      continue;
    token.text = command;
    rest_.remove_prefix(command.size());
    return token;
  }
  while (!rest_.empty() && rest_.front() != ' ' && rest_.front() != '\t' &&
         kOperators.find(rest_.front()) == std::string_view::npos &&
         token.kind < Token::Kind::kLost) {
    take_part(token);
  }
  // bash expands {a,b}.
  if (token.text.find_first_of("{}") != std::string::npos && token.text.size() > 1) {
    token.kind = std::max(token.kind, Token::Kind::kUnclear);
  }
  return token;
}

/// Whether a quote is open at the end, which no shell accepts.
bool is_unclosed(std::string_view command) {
  Scanner scanner(command);
  Token token;
  do {
    token = scanner.next();
    // A here-document takes its lines from later in the text.
  } while (token.kind != Token::Kind::kEnd && token.kind < Token::Kind::kLost &&
           token.text != "<<");
  return token.kind == Token::Kind::kUnclosed;
}

/// The commands that a shell would run first, as far as that is clear: the first one, and those
/// after "&&", ";" and a newline.
class Programs {
 public:
  Programs(std::string_view command, const Judging& judging)
      : scanner_(command), judging_(judging) {}
  std::optional<std::string> judge();

 private:
  enum class Found { kYes, kNo, kUnclear };
  // What follows a command.
  enum class Next { kEnd, kIfItSucceeds, kAnyway, kUnclear };

  Found executable(const std::string& path) const;
  Found found(const std::string& program, std::string& path) const;
  std::optional<std::string> judge_program(const std::string& program) const;
  std::optional<std::string> judge_content(const std::string& program,
                                           const std::string& path) const;
  bool skip_redirection(const Token& token);
  bool skip_option(const Prefix& prefix, std::string_view option);
  /// The program of the next command; nothing if that is unclear.
  std::optional<std::string> next_program();
  Next skip_arguments();
  /// Whether the whole command fails if this part of it does.
  bool decides();

  Scanner scanner_;
  const Judging& judging_;
  bool other_path_ = false;    // PATH is set before the program
  bool other_folder_ = false;  // after cd
};

Programs::Found Programs::executable(const std::string& path) const {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    return errno == ENOENT || errno == ENOTDIR || judging_.as_checker_user ? Found::kNo
                                                                           : Found::kUnclear;
  }
  if (!S_ISREG(status.st_mode)) return Found::kNo;
  if (access(path.c_str(), X_OK) == 0) return Found::kYes;
  return judging_.as_checker_user || (status.st_mode & 0111) == 0 ? Found::kNo : Found::kUnclear;
}

Programs::Found Programs::found(const std::string& program, std::string& path) const {
  if (program.find('/') != std::string::npos) {
    // Checkers run in the root directory.
    if (other_folder_ && !program.starts_with('/')) return Found::kUnclear;
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

constexpr const char* kUseless = ": the check cannot tell whether its client is alive; ";

std::string complaint(const std::string& what) {
  return concat(what, " is not found, or user " MANDOS_CHECKER_USER " may not execute it", kUseless,
                "install it, or set another checker");
}

/// Whether the kernel refuses it (elf(5)), because its type is not executable or its program
/// headers are truncated. False for machine types that we do not know.
template <class Header>
bool is_broken(std::string_view content, std::uint64_t size) {
  Header header{};
  if (content.size() < sizeof header) return true;
  std::memcpy(&header, content.data(), sizeof header);
  return (header.e_type != ET_EXEC && header.e_type != ET_DYN) || header.e_phoff > size ||
         std::size_t{header.e_phnum} * header.e_phentsize > size - header.e_phoff;
}
bool is_broken_elf(std::string_view content, std::uint64_t size) {
  constexpr char kOurs = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
  if (!content.starts_with(ELFMAG)) return false;
  if (content.size() <= EI_DATA) return true;
  if (content[EI_DATA] != kOurs) return false;
  return content[EI_CLASS] == ELFCLASS64   ? is_broken<Elf64_Ehdr>(content, size)
         : content[EI_CLASS] == ELFCLASS32 ? is_broken<Elf32_Ehdr>(content, size)
                                           : false;
}

/// For a script (execve(2)): the interpreter, and the program that env(1) must find.
std::optional<std::string> Programs::judge_content(const std::string& program,
                                                   const std::string& path) const {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  std::array<char, kFirstLine> buffer{};
  const auto size = file ? read(file.get(), buffer.data(), buffer.size()) : -1;
  std::string_view line(buffer.data(), size < 0 ? 0 : static_cast<std::size_t>(size));
  struct stat status {};
  if (size > 0 && fstat(file.get(), &status) == 0 &&
      is_broken_elf(line, static_cast<std::uint64_t>(status.st_size))) {
    return concat("the checker program ", escaped(program), " is a damaged executable", kUseless,
                  "install it again");
  }
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
    // The kernel passes the rest of the line as one argument.
    if (interpreter.empty() || !word().empty() || interpreter.starts_with('-') ||
        interpreter.find('=') != std::string::npos) {
      return std::nullopt;
    }
  }
  if (found(interpreter, unused) != Found::kNo) return std::nullopt;
  return complaint(concat("the interpreter ", escaped(interpreter), " of the checker program ",
                          escaped(program)));
}

std::optional<std::string> Programs::judge_program(const std::string& program) const {
  std::string path;
  switch (found(program, path)) {
    case Found::kYes:
      return judge_content(program, path);
    case Found::kNo:
      if (one_of(program, kOfBash)) {
        return concat(escaped(program), " is not a command of /bin/sh, which is dash", kUseless,
                      "use one that it has, or bash -c");
      }
      return complaint("the checker program " + escaped(program));
    case Found::kUnclear:
      break;
  }
  return std::nullopt;
}

bool Programs::skip_redirection(const Token& token) {
  // Not a here-document, which takes its lines from later in the text.
  if (!(token.text.starts_with('<') || token.text.starts_with('>')) || token.text == "<<") {
    return false;
  }
  const auto kind = scanner_.next().kind;
  return kind == Token::Kind::kWord || kind == Token::Kind::kUnclear;
}

/// Skips the value of an option as well. False if the option is unknown.
bool Programs::skip_option(const Prefix& prefix, std::string_view option) {
  if (option.starts_with("--")) {
    const auto name = option.substr(0, std::min(option.find('='), option.size() - 1) + 1);
    return prefix.longs.find(concat(' ', name, ' ')) != std::string_view::npos;
  }
  option.remove_prefix(1);
  if (option.empty()) return false;
  if (prefix.name == "nice" && option.find_first_not_of("0123456789") == option.npos) return true;
  const auto valued = option.find_first_not_of(prefix.flags);
  if (valued == option.npos) return true;
  if (prefix.valued.find(option[valued]) == std::string_view::npos) return false;
  if (valued + 1 < option.size()) {
    other_path_ |= prefix.name == "env" && option.substr(valued + 1) == "PATH";
    return true;
  }
  const Token value = scanner_.next();
  other_path_ |= prefix.name == "env" && value.text == "PATH";
  return value.kind == Token::Kind::kWord || value.kind == Token::Kind::kUnclear;
}

std::optional<std::string> Programs::next_program() {
  Prefix prefix{.name = ""};
  bool begins = true;  // a command begins, so reserved words count
  bool has_options = false;
  bool has_duration = true;
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
    // The file descriptor of a redirection.
    if (!token.quoted && token.text.find_first_not_of("0123456789") == std::string::npos &&
        (scanner_.rest().starts_with('<') || scanner_.rest().starts_with('>'))) {
      continue;
    }
    if ((prefix.name.empty() || prefix.name == "env") && token.assignment) {
      other_path_ |= token.text.starts_with("PATH=");
      continue;
    }
    if (has_options && token.text.starts_with('-')) {
      if (token.text == "--") {
        has_options = false;
      } else if (!skip_option(prefix, token.text)) {
        return std::nullopt;
      }
      continue;
    }
    has_options = false;
    if (!std::exchange(has_duration, true)) continue;
    const auto* const found = std::ranges::find(kPrefixes, token.text, &Prefix::name);
    // In bash it is a reserved word, which cannot be the name of a program.
    const bool is_word = token.text == "time" && !judging_.is_dash;
    if (found != std::end(kPrefixes)) {
      prefix = *found;
      has_options = !prefix.of_the_shell;
      has_duration = prefix.name != "timeout";
      if (!prefix.of_the_shell && !is_word && judge_program(token.text)) return token.text;
      continue;
    }
    const bool is_clear = !token.text.starts_with('-') && token.text.find('=') == std::string::npos;
    if (!is_clear || one_of(token.text, kOfTheShell) ||
        (!judging_.is_dash && one_of(token.text, kOfBash))) {
      return std::nullopt;
    }
    return token.text;
  }
}

Programs::Next Programs::skip_arguments() {
  for (;;) {
    const Token token = scanner_.next();
    if (token.kind == Token::Kind::kEnd) return Next::kEnd;
    if (token.kind == Token::Kind::kWord || token.kind == Token::Kind::kUnclear) continue;
    if (token.kind != Token::Kind::kOperator) return Next::kUnclear;
    if (token.text == "&&") return Next::kIfItSucceeds;
    if (token.text == ";" || token.text == "\n") return Next::kAnyway;
    if (!skip_redirection(token)) return Next::kUnclear;
  }
}

bool Programs::decides() {
  Next next = Next::kUnclear;
  do {
    next = skip_arguments();
  } while (next == Next::kIfItSucceeds);
  return next == Next::kEnd;
}

std::optional<std::string> Programs::judge() {
  for (bool is_first = true;; is_first = false) {
    const auto program = next_program();
    // A failure that "||" handles is not a problem.
    if (!program || scanner_.rest().find("||") != std::string_view::npos) return std::nullopt;
    const bool is_harmless = one_of(*program, kHarmless);
    if (const auto missing = is_harmless ? std::nullopt : judge_program(*program)) {
      // It may be a function that is defined here.
      const bool counts = is_first ? scanner_.next().text != "(" : decides();
      return counts ? missing : std::nullopt;
    }
    const Next next = skip_arguments();
    if (next == Next::kEnd || next == Next::kUnclear) return std::nullopt;
    other_folder_ |= *program == "cd";
  }
}

}  // namespace

std::optional<std::string> judge_command(std::string_view command, const Judging& judging) {
  if (is_unclosed(command)) {
    return concat("the checker has a quote that is not closed, so that /bin/sh does not run it",
                  kUseless, "close the quote");
  }
  return Programs(command, judging).judge();
}

bool shell_is_dash() {
  std::error_code failed;
  return std::filesystem::canonical("/bin/sh", failed).filename() == "dash";
}

}  // namespace mandos::checker_runner
