// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/result.h"
#include "monitor/client.h"

namespace mandos::monitor {

/// The client's checker command for `/bin/sh -c`: each %(name)s replaced by that attribute of the
/// client, quoted for the POSIX shell, and %% by a percent sign (mandos-clients.conf(5), "Runtime
/// expansion"). An Error when the command holds anything else that begins with a percent sign, an
/// unknown name, or a zero byte.
Result<std::string> expand_checker(const Client& client);

/// One attribute of a client as text: for checkers and for the log.
struct Attribute {
  std::string_view name;
  std::string (*value)(const Client&);
  unsigned uses = kForCheckers;
  bool is_setting = false;  // else state
};
std::span<const Attribute> attributes();
/// The attribute `name`, which must exist.
std::string attribute(const Client& client, std::string_view name);

/// When the client's checker last succeeded, such as "2026-11-24 09:10:32Z" (UTC), or "never".
std::string last_answer(const Client& client);

}  // namespace mandos::monitor
