// SPDX-License-Identifier: GPL-3.0-or-later
// GnuTLS as a TLS client with raw public keys, without system calls of its own: its output is
// collected, and its input is passed in.
#pragma once

#include <gnutls/gnutls.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "common/log.h"
#include "common/result.h"
#include "networker/transcript_recorder.h"

namespace mandos::networker {

using Bytes = std::span<const unsigned char>;

/// Shared by all sessions: credentials, priority, and the buffers of the session in use.
class Tls {
 public:
  /// Makes GnuTLS read all its files and seed its random generator. Call before the jail.
  static Status warm_up();
  /// `priority` is a gnutls_priority_init(3) string that must allow TLS 1.3 and raw public keys of
  /// the peer and nothing else; the Error says what is wrong with it. Needs no file.
  static Result<std::unique_ptr<Tls>> make(const std::string& priority);

  /// Writes GnuTLS's debug lines up to `level` to `log`, which must outlive all sessions. Levels
  /// that would show key material are not used.
  static void set_debug(Log& log, std::uint32_t level);

  gnutls_certificate_credentials_t credentials() const { return credentials_.get(); }
  gnutls_priority_t priority() const { return priority_.get(); }

  /// Output of the session in use. Its user empties it before another session is used.
  std::vector<unsigned char> output;
  /// Buffer for received bytes.
  std::array<unsigned char, 16384> input;

 private:
  template <auto Free>
  struct Deleter {
    template <class T>
    void operator()(T* object) const {
      Free(object);
    }
  };

  Tls() = default;

  std::unique_ptr<std::remove_pointer_t<gnutls_certificate_credentials_t>,
                  Deleter<gnutls_certificate_free_credentials>>
      credentials_;
  std::unique_ptr<std::remove_pointer_t<gnutls_priority_t>, Deleter<gnutls_priority_deinit>>
      priority_;
};

/// One TLS session. Takes about 12 KiB, so it is created only for a peer that has sent something.
class TlsSession {
 public:
  /// `nonce` becomes ClientHello.random (32 bytes). `tls` must outlive the session.
  TlsSession(Tls& tls, Bytes nonce);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  enum class Step { kMore, kDone, kFailed };
  /// Continues the handshake and consumes `received`. kDone: the transcript is complete. kFailed:
  /// problem() says why, and tls.output has an alert for the peer.
  Step handshake(Bytes received);
  /// Encrypts `bytes` into tls.output. If false, problem() says why.
  bool send(Bytes bytes);
  /// Writes close_notify to tls.output.
  void say_goodbye();

  std::string take_transcript() { return transcript_.take(); }
  std::string problem() const;

 private:
  static ssize_t push(void* self, const void* data, std::size_t size);
  static ssize_t pull(void* self, void* data, std::size_t size);
  static int hook(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                  const gnutls_datum_t* message);

  Tls& tls_;
  gnutls_session_t session_ = nullptr;
  Bytes received_;
  // A change_cipher_spec record that goes out with the message behind it, so that it does not cost
  // a packet.
  Bytes held_back_;
  TranscriptRecorder transcript_;
  int error_ = 0;
};

}  // namespace mandos::networker
