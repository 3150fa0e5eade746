// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/arguments.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "common/text.h"
#include "ctl/client.h"

namespace mandos::ctl {
namespace {

std::string spelled(const Option& option) { return concat("--", option.name); }

/// Whether a word such as "-5" or "-.5" is a number, and therefore not an option.
bool is_number(std::string_view word) {
  constexpr std::string_view kDigits = "0123456789";
  word.remove_prefix(1);
  const std::size_t dot = std::min(word.find_first_not_of(kDigits), word.size());
  if (dot == word.size()) return !word.empty();
  const std::string_view rest = word.substr(dot + 1);
  return word[dot] == '.' && !rest.empty() &&
         rest.find_first_not_of(kDigits) == std::string_view::npos;
}

class Parser {
 public:
  Parser(std::span<const Option> options, std::span<const std::string_view> words)
      : options_(options), words_(words) {}

  Result<Arguments> parse() {
    while (at_ < words_.size()) {
      const std::string_view word = words_[at_++];
      if (word == "--") {
        for (; at_ < words_.size(); ++at_) found_.operands.emplace_back(words_[at_]);
      } else if (!is_option(word)) {
        found_.operands.emplace_back(word);
      } else if (auto taken = word.starts_with("--") ? take_long(word) : take_letters(word);
                 !taken) {
        return Error{taken.error()};
      }
      if (!found_.options.empty() && found_.options.back().option->ends) return found_;
    }
    if (!unknown_.empty()) return Error{concat("unknown option ", printable(unknown_))};
    return found_;
  }

 private:
  const Option* by_letter(char letter) const {
    const auto found = std::ranges::find(options_, letter, &Option::letter);
    return found == options_.end() ? nullptr : &*found;
  }

  std::vector<const Option*> by_name(std::string_view name) const {
    std::vector<const Option*> found;
    for (const auto& option : options_) {
      if (option.name == name) return {&option};
      if (!option.exact && option.name.starts_with(name)) found.push_back(&option);
    }
    return found;
  }

  bool is_option(std::string_view word) const {
    if (word.size() < 2 || word[0] != '-') return false;
    if (word.starts_with("--")) {
      return word.size() == 2 || word.find(' ') == std::string_view::npos ||
             !by_name(word.substr(2, word.find('=') - 2)).empty();
    }
    if (by_letter(word[1]) != nullptr) return true;
    return !is_number(word) && word.find(' ') == std::string_view::npos;
  }

  Status give(const Option& option, std::string_view value) {
    for (const auto& other : found_.options) {
      if (option.group != 0 && other.option->group == option.group && other.option != &option) {
        return Error{
            concat(spelled(option), " and ", spelled(*other.option), " exclude each other")};
      }
    }
    found_.options.push_back({&option, std::string(value)});
    return Ok{};
  }

  /// Sets the option's operand: the rest of the same word, or the next word.
  Status give_operand(const Option& option, std::optional<std::string_view> inside) {
    if (inside) return give(option, *inside);
    if (at_ == words_.size() || is_option(words_[at_])) {
      return Error{concat(spelled(option), " needs an operand: ", option.operand)};
    }
    return give(option, words_[at_++]);
  }

  Status take_long(std::string_view word) {
    const std::size_t equals = word.find('=');
    const std::string_view name =
        word.substr(2, equals == std::string_view::npos ? equals : equals - 2);
    const auto fitting = by_name(name);
    if (fitting.empty()) {
      if (unknown_.empty()) unknown_ = word;
      return Ok{};
    }
    if (fitting.size() > 1) {
      std::string text = concat("--", printable(name), " may mean");
      for (const auto* option : fitting) text += concat(" ", spelled(*option));
      return Error{text};
    }
    std::optional<std::string_view> inside;
    if (equals != std::string_view::npos) inside = word.substr(equals + 1);
    if (!fitting[0]->operand.empty()) return give_operand(*fitting[0], inside);
    if (inside) return Error{concat(spelled(*fitting[0]), " takes no operand")};
    return give(*fitting[0], "");
  }

  Status take_letters(std::string_view word) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      const Option* option = by_letter(word[i]);
      if (option == nullptr) {
        if (i > 1)
          return Error{
              concat("unknown option -", printable(word.substr(i, 1)), " in ", printable(word))};
        if (unknown_.empty()) unknown_ = word;
        return Ok{};
      }
      if (option->operand.empty()) {
        if (auto given = give(*option, ""); !given) return given;
        continue;
      }
      std::optional<std::string_view> inside;
      if (i + 1 < word.size()) inside = word.substr(i + 1);
      if (i == 1 && inside && inside->starts_with('=')) inside->remove_prefix(1);
      return give_operand(*option, inside);
    }
    return Ok{};
  }

  std::span<const Option> options_;
  std::span<const std::string_view> words_;
  std::size_t at_ = 0;
  Arguments found_;
  std::string unknown_;
};

}  // namespace

bool Arguments::has(std::string_view name) const { return value(name) != nullptr; }

const std::string* Arguments::value(std::string_view name) const {
  const std::string* found = nullptr;
  for (const auto& given : options) {
    if (given.option->name == name) found = &given.value;
  }
  return found;
}

Result<Arguments> parse_arguments(std::span<const Option> options,
                                  std::span<const std::string_view> words) {
  return Parser(options, words).parse();
}

std::string help_of(std::span<const Option> options) {
  constexpr std::size_t kColumn = 27;
  std::string out;
  for (const auto& option : options) {
    std::string line = option.letter != 0 ? concat("  -", option.letter, ", ") : "      ";
    line += spelled(option);
    if (!option.operand.empty()) line += concat(" ", option.operand);
    if (line.size() + 2 > kColumn) {
      out += concat(line, "\n");
      line.clear();
    }
    line.resize(kColumn, ' ');
    out += concat(line, option.help, "\n");
  }
  return out;
}

}  // namespace mandos::ctl
