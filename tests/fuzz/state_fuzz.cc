// SPDX-License-Identifier: GPL-3.0-or-later
// Any bytes as the saved state of a client: damaged is said and set aside, and what is taken comes
// back the same from the disk and, merged with clients.conf, keeps to its bounds. The lowest bit of
// the first byte says whether the rest is the file, or what stands behind a checksum that is right.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "monitor/merge.h"
#include "monitor/state.h"
#include "tests/fuzz/folder.h"
#include "tests/support/save_now.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;

constexpr std::string_view kFile = "a.client";

std::string file_content(const Folder& folder) {
  std::ifstream stream(folder.file(kFile), std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string with_checksum(std::string_view content) {
  const auto digest = monitor::sha256({as_bytes(content)});
  return std::string(digest.begin(), digest.end()).append(content);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 65536) return 0;
  static const Folder folder;
  static std::vector<std::string> warnings;
  static const monitor::StateStore store =
      *monitor::StateStore::open(folder.path(), true, warnings);
  warnings.clear();
  const auto rest = text_of(data + 1, size - 1);
  const std::string bytes = (data[0] & 1) == 0 ? std::string(rest) : with_checksum(rest);
  folder.put(kFile, bytes);

  const auto result = store.load(warnings);
  const bool set_aside = access(folder.file("a.client.damaged").c_str(), F_OK) == 0;
  if (!result) {
    require(result.error().find(kFile) != std::string::npos, "an error names its file");
    require(!set_aside && access(folder.file(kFile).c_str(), F_OK) == 0 && warnings.empty(),
            "what stops the start is left as it is");
    require(bytes == with_checksum(std::string_view(bytes).substr(32)), "only of a right checksum");
    return 0;
  }
  const auto& loaded = result->clients;
  require(loaded.size() <= 1, "a file is at most one client");
  require(loaded.empty() == set_aside && loaded.empty() == (warnings.size() == 1) &&
              loaded.empty() == result->damaged.contains(std::string(kFile)),
          "a file is taken, or set aside with a warning");
  if (loaded.empty()) {
    require(warnings[0].find(kFile) != std::string::npos, "a warning names its file", warnings[0]);
    require(unlink(folder.file("a.client.damaged").c_str()) == 0, "unlink");
    return 0;
  }
  const auto& [name, saved] = *loaded.begin();
  require(name == "a" && saved.client.name() == "a", "a file is its own client's");
  require(bytes == with_checksum(std::string_view(bytes).substr(32)), "a checksum is right");
  require((saved.secret != nullptr) == saved.client.own_secret(), "a secret of its own is there");

  // What clients.conf says now is what it said then, or something else, as the input likes.
  const Moment now = Moment::now();
  monitor::ClientSettings file_now;
  file_now.secret = std::make_shared<const monitor::Secret>(as_bytes("the file's secret"));
  if ((data[0] & 2) != 0) {
    file_now.host = "another.example.org";
    file_now.timeout = std::chrono::hours(1);
  }
  const monitor::Client client = monitor::from_saved(saved, file_now, now);
  require(client.settings->secret != nullptr, "a client has a secret");
  const auto wall_bounds = [](const std::optional<WallTime>& time) {
    return !time ||
           (*time >= WallTime{} && *time < std::chrono::sys_days(std::chrono::year(10000) / 1 / 1));
  };
  require(wall_bounds(client.created) && wall_bounds(client.last_enabled) &&
              wall_bounds(client.last_checked_ok) && wall_bounds(client.last_approval_request),
          "a moment can be shown");
  require(!client.expires || (*client.expires - now.boot <= monitor::kLongestDuration &&
                              now.boot - *client.expires <= monitor::kLongestDuration),
          "an expiry stays in range");
  require(!client.decision || (client.decision->until > now.boot &&
                               client.decision->until - now.boot <= monitor::kLongestDuration),
          "an answer that is over does not come back, and none stays for longer than there is");

  // Written anew it is read as the same.
  const auto kept = monitor::to_saved(client, file_now, now);
  require(static_cast<bool>(monitor::test::save(store, {&kept, 1})), "a client can be saved");
  const auto again = store.load(warnings);
  require(again && again->clients.size() == 1 && warnings.empty(), "what was saved is read");
  const auto& back = again->clients.at("a");
  require(back.client.SerializeAsString() == kept.client.SerializeAsString(),
          "what was read is what was saved");
  require((back.secret == nullptr) == (kept.secret == nullptr) &&
              (back.secret == nullptr ||
               std::ranges::equal(back.secret->bytes(), kept.secret->bytes())),
          "a secret survives");
  require(monitor::to_saved(monitor::from_saved(back, file_now, now), file_now, now)
                  .client.SerializeAsString() == kept.client.SerializeAsString(),
          "a client that is kept and taken up again stays as it is");

  // One flipped bit is noticed.
  std::string spoilt = file_content(folder);
  const std::size_t bit = (data[0] / 4 + size * 31) % (spoilt.size() * 8);
  spoilt[bit / 8] = static_cast<char>(spoilt[bit / 8] ^ (1 << bit % 8));
  folder.put(kFile, spoilt);
  const auto damaged = store.load(warnings);
  require(damaged && damaged->clients.empty() && warnings.size() == 1, "damage is noticed");
  require(unlink(folder.file("a.client.damaged").c_str()) == 0, "unlink");
  return 0;
}
