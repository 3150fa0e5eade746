// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <glib.h>

#include <functional>
#include <utility>

namespace mandos::bus_agent {

/// Calls `function` in the main loop, after `delay_ms` milliseconds. Returns its source, for
/// g_source_remove().
inline guint run_after(unsigned delay_ms, std::function<void()> function) {
  auto* data = new std::function<void()>(std::move(function));
  const auto run = [](gpointer pointer) -> gboolean {
    (*static_cast<std::function<void()>*>(pointer))();
    return G_SOURCE_REMOVE;
  };
  const auto release = [](gpointer pointer) {
    delete static_cast<std::function<void()>*>(pointer);
  };
  if (delay_ms == 0) {
    return g_idle_add_full(G_PRIORITY_DEFAULT, run, data, release);
  }
  return g_timeout_add_full(G_PRIORITY_DEFAULT, delay_ms, run, data, release);
}

}  // namespace mandos::bus_agent
