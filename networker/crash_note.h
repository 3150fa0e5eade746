// SPDX-License-Identifier: GPL-3.0-or-later
// Whose bytes this process is handling, noted where it outlives the process: when it dies of them,
// those that follow know whom to refuse.
#pragma once

#include <vector>

#include "common/clock.h"
#include "networker/source.h"

namespace mandos::networker {

class CrashNote {
 public:
  /// Maps the file behind `fd`, at first empty, which the supervisor hands to one networker after
  /// the other (memfd_create(2)); `fd` may be closed then. Where that is no file nothing is noted.
  explicit CrashNote(int fd);
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;

  bool kept() const { return record_ != nullptr; }
  /// A source whose bytes a process before us died of, and when its successor found out.
  struct Deadly {
    Source source;
    Instant found;
  };
  /// The latest of them, oldest first. If the process just before us died so, that is the last and
  /// was found `now`: once only. Claims: those processes may have been taken over.
  std::vector<Deadly> take(Instant now);

  /// While it lives, the note names `source`; of nested ones the inner's end is the note's.
  class Handling {
   public:
    Handling(CrashNote& note, const Source& source) : note_(note) { note_.write(source); }
    ~Handling() { note_.erase(); }
    Handling(const Handling&) = delete;
    Handling& operator=(const Handling&) = delete;

   private:
    CrashNote& note_;
  };

 private:
  struct Record;
  void write(const Source& source);
  void erase();

  Record* record_ = nullptr;
};

}  // namespace mandos::networker
