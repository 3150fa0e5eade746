// SPDX-License-Identifier: GPL-3.0-or-later
// Key pairs of Mandos clients, for tests and measurements. GnuTLS makes and judges them, so they
// are a second opinion on what the monitor does with nettle alone.
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "common/result.h"

namespace mandos::test {

/// Ends a GnuTLS object.
template <auto deinit>
struct Deinit {
  template <class Pointer>
  void operator()(Pointer object) const {
    deinit(object);
  }
};
template <class Handle, auto deinit>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Deinit<deinit>>;

using Session = Owned<gnutls_session_t, gnutls_deinit>;
using Credentials = Owned<gnutls_certificate_credentials_t, gnutls_certificate_free_credentials>;
using Priority = Owned<gnutls_priority_t, gnutls_priority_deinit>;

/// GnuTLS's words for `code`, behind `what`.
Error gnutls_error(int code, std::string_view what);

struct KeyPair {
  std::string private_pem;  // PKCS #8
  std::string public_der;   // SubjectPublicKeyInfo
  std::string key_id;       // SHA-256 of public_der, 64 upper-case hexadecimal digits
};

/// The names that generate_key() knows.
inline constexpr std::string_view kKeyTypes[] = {"ed25519", "ed448",   "p256",   "p384",
                                                 "p521",    "rsa2048", "rsa3072"};

Result<KeyPair> generate_key(std::string_view type);

/// Reads every private key of a text with one or more PEM blocks.
Result<std::vector<KeyPair>> parse_keys(std::string_view pem);
Result<std::vector<KeyPair>> load_keys(const std::string& file);

/// Credentials that present `key` as a raw public key (RFC 7250), as a Mandos client does.
Result<Credentials> raw_key_credentials(const KeyPair& key);

/// Credentials that present `key` in a self-signed X.509 certificate, as a Mandos client must not.
Result<Credentials> certificate_credentials(const KeyPair& key);

/// A whole file as text.
Result<std::string> read_file(const std::string& file);

/// A GnuTLS priority string for a client, wide enough for every key type; the server's order of
/// preference decides among the suites, as with the real mandos-client. `groups`: GnuTLS's names,
/// such as "SECP384R1", joined by commas; empty: the usual ones. `certificate_type`: RAWPK or
/// X.509.
std::string client_priority(std::string_view groups = {}, std::string_view version = "TLS1.3",
                            std::string_view certificate_type = "RAWPK");

}  // namespace mandos::test
