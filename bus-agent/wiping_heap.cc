// SPDX-License-Identifier: GPL-3.0-or-later
// Every piece of the heap is overwritten when it is given back. A new secret passes through buffers
// of GDBus that nobody else can wipe; who takes this process over later must not find it there.
// Where the C library or a sanitizer does not let free(3) be replaced, this is nothing.
#include <features.h>

#if defined(__has_feature)  // clang
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MANDOS_SANITIZED_HEAP
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // GCC
#define MANDOS_SANITIZED_HEAP
#endif

#if defined(__GLIBC__) && !defined(MANDOS_SANITIZED_HEAP)
#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

extern "C" {

void free(void* memory) noexcept {
  // That of whoever gave the memory: the C library, or an allocator preloaded before it.
  static void (*next_free)(void*) = nullptr;
  if (next_free == nullptr) {
    next_free = reinterpret_cast<void (*)(void*)>(dlsym(RTLD_NEXT, "free"));
  }
  if (memory == nullptr) return;
  const int error = errno;
  explicit_bzero(memory, malloc_usable_size(memory));
  next_free(memory);
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
