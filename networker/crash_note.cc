// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/crash_note.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/child.h"

namespace mandos::networker {
namespace {

constexpr std::uint32_t kMostDeadly = 64;
// A proof is in the set that its source's hash selects; a new one replaces the oldest one there. On
// average, eight of 16,384 share a set.
constexpr std::size_t kSets = 2048;
constexpr std::size_t kProofsInSet = 16;

/// FNV-1a, mixed. An attacker who finds sources for one set needs a valid key at each.
std::size_t set_of(const Source& source) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](std::uint32_t part) { hash = (hash ^ part) * 0x100000001b3; };
  for (const unsigned char byte : source.address) add(byte);
  add(source.scope);
  return ((hash ^ hash >> 32) * 0x9e3779b97f4a7c15 >> 40) % kSets;
}

}  // namespace

// A new file is all zeros: no note, no deadly source, and no proof.
struct CrashNote::Record {
  // First, because the supervisor clears it to withdraw a note.
  std::atomic<std::uint32_t> written;
  Source source;
  std::uint32_t found;  // total number; the last of them are below
  std::array<Deadly, kMostDeadly> deadly;
  std::array<std::array<Proof, kProofsInSet>, kSets> proofs;
};

CrashNote::CrashNote(int fd) {
  static_assert(offsetof(Record, written) == 0 && sizeof Record::written == kNoteMarkSize);
  constexpr off_t kSize = sizeof(Record);
  struct stat file {};
  // Accessing mapped memory beyond the end of a file kills the process.
  if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) return;
  if (file.st_size < kSize && ftruncate(fd, kSize) != 0) return;
  void* const memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory != MAP_FAILED) record_ = static_cast<Record*>(memory);
}

CrashNote::~CrashNote() {
  if (record_ != nullptr) munmap(record_, sizeof(Record));
}

std::vector<CrashNote::Deadly> CrashNote::take(Instant now) {
  std::vector<Deadly> all;
  if (record_ == nullptr) return all;
  if (record_->written.exchange(0) != 0) {
    record_->deadly.at(record_->found++ % kMostDeadly) = {record_->source, now};
  }
  const std::uint32_t found = record_->found;
  for (std::uint32_t back = std::min(found, kMostDeadly); back > 0; --back) {
    // Stored: a time in the future would otherwise seem new to each process that follows.
    Deadly& each = record_->deadly.at((found - back) % kMostDeadly);
    each.found = std::min(each.found, now);
    all.push_back(each);
  }
  return all;
}

void CrashNote::proved(const Source& source, Instant now) {
  if (record_ == nullptr) return;
  auto& set = record_->proofs.at(set_of(source));
  auto* place = std::ranges::find(set, source, &Proof::source);
  if (place == set.end()) place = std::ranges::min_element(set, {}, &Proof::last);
  *place = {source, now};
}

std::vector<CrashNote::Proof> CrashNote::proofs(Instant now) const {
  std::vector<Proof> all;
  if (record_ == nullptr) return all;
  for (const auto& set : record_->proofs) {
    for (const Proof& proof : set) {
      if (proof.last != Instant()) all.push_back({proof.source, std::min(proof.last, now)});
    }
  }
  return all;
}

// The order in which a signal that kills us would find it: there is only one thread.
void CrashNote::write(const Source& source) {
  if (record_ == nullptr) return;
  record_->source = source;
  record_->written.store(1, std::memory_order_release);
}

void CrashNote::erase() {
  if (record_ != nullptr) record_->written.store(0, std::memory_order_release);
}

}  // namespace mandos::networker
