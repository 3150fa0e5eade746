// SPDX-License-Identifier: GPL-3.0-or-later
// MANDOS_SANITIZED is defined in a build with AddressSanitizer, which has an allocator of its own,
// makes mlock(2) do nothing, and takes several times as long. What such a build cannot show, the
// other does.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define MANDOS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MANDOS_SANITIZED 1
#endif
#endif
