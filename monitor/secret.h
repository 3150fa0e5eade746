// SPDX-License-Identifier: GPL-3.0-or-later
// Memory for secrets: not swapped, not in core dumps, wiped when given back and, where the kernel
// has memfd_secret(2), unreadable by the rest of the kernel too.
#pragma once

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>

#include "common/result.h"

namespace mandos::monitor {

/// The process's memory for secrets, which wipes everything that is given back. Throws
/// std::bad_alloc if no page can be locked (RLIMIT_MEMLOCK, setrlimit(2)).
std::pmr::memory_resource& secret_memory();
inline constexpr const char* kNoSecretMemory =
    "no memory could be locked for secrets (RLIMIT_MEMLOCK)";

/// How secret_memory() is protected here: "memfd_secret", or "mlock" with the reason why the
/// kernel does not do better.
std::string secret_memory_kind();

/// A string whose characters lie in secret_memory().
using SecretString = std::pmr::string;
inline SecretString secret_string() { return SecretString(&secret_memory()); }

/// A client's secret: bytes that are neither copied nor printed.
class Secret {
 public:
  explicit Secret(std::span<const unsigned char> bytes);
  ~Secret() { secret_memory().deallocate(data_, size_, 1); }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  std::span<const unsigned char> bytes() const { return {data_, size_}; }

 private:
  unsigned char* data_;
  std::size_t size_;
};
using SecretPtr = std::shared_ptr<const Secret>;

}  // namespace mandos::monitor
