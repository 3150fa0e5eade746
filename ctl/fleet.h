// SPDX-License-Identifier: GPL-3.0-or-later
// Runs one command on several servers in parallel, and combines the answers.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ctl/client.h"
#include "ctl/servers.h"

namespace mandos::ctl {

/// The status of a command that succeeded on some servers and failed on others.
inline constexpr int kPartly = 3;

/// The answer of one server to a command.
struct Answer {
  std::string server;
  std::optional<int> status;  // none: it did not answer in time
  std::string output;
  std::string errors;  // one line for a person, from standard error; empty with --debug

  bool failed() const { return status != 0; }
};

/// Runs `work` for each server in parallel, each in a child process for which that server's bus is
/// the system bus. `work` writes to standard output and standard error, and returns its status. A
/// server that takes too long is abandoned without affecting the others; all are when a signal ends
/// this process. Answers are in the order of the servers. With `debug`, standard error of `work`
/// goes to that of this process.
std::vector<Answer> on_each(const Servers& servers, bool debug, const std::function<int()>& work);

/// The lines of `errors` joined into one, without the name of this program.
std::string one_line(std::string_view errors);
/// 0 if no server failed, 1 if all did, otherwise kPartly.
int joint_status(const std::vector<Answer>& answers);
/// Prints on standard error, one line per server, what failed where.
void complain_of(const std::vector<Answer>& answers);
/// Prints the output of one server as it is, and of several servers with the server before each
/// line; reports failures; returns the joint status, or that of the only server.
int relay(const std::vector<Answer>& answers);

/// The clients of a server.
struct Listing {
  std::string server;
  std::optional<std::vector<Client>> clients;  // none: the server did not answer
};

/// The differences between the servers that answered, with one line for each.
std::string disagreements(const std::vector<Listing>& listings);
/// The table, with the server in the first column; sorted by client.
std::string fleet_table(const std::vector<Listing>& listings, bool verbose);
/// An object with a member for each server: the output of dump_json(), or null.
std::string fleet_json(const std::vector<Listing>& listings);

}  // namespace mandos::ctl
