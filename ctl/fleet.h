// SPDX-License-Identifier: GPL-3.0-or-later
// One command on several servers at the same time, and what their answers say together.
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

/// The status of a command that was done on some servers and failed on others.
inline constexpr int kPartly = 3;

/// What a command has said on one server.
struct Answer {
  std::string server;
  std::optional<int> status;  // none: there was no answer in time
  std::string output;
  std::string errors;  // one line for a person, from standard error; with --debug empty

  bool failed() const { return status != 0; }
};

/// Runs `work` for each server at the same time, each in a child process that has that server's
/// system bus for its own. `work` writes to standard output and standard error, and returns its
/// status. A server that takes too long is given up without regard to the others, and so are all
/// when a signal ends this process. Answers come in the order of the servers. With `debug`, what
/// `work` writes to standard error goes to this process's.
std::vector<Answer> on_each(const Servers& servers, bool debug, const std::function<int()>& work);

/// The lines of `errors` as one, without the name of this program.
std::string one_line(std::string_view errors);
/// 0 if no server failed, 1 if all did, otherwise kPartly.
int joint_status(const std::vector<Answer>& answers);
/// Says on standard error, one line for each server, what went wrong where.
void complain_of(const std::vector<Answer>& answers);
/// Writes what one server has said as it is, and what several have said with the server in front of
/// each line; complains; returns the joint status, or the status of the one.
int relay(const std::vector<Answer>& answers);

/// The clients of a server.
struct Listing {
  std::string server;
  std::optional<std::vector<Client>> clients;  // none: it did not answer
};

/// In what the servers that answered disagree about clients: a line for each difference.
std::string disagreements(const std::vector<Listing>& listings);
/// The table, with the server of each row in front; sorted by client.
std::string fleet_table(const std::vector<Listing>& listings, bool verbose);
/// An object with a member for each server: what dump_json() writes for it, or null.
std::string fleet_json(const std::vector<Listing>& listings);

}  // namespace mandos::ctl
