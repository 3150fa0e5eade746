// SPDX-License-Identifier: GPL-3.0-or-later
// Every piece of the heap is overwritten when it is given back. A new secret passes through buffers
// of GDBus that nobody else can wipe; who takes this process over later must not find it there.
// Where the C library or a sanitizer does not let free(3) be replaced, this is nothing.
#include <features.h>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

extern "C" {

void __libc_free(void* memory);  // NOLINT(bugprone-reserved-identifier): glibc's own free(3)

void free(void* memory) noexcept {
  if (memory == nullptr) return;
  const int error = errno;
  explicit_bzero(memory, malloc_usable_size(memory));
  __libc_free(memory);
  errno = error;
}

void* realloc(void* memory, std::size_t size) noexcept {
  const std::size_t now = memory == nullptr ? 0 : malloc_usable_size(memory);
  if (size <= now && size > now / 2) return memory;
  void* moved = size == 0 && memory != nullptr ? nullptr : std::malloc(size);
  if (moved == nullptr && size != 0) return nullptr;
  if (now > 0 && moved != nullptr) std::memcpy(moved, memory, std::min(now, size));
  free(memory);
  return moved;
}
}
#endif
