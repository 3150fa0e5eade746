// SPDX-License-Identifier: GPL-3.0-or-later
// Memory that outlives a networker, for its successors: whose bytes it is handling, so that they
// can refuse that source if it crashes, and which sources proved a key, which they must not refuse.
#pragma once

#include <vector>

#include "common/clock.h"
#include "networker/source.h"

namespace mandos::networker {

class CrashNote {
 public:
  /// Maps the file behind `fd` (memfd_create(2)), empty at first, which the supervisor passes to
  /// each networker in turn; `fd` may be closed then. If it is not a file, nothing is noted.
  explicit CrashNote(int fd);
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;

  bool kept() const { return record_ != nullptr; }
  /// A source whose bytes crashed an earlier process, and when its successor found out.
  struct Deadly {
    Source source;
    Instant found;
  };
  /// The latest of them, oldest first. If the previous process crashed like that, the last one was
  /// found `now`, once only. These are claims: those processes may have been compromised.
  std::vector<Deadly> take(Instant now);

  /// A source where a client got its secret, and when that happened last.
  struct Proof {
    Source source;
    Instant last;
  };
  void proved(const Source& source, Instant now);
  /// All that are stored, those of this process included: at least the last 16 and usually all of
  /// 16,384. None is later than `now`. Claims, as above.
  std::vector<Proof> proofs(Instant now) const;

  /// While this object exists, the note names `source`. If nested, the inner one's end clears it.
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
