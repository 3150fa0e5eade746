// SPDX-License-Identifier: GPL-3.0-or-later
// Any bytes as a version line: the verdict is that of Python's int(line.split()[0]) <= 1, put
// together here from its definition.
#include <regex.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "networker/version_line.h"
#include "tests/fuzz/input.h"

namespace {

using namespace mandos::fuzz;

bool model(std::string line) {
  constexpr std::string_view kSpace = "\t\n\v\f\r\x1c\x1d\x1e\x1f ";
  const auto begin = line.find_first_not_of(kSpace);
  if (begin == line.npos) return false;
  std::string field = line.substr(begin, line.find_first_of(kSpace, begin) - begin);
  if (field.find('\0') != field.npos) return false;
  static const regex_t* const integer = [] {
    static regex_t compiled;
    require(regcomp(&compiled, "^[-+]?[0-9]+(_[0-9]+)*$", REG_EXTENDED | REG_NOSUB) == 0,
            "regcomp");
    return &compiled;
  }();
  if (regexec(integer, field.c_str(), 0, nullptr, 0) != 0) return false;
  if (field[0] == '-') return true;
  std::erase_if(field, [](char c) { return c == '+' || c == '_'; });
  field.erase(0, field.find_first_not_of('0'));
  return field.empty() || field == "1";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > mandos::networker::kMaxVersionLine) return 0;
  const auto line = text_of(data, size);
  require(mandos::networker::speaks_our_version(line) == model(std::string(line)),
          "the verdict is Python's");
  return 0;
}
