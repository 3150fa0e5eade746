// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "monitor/client_settings.h"

namespace mandos::monitor {

struct LoadedClients {
  /// By name, which is valid UTF-8, can be a file name and has at most 200 bytes. Only those whose
  /// sections have no problem; none, if there is a problem that DEFAULT may have caused.
  std::map<std::string, ClientSettings> clients;
  /// Each names file, line, section and option, what was found (never a secret) and what was
  /// expected.
  std::vector<std::string> problems;
  /// How many of the problems are files that we may not open. Our jail may be the reason if there
  /// are no others: checks that need the content of all files are then left out.
  std::size_t denied = 0;
  std::vector<std::string> warnings;
  struct Users {
    std::string place;  // of one client: "FILE:LINE: [SECTION] checker: "
    std::size_t others = 0;
  };
  /// The clients that use each checker command.
  std::map<std::string, Users> checkers;
  /// The files that were read, or that could not be.
  std::set<std::string> files;
};

/// Reads CONFIGDIR/clients.conf and then CONFIGDIR/clients.d/*.conf by order of name, as though
/// they were one file (mandos-clients.conf(5)), and the files that `secfile` options name. Secrets
/// never leave secret_memory(). The folder may be absent; clients.conf only if the folder holds
/// files.
LoadedClients load_clients(const std::string& configdir);

/// The folders of the files and of what they lead to as links: a jail must allow them so that the
/// files can be read again. A file in the root folder is listed itself. Must be called before that
/// jail is entered, in which nobody can follow the path of a link.
std::set<std::string> folders_of(const std::set<std::string>& files);

}  // namespace mandos::monitor
