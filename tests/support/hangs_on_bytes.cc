// SPDX-License-Identifier: GPL-3.0-or-later
// Preloaded, it gives the networker a bug that a peer can reach: it loops forever when a handshake
// fails.
#include <gnutls/gnutls.h>

int gnutls_alert_send_appropriate(gnutls_session_t, int) {
  for (volatile int forever = 1; forever != 0;) {
  }
  return 0;
}
