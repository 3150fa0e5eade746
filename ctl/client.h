// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace mandos::ctl {

/// A property of a client as the server reports it.
using Value = std::variant<bool, std::uint64_t, std::int64_t, std::string>;

enum class Kind { kText, kBoolean, kDuration, kNumber };

/// One property of a client: a key of --dump-json and a column of the tables.
struct Property {
  std::string_view name;
  std::string_view heading;
  Kind kind;
  bool setting = false;  // a setting of clients.conf, which `restore` and `diff` carry over
};

/// Every property that the tools show, in the order of the columns and of the JSON keys.
std::span<const Property> all_properties();
/// How many of them, from the first one, a table without --verbose has.
inline constexpr std::size_t kShortColumns = 4;
/// Null when there is none of that name.
const Property* find_property(std::string_view name);

/// A client of the server. Bus::clients() returns it only when every property of all_properties()
/// is present and of its kind, so the accessors cannot fail for those.
struct Client {
  std::string path;
  std::map<std::string, Value, std::less<>> properties;

  const std::string& name() const { return text("Name"); }
  const Value& value(std::string_view property) const { return properties.find(property)->second; }
  const std::string& text(std::string_view property) const {
    return std::get<std::string>(value(property));
  }
  bool flag(std::string_view property) const { return std::get<bool>(value(property)); }
  std::uint64_t milliseconds(std::string_view property) const {
    return std::get<std::uint64_t>(value(property));
  }
  std::int64_t number(std::string_view property) const {
    return std::get<std::int64_t>(value(property));
  }
};

/// Finds the clients of a list, which must outlive it, by name; of several with one name the first.
class ByName {
 public:
  explicit ByName(const std::vector<Client>& clients);
  /// Null when there is none of that name.
  const Client* find(std::string_view name) const;

 private:
  std::unordered_map<std::string_view, const Client*> clients_;
};

/// The clients of `clients` whose names look like `name`, best first, at most three.
std::vector<std::string> near_matches(std::string_view name, const std::vector<Client>& clients);
/// The sentence for a name that no client has, with its near matches.
std::string no_such_client(std::string_view name, const std::vector<Client>& clients);

/// "1T02:03:04": days only where there are any; what is below a second is cut off.
std::string duration_text(std::uint64_t milliseconds);
/// A value as the tables and the lists of differences show it.
std::string shown(const Value& value);
/// `text` without control characters, which could move a terminal's cursor: each becomes '?'.
std::string printable(std::string_view text);
/// Columns that `text` takes: its code points.
std::size_t width(std::string_view text);

/// The heading of the table, and the row of a client.
std::vector<std::string> heading_row(bool verbose);
std::vector<std::string> row_of(const Client& client, bool verbose);
/// Lines of `rows`, whose columns are aligned.
std::string aligned(const std::vector<std::vector<std::string>>& rows);
/// The table of mandos-ctl without a command: a heading, then a line for each client.
std::string table(const std::vector<Client>& clients, bool verbose);

}  // namespace mandos::ctl
