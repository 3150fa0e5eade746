// SPDX-License-Identifier: GPL-3.0-or-later
// A Mandos client, that is a TLS server, which keeps what it has to send until it is told what
// shall become of it, and can be made to lie in the midst of its handshake.
#pragma once

#include <gnutls/gnutls.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "tests/fuzz/input.h"
#include "tests/support/test_key.h"

namespace mandos::fuzz {

class TlsServer {
 public:
  enum Kind : unsigned { kEd25519, kP256, kEd448, kKinds };

  /// With `retry` it wants another key share than it is offered.
  TlsServer(unsigned kind, bool retry) {
    gnutls_session_t session = nullptr;
    require(gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS |
                                      GNUTLS_ENABLE_RAWPK | GNUTLS_NO_SIGNAL) == 0,
            "gnutls_init");
    session_.reset(session);
    gnutls_priority_set(session, priority(retry));
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials(kind));
    gnutls_session_set_ptr(session, this);
    gnutls_transport_set_ptr(session, this);
    gnutls_transport_set_push_function(session, &push);
    gnutls_transport_set_pull_function(session, &pull);
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_PRE, &hook);
  }

  /// What it was sent, and what it wants to send: the caller's to fill and to take.
  std::string inbox;
  std::string outbox;

  /// Goes on with its handshake, or reads.
  void work() {
    if (state_ == GNUTLS_E_AGAIN) state_ = gnutls_handshake(session_.get());
    if (state_ != 0) {
      if (gnutls_error_is_fatal(state_) == 0) state_ = GNUTLS_E_AGAIN;
      return;
    }
    char buffer[4096];
    ssize_t size = 0;
    while ((size = gnutls_record_recv(session_.get(), buffer, sizeof buffer)) > 0) {
      received_.append(buffer, static_cast<std::size_t>(size));
    }
    if (size == 0) closed_ = true;
  }
  bool complete() const { return state_ == 0; }
  const std::string& received() const { return received_; }
  /// The other end said close_notify.
  bool closed() const { return closed_; }

  /// In the next message of `type` that it sends, `bits` of the byte at `place` are turned over,
  /// before it is hashed, signed and encrypted.
  void spoil(unsigned type, std::size_t place, std::uint8_t bits) {
    spoilt_type_ = type;
    spoilt_place_ = place;
    spoilt_bits_ = bits;
  }
  /// A message was spoilt.
  bool has_lied() const { return has_lied_; }

 private:
  static gnutls_priority_t priority(bool retry) {
    static const auto make = [](const std::string& text) {
      gnutls_priority_t made = nullptr;
      require(gnutls_priority_init(&made, text.c_str(), nullptr) == 0, "priority");
      return test::Priority(made);
    };
    static const test::Priority normal = make(test::client_priority());
    static const test::Priority other = make(test::client_priority("SECP384R1"));
    return (retry ? other : normal).get();
  }
  static gnutls_certificate_credentials_t credentials(unsigned kind) {
    static const auto make = [](std::string_view type) {
      const auto key = test::generate_key(type);
      require(static_cast<bool>(key), "key");
      auto made = test::raw_key_credentials(*key);
      require(static_cast<bool>(made), "credentials");
      return *std::move(made);
    };
    static const test::Credentials all[kKinds] = {make("ed25519"), make("p256"), make("ed448")};
    return all[kind % kKinds].get();
  }

  static ssize_t push(gnutls_transport_ptr_t self, const void* data, std::size_t size) {
    static_cast<TlsServer*>(self)->outbox.append(static_cast<const char*>(data), size);
    return static_cast<ssize_t>(size);
  }
  static ssize_t pull(gnutls_transport_ptr_t self, void* data, std::size_t size) {
    auto& server = *static_cast<TlsServer*>(self);
    if (server.inbox.empty()) {
      gnutls_transport_set_errno(server.session_.get(), EAGAIN);
      return -1;
    }
    size = std::min(size, server.inbox.size());
    std::memcpy(data, server.inbox.data(), size);
    server.inbox.erase(0, size);
    return static_cast<ssize_t>(size);
  }
  // GnuTLS calls this before it hashes a message, and the message is its own copy.
  static int hook(gnutls_session_t session, unsigned type, unsigned, unsigned incoming,
                  const gnutls_datum_t* message) {
    auto& server = *static_cast<TlsServer*>(gnutls_session_get_ptr(session));
    if (incoming == 0 && type == server.spoilt_type_ && message->size > 0 &&
        server.spoilt_bits_ != 0) {
      message->data[server.spoilt_place_ % message->size] ^= server.spoilt_bits_;
      server.spoilt_bits_ = 0;
      server.has_lied_ = true;
    }
    return 0;
  }

  test::Session session_;
  int state_ = GNUTLS_E_AGAIN;
  std::string received_;
  bool closed_ = false;
  unsigned spoilt_type_ = 0;
  std::size_t spoilt_place_ = 0;
  std::uint8_t spoilt_bits_ = 0;
  bool has_lied_ = false;
};

}  // namespace mandos::fuzz
