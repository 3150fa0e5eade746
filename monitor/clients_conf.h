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
  /// As many of them are that a file may not be opened. If these are all, they may be our jail's
  /// doing: files are not judged by what is missing.
  std::size_t denied = 0;
  std::vector<std::string> warnings;
  struct Users {
    std::string place;  // of one client: "FILE:LINE: [SECTION] checker: "
    std::size_t others = 0;
  };
  /// Who has each command of a checker.
  std::map<std::string, Users> checkers;
  /// The files that were read, or would have been.
  std::set<std::string> files;
};

/// Reads CONFIGDIR/clients.conf and then CONFIGDIR/clients.d/*.conf by order of name, as though
/// they were one file (mandos-clients.conf(5)), and the files that `secfile` options name. Secrets
/// never leave secret_memory(). The folder may be absent; clients.conf only if the folder holds
/// files.
LoadedClients load_clients(const std::string& configdir);

/// Where files lie and, since any may be a link, where what they lead to does: what a jail must
/// reach for reading them again. A file of the root folder stands for itself. To be asked before
/// that jail, which lets nobody look along the path of a link.
std::set<std::string> folders_of(const std::set<std::string>& files);

}  // namespace mandos::monitor
