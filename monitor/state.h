// SPDX-License-Identifier: GPL-3.0-or-later
// The state directory: a file for each client, which survives kill -9 and the plug.
//
// A file is: SHA-256 of all that follows, 32 bytes; the length of the message, 4 bytes in the
// machine's order; the message, a SavedClient of proto/state.proto; the client's secret, if it is
// not the one of clients.conf. The secret goes between the disk and secret_memory() without a copy.
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

/// What is kept of one client.
struct Saved {
  /// `boot_id` is empty; `saved_since_boot` is missing if it was written in another boot.
  state::SavedClient client;
  SecretPtr secret;  // null unless client.own_secret()
};

/// A file's name for a client: another one for each, whatever its name.
std::string state_file_name(std::string_view client);

/// Which directory a path leads to, no link followed: another text for each. Empty: to none.
std::string directory_at(const std::string& path);

class StateStore {
 public:
  /// One without a directory: write() and remove() say `why`.
  explicit StateStore(std::string why) : why_(std::move(why)) {}
  /// Opens the directory `path`, makes it if it is missing, and takes it over (to our user, mode
  /// 0700) from another one, which needs CAP_CHOWN and CAP_FOWNER: the Python server leaves it to
  /// _mandos. An Error says what is wrong with it and what to do. That includes clients' files in
  /// a directory that another owned or could write, who may have planted them, unless they are not
  /// to be `read`; and the Python server's state, if there is none of ours. `in_use`, unless null:
  /// set if what is wrong is that another server has it.
  ///
  /// `look`: leaves no trace. Nothing is made, taken over or kept locked, and load() neither
  /// renames nor removes anything. A directory that can be made is as good as one that is empty,
  /// and one that is in use is no error; its files come and go.
  static Result<StateStore> open(std::string path, bool read, std::vector<std::string>& warnings,
                                 bool* in_use = nullptr, bool look = false);

  struct Loaded {
    std::map<std::string, Saved> clients;  // by name
    std::set<std::string> damaged;         // file names, from state_file_name()
  };
  /// Everything that is kept. What was read and fails its checksum is set aside (".damaged") and
  /// named in `warnings`, now and at every start until its client is saved again. An Error, if
  /// there is anything else that cannot be used, says what and what to do. Files that a crash left
  /// half written are removed.
  Result<Loaded> load(std::vector<std::string>& warnings) const;
  /// Whether a start would find here what it needs. Changes nothing.
  Status look() const;
  /// Renames all clients' files (".unrestored"), without a look at what they hold.
  Status set_all_aside(std::vector<std::string>& warnings) const;

  // The steps of a transaction, which FileDisk takes in an order that survives the plug. None of
  // them waits for the disk.
  /// The first: writes a temporary file, which the caller syncs before put() or discards.
  Result<UniqueFd> write(const Saved& saved) const;
  /// In its place from now on.
  Status put(std::string_view client) const;
  void discard(std::string_view client) const;
  Status remove(std::string_view client) const;
  /// To be synced after put() and remove(). -1: there is none.
  int directory() const { return directory_.get(); }
  Error error(int errno_value, std::string_view client) const {
    return file_error(errno_value, state_file_name(client));
  }

 private:
  /// Of a file, either what it holds, or nothing: it is damaged. An Error: it cannot be used.
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
