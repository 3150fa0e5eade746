// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/crash_note.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

namespace mandos::networker {

// A new file is all zeros: no note.
struct CrashNote::Record {
  Source source;
  std::atomic<std::uint32_t> written;
};

CrashNote::CrashNote(int fd) {
  constexpr off_t kSize = sizeof(Record);
  struct stat file {};
  // Beyond the end of a file there is memory that kills whoever touches it.
  if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) return;
  if (file.st_size < kSize && ftruncate(fd, kSize) != 0) return;
  void* const memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory != MAP_FAILED) record_ = static_cast<Record*>(memory);
}

CrashNote::~CrashNote() {
  if (record_ != nullptr) munmap(record_, sizeof(Record));
}

std::optional<Source> CrashNote::take() {
  if (record_ == nullptr || record_->written.exchange(0) == 0) return std::nullopt;
  return record_->source;
}

// The order is that in which a signal that ends us would find it: of threads there is one.
void CrashNote::write(const Source& source) {
  if (record_ == nullptr) return;
  record_->source = source;
  record_->written.store(1, std::memory_order_release);
}

void CrashNote::erase() {
  if (record_ != nullptr) record_->written.store(0, std::memory_order_release);
}

}  // namespace mandos::networker
