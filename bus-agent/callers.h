// SPDX-License-Identifier: GPL-3.0-or-later
// Queues of method calls, one per caller, served in turn: a caller that never stops calling delays
// only itself.
#pragma once

#include <gio/gio.h>

#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

namespace mandos::bus_agent {

struct Unref {
  void operator()(void* object) const { g_object_unref(object); }
};
using Message = std::unique_ptr<GDBusMessage, Unref>;

/// How much of its caller's share an admitted call takes until it is answered, in bytes: about the
/// memory that GLib uses for it.
std::size_t weight(GDBusMessage* call);

/// Limits of unanswered calls, in bytes; beyond them, no more calls are admitted.
class Shares {
 public:
  /// False: the caller, or all callers together, have too much unanswered.
  bool let_in(GDBusMessage* call);
  /// A call that was admitted has been answered or dropped.
  void answered(const std::string& caller, std::size_t weight);
  void clear();

 private:
  std::unordered_map<std::string, std::size_t> unanswered_;
  std::size_t all_unanswered_ = 0;
};

class Callers {
 public:
  void add(Message call);
  /// The first call of the next caller, who then goes to the end of the line. Not if idle().
  Message next();
  /// Undoes next(). With `hold`, the caller is not served until it is released.
  void put_back(Message call, bool hold);
  void release(const std::string& caller);
  /// Removes everything of a caller.
  std::deque<Message> drop(const std::string& caller);
  void clear();
  bool idle() const { return line_.empty(); }

 private:
  void line_up(const std::string& name);

  struct Caller {
    std::deque<Message> calls;
    bool held = false;
    bool in_line = false;
  };
  std::unordered_map<std::string, Caller> callers_;
  std::list<std::string> line_;  // callers that have calls and are not held
};

}  // namespace mandos::bus_agent
