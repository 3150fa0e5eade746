// SPDX-License-Identifier: GPL-3.0-or-later
// Text for the cells of a terminal, in the encoding of the locale. Text from the bus or the network
// is converted by readable() before it reaches a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mandos::ctl {

/// UTF-8 as characters that take one or two columns each. Everything else becomes '?': control
/// characters, zero-width characters (including bidirectional controls), invalid UTF-8, and what
/// the locale cannot show.
std::wstring readable(std::string_view utf8);
/// Whether the character takes one or two columns in this locale.
bool can_be_shown(wchar_t character);
/// The number of columns that readable text takes.
std::size_t columns_of(std::wstring_view text);
/// Readable text in exactly `columns` columns: padded with blanks, or cut off with '~' at the end.
std::wstring fitted(std::wstring_view text, std::size_t columns);

}  // namespace mandos::ctl
