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
  bool setting = false;  // a setting of clients.conf, which `restore` and `diff` include
};

/// Every property that the tools show, in the order of the columns and of the JSON keys.
std::span<const Property> all_properties();
/// The number of these, from the first one, in a table without --verbose.
inline constexpr std::size_t kShortColumns = 4;
/// Null if there is no such property.
const Property* find_property(std::string_view name);

/// A client of the server. Bus::clients() returns it only if every property of all_properties() is
/// present and of its kind, so the accessors cannot fail.
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

/// Finds clients by name in a list, which must outlive this object; for duplicates, the first.
class ByName {
 public:
  explicit ByName(const std::vector<Client>& clients);
  /// Null if there is no such client.
  const Client* find(std::string_view name) const;

 private:
  std::unordered_map<std::string_view, const Client*> clients_;
};

/// The clients whose names are similar to `name`, best match first, at most three.
std::vector<std::string> near_matches(std::string_view name, const std::vector<Client>& clients);
/// The error message for an unknown name, with similar names.
std::string no_such_client(std::string_view name, const std::vector<Client>& clients);

/// "1T02:03:04": days only if there are any; fractions of a second are cut off.
std::string duration_text(std::uint64_t milliseconds);
/// A value as shown in the tables and the lists of differences.
std::string shown(const Value& value);
/// `text` with each control character, which could move the cursor, replaced by '?'.
std::string printable(std::string_view text);
/// The number of columns of `text`: its code points.
std::size_t width(std::string_view text);

/// The heading of the table, and the row of a client.
std::vector<std::string> heading_row(bool verbose);
std::vector<std::string> row_of(const Client& client, bool verbose);
/// Lines of `rows`, with aligned columns.
std::string aligned(const std::vector<std::vector<std::string>>& rows);
/// The table of mandos-ctl without a command: a heading, then one line per client.
std::string table(const std::vector<Client>& clients, bool verbose);

}  // namespace mandos::ctl
