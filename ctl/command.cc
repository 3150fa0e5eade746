// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/command.h"

#include <cerrno>
#include <cstdio>

#include "common/duration.h"
#include "common/result.h"
#include "common/text.h"

namespace mandos::ctl {

bool write_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return true;
  }
  complain(kFailure, errno_error(errno, "cannot write to standard output").text);
  return false;
}

int complain(int status, std::string_view text) {
  const std::string line = concat("mandos-ctl: ", text, "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
  return status;
}

void warn(std::string_view text) { complain(kSuccess, concat("warning: ", text)); }

int wrong_usage(std::string_view command, std::string_view text, int status) {
  return complain(
      status, concat(text, "\nTry: mandos-ctl ", command, command.empty() ? "" : " ", "--help"));
}

Result<Milliseconds> read_duration(std::string_view text) {
  if (text == "0") return Milliseconds(0);
  std::string spaced;
  for (const char c : text) {
    spaced += c;
    if (c >= 'a' && c <= 'z') spaced += ' ';
  }
  return parse_duration(spaced);
}

}  // namespace mandos::ctl
