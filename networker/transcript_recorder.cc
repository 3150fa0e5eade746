// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/transcript_recorder.h"

#include <gnutls/gnutls.h>

#include "proto/networker.h"
namespace mandos::networker {

bool TranscriptRecorder::record(unsigned type, std::span<const unsigned char> body) {
  constexpr std::size_t kHeader = 4;
  // A record type of its own and not a handshake message, sent for middleboxes (RFC 8446 appendix
  // D.4); GnuTLS passes it to the hook all the same.
  if (complete_ || type == GNUTLS_HANDSHAKE_CHANGE_CIPHER_SPEC) return true;
  // On the wire, a HelloRetryRequest is a ServerHello (RFC 8446 section 4.1.4).
  if (type == GNUTLS_HANDSHAKE_HELLO_RETRY_REQUEST) type = GNUTLS_HANDSHAKE_SERVER_HELLO;
  if (type > 0xff || bytes_.size() + kHeader + body.size() > door::networker::kLongestTranscript)
    return false;
  bytes_ += {static_cast<char>(type), static_cast<char>(body.size() >> 16),
             static_cast<char>(body.size() >> 8), static_cast<char>(body.size())};
  bytes_.append(body.begin(), body.end());
  complete_ = type == GNUTLS_HANDSHAKE_CERTIFICATE_VERIFY;
  return true;
}

}  // namespace mandos::networker
