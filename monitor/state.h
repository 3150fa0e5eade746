// SPDX-License-Identifier: GPL-3.0-or-later
// The state directory: one file per client, which survives kill -9 and a power cut.
//
// A file contains: SHA-256 of all that follows, 32 bytes; the length of the message, 4 bytes in the
// machine's byte order; the message, a SavedClient of proto/state.proto; the client's secret, if it
// is not the one in clients.conf. The secret is not copied between the disk and secret_memory().
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"
#include "monitor/secret.h"

#include "state.pb.h"

namespace mandos::monitor {

/// SHA-256 (FIPS 180-4) of the parts one after the other.
std::array<std::uint8_t, 32> sha256(std::initializer_list<std::span<const unsigned char>> parts);

/// The saved state of one client.
struct Saved {
  /// `boot_id` is empty; `saved_since_boot` is missing if it was written in another boot.
  state::SavedClient client;
  SecretPtr secret;  // null unless client.own_secret()
};

/// The file name for a client. No two names of clients have the same one.
std::string state_file_name(std::string_view client);

/// Identifies the directory at a path, unless that is a link: no two have the same. Empty: none.
std::string directory_at(const std::string& path);

class StateStore {
 public:
  /// A store without a directory: write() and remove() fail with the reason `why`.
  explicit StateStore(std::string why) : why_(std::move(why)) {}
  /// Opens the directory `path`, and makes it if it is missing. If another user owns it, as _mandos
  /// does after the Python server, takes it over (to our user, mode 0700), for which it needs
  /// CAP_CHOWN and CAP_FOWNER. An Error says what is wrong and what to do. With `read`, two more
  /// things are errors: clients' files in a directory that somebody else owned or could write,
  /// because they may be planted; and the Python server's state without any of ours. `in_use`,
  /// unless null, is set if another server uses the directory.
  ///
  /// With `look`, leaves no trace: makes, takes over and locks nothing, and load() neither renames
  /// nor removes anything. A directory that can be made counts as an empty one. One that is in use
  /// is no error; its files come and go.
  static Result<StateStore> open(std::string path, bool read, std::vector<std::string>& warnings,
                                 bool* in_use = nullptr, bool look = false);

  struct Loaded {
    std::map<std::string, Saved> clients;  // by name
    std::set<std::string> damaged;         // file names, from state_file_name()
  };
  /// Reads all state files. A file that fails its checksum is renamed (".damaged") and named in
  /// `warnings`, now and at every start until its client is saved again. If any other file cannot
  /// be used, the Error says which one and what to do. Removes files that a crash left half
  /// written.
  Result<Loaded> load(std::vector<std::string>& warnings) const;
  /// Whether a start could use the directory. Changes nothing.
  Status look() const;
  /// Renames all clients' files (".unrestored") without reading them.
  Status set_all_aside(std::vector<std::string>& warnings) const;

  // The steps of a transaction. FileDisk takes them in an order that survives a power cut. None of
  // them waits for the disk.
  /// The first step: writes a temporary file, which the caller syncs before put(), or discards.
  Result<UniqueFd> write(const Saved& saved) const;
  /// Renames the temporary file to the client's file.
  Status put(std::string_view client) const;
  void discard(std::string_view client) const;
  Status remove(std::string_view client) const;
  /// The directory, to be synced after put() and remove(). -1: there is none.
  int directory() const { return directory_.get(); }
  Error error(int errno_value, std::string_view client) const {
    return file_error(errno_value, state_file_name(client));
  }

 private:
  /// The content of a file, or nothing if it is damaged. An Error if it cannot be used.
  Result<std::optional<Saved>> read(const std::string& file) const;
  Result<std::vector<std::string>> list(std::vector<std::string>* others = nullptr) const;
  Error file_error(int errno_value, std::string_view file) const;

  std::string path_;
  UniqueFd directory_;
  std::string why_;
  std::string boot_id_;  // empty: unknown
  bool looks_ = false;
};

}  // namespace mandos::monitor
