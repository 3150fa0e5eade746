// SPDX-License-Identifier: GPL-3.0-or-later
// What outlives a networker, for those that follow: whose bytes it is handling, so that they know
// whom to refuse when it dies of them, and which sources proved a key, whom they must not refuse.
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

  /// A source where a client got its secret, and when that last was.
  struct Proof {
    Source source;
    Instant last;
  };
  void proved(const Source& source, Instant now);
  /// All that are kept, also of this process: at least the last 16 and usually all of 16,384. None
  /// is later than `now`. Claims, as above.
  std::vector<Proof> proofs(Instant now) const;

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
