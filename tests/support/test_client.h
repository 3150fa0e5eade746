// SPDX-License-Identifier: GPL-3.0-or-later
// One connection of a Mandos client, well behaved or not. Whatever the server does, it ends before
// its time limit.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"
#include "tests/support/test_key.h"

namespace mandos::test {

/// How a connection ended.
enum class Outcome {
  kBlob = 0,          // a blob of at least one byte, closed by close_notify
  kUsage = 1,         // nothing was tried
  kNothing = 2,       // handshake complete, then closed by the server without a byte
  kNoHandshake = 3,   // the handshake failed, or the server closed during it
  kClosedEarly = 4,   // closed by the server before its ClientHello
  kTimeout = 5,       // the server neither gave nor closed anything in time
  kNoConnection = 6,  // refused or unreachable
  kHungUp = 7,        // the client hung up where it was told to
  kTruncated = 8,     // bytes came, and the end of the connection without close_notify
};
std::string_view outcome_name(Outcome outcome);

/// Where the client leaves.
enum class HangUp {
  kNever,
  kConnected,    // before it says anything
  kLine,         // after its version line
  kClientHello,  // when the server's ClientHello has come
  kStalled,      // where `stall_after` or `stall_after_server_hello` cuts its handshake off
  kHandshake,    // handshake complete
  kWaiting,      // `wait` after the handshake
  kBlob,         // first bytes of the blob
};

struct ClientOptions {
  std::string host = "::1";
  std::uint16_t port = 0;
  std::string source;                        // address to come from; empty: any
  std::chrono::milliseconds timeout{10000};  // for everything together

  std::string opening = "1\r\n";  // sent first, verbatim
  bool silent = false;            // say nothing at all
  bool endless = false;           // say bytes without a line's end, for ever

  std::string priority = client_priority();
  bool certificate = false;          // an X.509 certificate in place of a raw public key
  bool request_certificate = false;  // ask the server for a certificate (CertificateRequest)
  // The handshake is cut off after so many bytes: the rest is never sent.
  std::optional<std::size_t> stall_after;
  bool stall_after_server_hello = false;
  std::optional<std::size_t> flip_byte;  // invert the lowest bit of this byte of the handshake
  bool key_update = false;               // ask for new keys after the handshake
  std::size_t talk = 0;                  // bytes of application data sent after the handshake

  HangUp hang_up = HangUp::kNever;
  std::chrono::milliseconds wait{0};  // for HangUp::kWaiting
  bool reset = false;                 // hang up by RST instead of FIN

  // Slow reading: at most so many bytes at a time, with a pause before each.
  std::size_t read_size = std::numeric_limits<std::size_t>::max();
  std::chrono::milliseconds read_pause{0};
};

struct ClientReport {
  Outcome outcome = Outcome::kNoConnection;
  std::string detail;          // why, in words
  std::string blob;            // what came, whole or not
  double seconds = 0;          // from connect to the end
  std::string session;         // GnuTLS's description, empty without a complete handshake
  bool hello_retried = false;  // a HelloRetryRequest was sent
  std::size_t bytes_sent = 0;  // of the TLS handshake and after
};

/// Connects and plays its part with `key`, which stays the caller's.
ClientReport run_client(const ClientOptions& options, const KeyPair& key);

}  // namespace mandos::test
