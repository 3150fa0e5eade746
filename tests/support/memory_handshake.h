// SPDX-License-Identifier: GPL-3.0-or-later
// A TLS 1.3 handshake between the two ends that Mandos has, in memory, and its transcript.
#pragma once

#include <gnutls/gnutls.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "tests/support/test_key.h"
#include "tests/support/transcript_builder.h"

namespace mandos::test {

/// The default priority string of Mandos, server and client.
inline const std::string kMandosPriority =
    "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA";

struct MemoryHandshake {
  ByteVector nonce;
  std::string mandos_server = kMandosPriority;  // priority of the TLS client
  std::string mandos_client = kMandosPriority;  // priority of the TLS server
  bool force_retry = false;                     // the TLS client's first key share does not suit
};

namespace internal {

struct End {
  Session session;
  std::string inbox;
  End* peer = nullptr;
  ByteVector transcript;
  bool complete = false;

  static ssize_t push(gnutls_transport_ptr_t self, const void* data, std::size_t size) {
    static_cast<End*>(self)->peer->inbox.append(static_cast<const char*>(data), size);
    return static_cast<ssize_t>(size);
  }
  static ssize_t pull(gnutls_transport_ptr_t self, void* data, std::size_t size) {
    End& end = *static_cast<End*>(self);
    if (end.inbox.empty()) {
      gnutls_transport_set_errno(end.session.get(), EAGAIN);
      return -1;
    }
    const std::size_t taken = std::min(size, end.inbox.size());
    std::memcpy(data, end.inbox.data(), taken);
    end.inbox.erase(0, taken);
    return static_cast<ssize_t>(taken);
  }
  static int hook(gnutls_session_t session, unsigned type, unsigned when, unsigned,
                  const gnutls_datum_t* message) {
    End& end = *static_cast<End*>(gnutls_session_get_ptr(session));
    if (when != GNUTLS_HOOK_PRE || end.complete) return 0;
    const unsigned char wire_type =
        type == GNUTLS_HANDSHAKE_HELLO_RETRY_REQUEST ? 2 : static_cast<unsigned char>(type);
    const ByteVector body(message->data, message->data + message->size);
    end.transcript = join({end.transcript, {wire_type}, prefixed(3, body)});
    end.complete = type == GNUTLS_HANDSHAKE_CERTIFICATE_VERIFY;
    return 0;
  }
};

}  // namespace internal

/// The transcript up to and with CertificateVerify, as the TLS client saw it; the handshake itself
/// is completed, so both ends of GnuTLS have found it good.
inline Result<ByteVector> run_handshake(const KeyPair& key, const MemoryHandshake& options) {
  auto server_credentials = raw_key_credentials(key);
  if (!server_credentials) return Error{server_credentials.error()};
  gnutls_certificate_credentials_t raw_credentials = nullptr;
  gnutls_certificate_allocate_credentials(&raw_credentials);
  const Credentials client_credentials(raw_credentials);

  std::array<internal::End, 2> ends;
  for (const bool is_server : {false, true}) {
    internal::End& end = ends.at(is_server ? 1 : 0);
    end.peer = &ends.at(is_server ? 0 : 1);
    gnutls_session_t session = nullptr;
    const unsigned one_share = options.force_retry ? unsigned{GNUTLS_KEY_SHARE_TOP} : 0;
    gnutls_init(&session, (is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK |
                              GNUTLS_NO_TICKETS | GNUTLS_ENABLE_RAWPK | one_share);
    end.session.reset(session);
    std::string priority = is_server ? options.mandos_client : options.mandos_server;
    if (options.force_retry) {
      // The client has the server's only group, but offers no share of it.
      priority += is_server ? ":-GROUP-ALL:+GROUP-SECP384R1"
                            : ":-GROUP-ALL:+GROUP-SECP256R1:+GROUP-SECP384R1";
    }
    const char* wrong_at = nullptr;
    if (gnutls_priority_set_direct(session, priority.c_str(), &wrong_at) != 0) {
      return Error{concat("priority string wrong at ", wrong_at)};
    }
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
                           is_server ? server_credentials->get() : client_credentials.get());
    gnutls_transport_set_ptr(session, &end);
    gnutls_transport_set_push_function(session, internal::End::push);
    gnutls_transport_set_pull_function(session, internal::End::pull);
    gnutls_session_set_ptr(session, &end);
  }
  gnutls_session_t client = ends[0].session.get();
  const gnutls_datum_t random = {const_cast<unsigned char*>(options.nonce.data()),
                                 static_cast<unsigned>(options.nonce.size())};
  if (gnutls_handshake_set_random(client, &random) != 0) return Error{"nonce not accepted"};
  gnutls_handshake_set_hook_function(client, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_BOTH,
                                     internal::End::hook);

  std::array<int, 2> state = {GNUTLS_E_AGAIN, GNUTLS_E_AGAIN};
  for (int round = 0; round < 100 && state != std::array<int, 2>{}; ++round) {
    for (const std::size_t i : {0u, 1u}) {
      if (state.at(i) != 0) state.at(i) = gnutls_handshake(ends.at(i).session.get());
      if (gnutls_error_is_fatal(state.at(i)) != 0) return gnutls_error(state.at(i), "handshake");
    }
  }
  if (state != std::array<int, 2>{}) return Error{"handshake does not end"};
  return ends[0].transcript;
}

/// `key` as a signer with a TLS 1.3 signature scheme, by GnuTLS.
inline Result<SigningKey> signing_key(const KeyPair& key, unsigned scheme,
                                      gnutls_sign_algorithm_t algorithm) {
  gnutls_privkey_t raw = nullptr;
  gnutls_privkey_init(&raw);
  const std::shared_ptr<gnutls_privkey_st> private_key(raw, gnutls_privkey_deinit);
  const ByteVector pem = bytes_of(key.private_pem);
  const gnutls_datum_t text = {const_cast<unsigned char*>(pem.data()),
                               static_cast<unsigned>(pem.size())};
  if (const int error =
          gnutls_privkey_import_x509_raw(raw, &text, GNUTLS_X509_FMT_PEM, nullptr, 0)) {
    return gnutls_error(error, "private key");
  }
  return SigningKey{bytes_of(key.public_der), scheme, [=](const ByteVector& content) {
                      const gnutls_datum_t data = {const_cast<unsigned char*>(content.data()),
                                                   static_cast<unsigned>(content.size())};
                      gnutls_datum_t made{};
                      // An empty signature when GnuTLS does not want to: no test accepts that.
                      gnutls_privkey_sign_data2(private_key.get(), algorithm, 0, &data, &made);
                      const ByteVector signature(made.data, made.data + made.size);
                      gnutls_free(made.data);
                      return signature;
                    }};
}

}  // namespace mandos::test
