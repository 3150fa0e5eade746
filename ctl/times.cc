// SPDX-License-Identifier: GPL-3.0-or-later
#include "ctl/times.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>

#include "common/text.h"

namespace mandos::ctl {

std::int64_t wall_now() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

std::string time_text(std::int64_t milliseconds) {
  using namespace std::chrono;
  const sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds(milliseconds)};
  const auto day = floor<days>(time);
  const year_month_day date(day);
  const hh_mm_ss clock(time - day);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03d", int{date.year()},
                unsigned{date.month()}, unsigned{date.day()},
                static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()),
                static_cast<int>(clock.subseconds().count()));
  return text.data();
}

std::optional<std::int64_t> parse_time(std::string_view text) {
  using namespace std::chrono;
  constexpr std::string_view kForm = "dddd-dd-ddTdd:dd:dd";
  if (text.size() < kForm.size()) return std::nullopt;
  std::array<int, 6> fields{};  // year, month, day, hour, minute, second
  std::size_t field = 0;
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    if (kForm[i] != 'd') {
      if (text[i] != kForm[i]) return std::nullopt;
      ++field;
    } else if (text[i] < '0' || text[i] > '9') {
      return std::nullopt;
    } else {
      fields[field] = fields[field] * 10 + (text[i] - '0');
    }
  }
  const year_month_day date{year(fields[0]), month(static_cast<unsigned>(fields[1])),
                            day(static_cast<unsigned>(fields[2]))};
  if (!date.ok() || fields[3] > 23 || fields[4] > 59 || fields[5] > 60) return std::nullopt;
  std::int64_t fraction = 0;
  if (text.size() > kForm.size()) {
    if (text[kForm.size()] != '.') return std::nullopt;
    std::string digits(text.substr(kForm.size() + 1));
    digits.resize(3, '0');  // milliseconds
    if (!parse_number(digits, fraction) || fraction < 0) return std::nullopt;
  }
  const auto seconds = sys_days(date).time_since_epoch() + hours(fields[3]) + minutes(fields[4]) +
                       std::chrono::seconds(fields[5]);
  return duration_cast<milliseconds>(seconds).count() + fraction;
}

}  // namespace mandos::ctl
