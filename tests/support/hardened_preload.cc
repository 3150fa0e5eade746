// SPDX-License-Identifier: GPL-3.0-or-later
// An allocator to preload that makes the system calls of hardened_malloc, which Debian does not
// have: address space is reserved without access and made accessible piece by piece, large blocks
// have guard pages, and what is freed loses its access before it is unmapped. It does not protect
// anything.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kStep = 16 * kPage;
constexpr std::size_t kArena = std::size_t{1} << (sizeof(void*) == 8 ? 34 : 28);
constexpr std::size_t kLargestClass = 14;  // 16 KiB
constexpr std::size_t kReserved = MAP_PRIVATE | MAP_ANONYMOUS;

struct Header {
  std::size_t size;    // that was asked for
  std::size_t offset;  // from the start of the block, or of the mapping of a large one
};
static_assert(sizeof(Header) <= 16);

std::atomic_flag lock = ATOMIC_FLAG_INIT;
char* arena = nullptr;
std::size_t used = 0;
std::size_t accessible = 0;
void* freed[kLargestClass + 1];

class Locked {
 public:
  Locked() {
    while (lock.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~Locked() { lock.clear(std::memory_order_release); }
};

void* reserve(std::size_t size) {
  void* place = mmap(nullptr, size, PROT_NONE, kReserved, -1, 0);
  return place == MAP_FAILED ? nullptr : place;
}

std::size_t class_of(std::size_t size) {
  return static_cast<std::size_t>(std::bit_width(std::max(size, std::size_t{64}) - 1));
}

void* small(std::size_t number) {
  const Locked locked;
  if (void* block = freed[number]) {
    std::memcpy(&freed[number], block, sizeof(void*));
    return block;
  }
  const std::size_t size = std::size_t{1} << number;
  if (arena == nullptr) arena = static_cast<char*>(reserve(kArena));
  if (arena == nullptr || used + size > kArena) return nullptr;
  while (used + size > accessible) {
    if (mprotect(arena + accessible, kStep, PROT_READ | PROT_WRITE) != 0) return nullptr;
    accessible += kStep;
  }
  used += size;
  return arena + used - size;
}

/// Between two guard pages.
void* large(std::size_t size) {
  const std::size_t whole = (size + kPage - 1) / kPage * kPage;
  if (whole < size) return nullptr;
  auto* place = static_cast<char*>(reserve(whole + 2 * kPage));
  if (place == nullptr) return nullptr;
  return mprotect(place + kPage, whole, PROT_READ | PROT_WRITE) == 0 ? place + kPage : nullptr;
}

void* allocate(std::size_t size, std::size_t alignment) {
  alignment = std::max(alignment, sizeof(Header));
  const std::size_t wanted = size + alignment;
  if (wanted < size) return nullptr;
  const std::size_t number = class_of(wanted);
  auto* block = static_cast<char*>(number <= kLargestClass && alignment < kPage ? small(number)
                                                                                : large(wanted));
  if (block == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  const auto start = reinterpret_cast<std::size_t>(block);
  const std::size_t offset =
      (start + sizeof(Header) + alignment - 1) / alignment * alignment - start;
  const Header header{size, number <= kLargestClass && alignment < kPage ? offset : offset | 1};
  std::memcpy(block + offset - sizeof(Header), &header, sizeof(Header));
  return block + offset;
}

Header header_of(const void* memory) {
  Header header;
  std::memcpy(&header, static_cast<const char*>(memory) - sizeof(Header), sizeof(Header));
  return header;
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) noexcept { return allocate(size, 1); }

void free(void* memory) noexcept {
  if (memory == nullptr) return;
  const int kept = errno;
  const Header header = header_of(memory);
  char* block = static_cast<char*>(memory) - (header.offset & ~std::size_t{1});
  if ((header.offset & 1) == 0) {
    std::memset(memory, 0, header.size);
    const Locked locked;
    void*& list = freed[class_of(header.size + sizeof(Header))];
    std::memcpy(block, &list, sizeof(void*));
    list = block;
  } else {
    const std::size_t size =
        (header.size + (header.offset & ~std::size_t{1}) + kPage - 1) / kPage * kPage;
    madvise(block, size, MADV_DONTNEED);
    if (mmap(block, size, PROT_NONE, kReserved | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED) {
      munmap(block - kPage, size + 2 * kPage);
    }
  }
  errno = kept;
}

void* calloc(std::size_t count, std::size_t size) noexcept {
  std::size_t whole = 0;
  void* memory = __builtin_mul_overflow(count, size, &whole) ? nullptr : malloc(whole);
  if (memory == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  // Not memset(), lest the compiler make a calloc() of the two.
  explicit_bzero(memory, whole);
  return memory;
}

void* realloc(void* memory, std::size_t size) noexcept {
  void* grown = malloc(size);
  if (memory == nullptr || grown == nullptr) return grown;
  std::memcpy(grown, memory, std::min(size, header_of(memory).size));
  free(memory);
  return grown;
}

void* memalign(std::size_t alignment, std::size_t size) noexcept {
  return allocate(size, alignment);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return allocate(size, alignment);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
  *memory = allocate(size, alignment);
  return *memory == nullptr ? ENOMEM : 0;
}
std::size_t malloc_usable_size(void* memory) noexcept {
  return memory == nullptr ? 0 : header_of(memory).size;
}
}
