// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/client.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <utility>

#include "common/text.h"

namespace mandos::ctl {
namespace {

constexpr Property kProperties[] = {
    {"Name", "Name", Kind::kText},
    {"Enabled", "Enabled", Kind::kBoolean},
    {"Timeout", "Timeout", Kind::kDuration, true},
    {"LastCheckedOK", "Last Successful Check", Kind::kText},
    {"Created", "Created", Kind::kText},
    {"Interval", "Interval", Kind::kDuration, true},
    {"Host", "Host", Kind::kText, true},
    {"KeyID", "Key ID", Kind::kText},
    {"Fingerprint", "Fingerprint", Kind::kText},
    {"CheckerRunning", "Check Is Running", Kind::kBoolean},
    {"LastEnabled", "Last Enabled", Kind::kText},
    {"ApprovalPending", "Approval Is Pending", Kind::kBoolean},
    {"ApprovedByDefault", "Approved By Default", Kind::kBoolean, true},
    {"LastApprovalRequest", "Last Approval Request", Kind::kText},
    {"ApprovalDelay", "Approval Delay", Kind::kDuration, true},
    {"ApprovalDuration", "Approval Duration", Kind::kDuration, true},
    {"Checker", "Checker", Kind::kText, true},
    {"ExtendedTimeout", "Extended Timeout", Kind::kDuration, true},
    {"Expires", "Expires", Kind::kText},
    {"LastCheckerStatus", "Last Checker Status", Kind::kNumber},
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

/// How many letters were omitted, added, swapped with their neighbor or mistyped, ignoring case
/// (the optimal string alignment distance).
std::size_t distance(std::string_view one, std::string_view other) {
  const auto same = [&](std::size_t i, std::size_t j) { return lower(one[i]) == lower(other[j]); };
  std::vector<std::size_t> before;
  std::vector<std::size_t> above(other.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 0; i < one.size(); ++i) {
    std::vector<std::size_t> row = {i + 1};
    for (std::size_t j = 0; j < other.size(); ++j) {
      const std::size_t replaced = above[j] + (same(i, j) ? 0 : 1);
      row.push_back(std::min({replaced, above[j + 1] + 1, row[j] + 1}));
      if (i > 0 && j > 0 && same(i, j - 1) && same(i - 1, j)) {
        row[j + 1] = std::min(row[j + 1], before[j - 1] + 1);
      }
    }
    before = std::exchange(above, std::move(row));
  }
  return above.back();
}

std::span<const Property> columns(bool verbose) {
  return all_properties().first(verbose ? all_properties().size() : kShortColumns);
}

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80; }

}  // namespace

std::span<const Property> all_properties() { return kProperties; }

const Property* find_property(std::string_view name) {
  const auto* const found = std::ranges::find(kProperties, name, &Property::name);
  return found == std::end(kProperties) ? nullptr : found;
}

ByName::ByName(const std::vector<Client>& clients) {
  for (const auto& client : clients) clients_.emplace(client.name(), &client);
}

const Client* ByName::find(std::string_view name) const {
  const auto found = clients_.find(name);
  return found == clients_.end() ? nullptr : found->second;
}

std::vector<std::string> near_matches(std::string_view name, const std::vector<Client>& clients) {
  constexpr std::size_t kMostLetters = 256;
  std::vector<std::pair<std::size_t, std::string>> found;
  if (name.empty() || name.size() > kMostLetters) return {};
  for (const auto& client : clients) {
    const std::string& other = client.name();
    if (other.size() > kMostLetters) continue;
    // Part of a name, such as a host without its domain, counts as one typing error.
    const std::size_t apart = other.find(name) != std::string::npos ? 1 : distance(name, other);
    if (apart <= std::max<std::size_t>(1, name.size() / 3)) found.emplace_back(apart, other);
  }
  std::ranges::sort(found);
  // The clients of several servers share names.
  found.erase(std::unique(found.begin(), found.end()), found.end());
  std::vector<std::string> names;
  for (auto& [apart, other] : found) {
    if (names.size() < 3) names.push_back(std::move(other));
  }
  return names;
}

std::string no_such_client(std::string_view name, const std::vector<Client>& clients) {
  std::string others;
  for (const auto& other : near_matches(name, clients)) {
    others += concat(others.empty() ? "; did you mean " : " or ", "\"", printable(other), "\"");
  }
  return concat("no client \"", printable(name), "\"", others, others.empty() ? "" : "?");
}

std::string duration_text(std::uint64_t milliseconds) {
  const std::uint64_t seconds = milliseconds / 1000;
  const std::uint64_t days = seconds / 86400;
  std::array<char, 16> clock{};
  std::snprintf(clock.data(), clock.size(), "%02u:%02u:%02u",
                static_cast<unsigned>(seconds / 3600 % 24),
                static_cast<unsigned>(seconds / 60 % 60), static_cast<unsigned>(seconds % 60));
  return days == 0 ? std::string(clock.data()) : concat(days, "T", clock.data());
}

std::string shown(const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "Yes" : "No";
  if (const auto* time = std::get_if<std::uint64_t>(&value)) return duration_text(*time);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  return printable(std::get<std::string>(value));
}

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are control characters as well.
    const bool wide_control = byte == 0xc2 && i + 1 < text.size() &&
                              static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
                              static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (wide_control) ++i;
    if (wide_control || byte < 0x20 || byte == 0x7f) {
      out += '?';
    } else {
      out += text[i];
    }
  }
  return out;
}

std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return !continues(c); }));
}

std::vector<std::string> heading_row(bool verbose) {
  std::vector<std::string> row;
  for (const auto& column : columns(verbose)) row.emplace_back(column.heading);
  return row;
}

std::vector<std::string> row_of(const Client& client, bool verbose) {
  std::vector<std::string> row;
  for (const auto& column : columns(verbose)) row.push_back(shown(client.value(column.name)));
  return row;
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.empty() ? 0 : rows[0].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) out += ' ';
      out += row[i];
      out.append(widths[i] - width(row[i]), ' ');
    }
    out += '\n';
  }
  return out;
}

std::string table(const std::vector<Client>& clients, bool verbose) {
  std::vector<std::vector<std::string>> rows = {heading_row(verbose)};
  for (const auto& client : clients) rows.push_back(row_of(client, verbose));
  return aligned(rows);
}

}  // namespace mandos::ctl
