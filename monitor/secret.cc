// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/secret.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "common/unique_fd.h"

#ifndef SYS_memfd_secret
#if defined(__x86_64__) || defined(__aarch64__) || defined(__riscv)
#define SYS_memfd_secret 447  // the same on every architecture that has it
#endif
#endif

namespace mandos::monitor {
namespace {

std::size_t whole_pages(std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

/// Allocates locked pages directly from the kernel.
class SecretPages final : public std::pmr::memory_resource {
 public:
  SecretPages() {
#ifdef SYS_memfd_secret
    const UniqueFd probe(static_cast<int>(syscall(SYS_memfd_secret, 0)));
    memfd_secret_errno = probe ? 0 : errno;
#endif
  }
  int memfd_secret_errno = ENOSYS;

 private:
  void* do_allocate(std::size_t size, std::size_t) override {
    size = whole_pages(size);
    void* pages = MAP_FAILED;
    if (memfd_secret_errno == 0) {
#ifdef SYS_memfd_secret
      const UniqueFd fd(static_cast<int>(syscall(SYS_memfd_secret, 0)));
      if (fd && ftruncate(fd.get(), static_cast<off_t>(size)) == 0) {
        pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
      }
#endif
    } else {
      pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (pages != MAP_FAILED && mlock(pages, size) != 0) {
        munmap(pages, size);
        pages = MAP_FAILED;
      }
    }
    if (pages == MAP_FAILED) throw std::bad_alloc();
    madvise(pages, size, MADV_DONTDUMP);  // secretmem is never dumped anyway
    return pages;
  }

  void do_deallocate(void* pages, std::size_t size, std::size_t) override {
    munmap(pages, whole_pages(size));
  }

  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

/// Allocates small blocks from those pages and wipes them when they are freed.
class SecretMemory final : public std::pmr::memory_resource {
 public:
  const SecretPages& pages() const { return pages_; }

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    return pool_.allocate(size, alignment);
  }
  void do_deallocate(void* memory, std::size_t size, std::size_t alignment) override {
    explicit_bzero(memory, size);
    pool_.deallocate(memory, size, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  SecretPages pages_;
  // Large blocks, such as the text of clients.conf, go back to the kernel when they are freed.
  std::pmr::unsynchronized_pool_resource pool_{{.largest_required_pool_block = 64 << 10}, &pages_};
};

// The only object with process lifetime. It is never destroyed, since secrets may exist until exit,
// when the kernel clears the pages.
SecretMemory& memory() {
  static auto* instance = new SecretMemory;
  return *instance;
}

}  // namespace

std::pmr::memory_resource& secret_memory() { return memory(); }

std::string secret_memory_kind() {
  const int why = memory().pages().memfd_secret_errno;
  if (why == 0) return "memfd_secret";
  return concat("mlock (memfd_secret: ", std::strerror(why), ")");
}

Secret::Secret(std::span<const unsigned char> bytes)
    : data_(static_cast<unsigned char*>(secret_memory().allocate(bytes.size(), 1))),
      size_(bytes.size()) {
  std::memcpy(data_, bytes.data(), bytes.size());
}

}  // namespace mandos::monitor
