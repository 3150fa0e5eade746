// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/test_key.h"

#include <gnutls/crypto.h>
#include <gnutls/x509.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <sstream>
#include <utility>

namespace mandos::test {
namespace {

using PrivateKey = Owned<gnutls_privkey_t, gnutls_privkey_deinit>;
using PublicKey = Owned<gnutls_pubkey_t, gnutls_pubkey_deinit>;
using X509Key = Owned<gnutls_x509_privkey_t, gnutls_x509_privkey_deinit>;
using Certificate = Owned<gnutls_x509_crt_t, gnutls_x509_crt_deinit>;

struct Algorithm {
  std::string_view name;
  gnutls_pk_algorithm_t algorithm;
  unsigned bits;
};
const std::array<Algorithm, std::size(kKeyTypes)> kAlgorithms = {{
    {"ed25519", GNUTLS_PK_EDDSA_ED25519, 256},
    {"ed448", GNUTLS_PK_EDDSA_ED448, 456},
    {"p256", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1)},
    {"p384", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1)},
    {"p521", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP521R1)},
    {"rsa2048", GNUTLS_PK_RSA, 2048},
    {"rsa3072", GNUTLS_PK_RSA, 3072},
}};

gnutls_datum_t datum(const std::string& bytes) {
  return {reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data())),
          static_cast<unsigned>(bytes.size())};
}

/// Takes over what GnuTLS allocated.
std::string taken(gnutls_datum_t from) {
  std::string bytes(reinterpret_cast<const char*>(from.data), from.size);
  gnutls_free(from.data);
  return bytes;
}

Result<X509Key> import_key(const std::string& pem) {
  gnutls_x509_privkey_t raw = nullptr;
  gnutls_x509_privkey_init(&raw);
  X509Key key(raw);
  const gnutls_datum_t text = datum(pem);
  if (const int error = gnutls_x509_privkey_import2(raw, &text, GNUTLS_X509_FMT_PEM, nullptr, 0))
    return gnutls_error(error, "private key");
  return key;
}

Result<KeyPair> describe(gnutls_x509_privkey_t key) {
  KeyPair pair;
  gnutls_datum_t out{};
  if (const int error = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, nullptr,
                                                          GNUTLS_PKCS_PLAIN, &out))
    return gnutls_error(error, "private key");
  pair.private_pem = taken(out);

  gnutls_privkey_t raw_private = nullptr;
  gnutls_pubkey_t raw_public = nullptr;
  gnutls_privkey_init(&raw_private);
  const PrivateKey private_key(raw_private);
  gnutls_pubkey_init(&raw_public);
  const PublicKey public_key(raw_public);
  int error = gnutls_privkey_import_x509(raw_private, key, GNUTLS_PRIVKEY_IMPORT_COPY);
  if (error == 0) error = gnutls_pubkey_import_privkey(raw_public, raw_private, 0, 0);
  if (error == 0) error = gnutls_pubkey_export2(raw_public, GNUTLS_X509_FMT_DER, &out);
  if (error != 0) return gnutls_error(error, "public key");
  pair.public_der = taken(out);

  std::array<unsigned char, 32> digest{};
  gnutls_hash_fast(GNUTLS_DIG_SHA256, pair.public_der.data(), pair.public_der.size(),
                   digest.data());
  for (const unsigned char byte : digest) {
    pair.key_id += "0123456789ABCDEF"[byte >> 4U];
    pair.key_id += "0123456789ABCDEF"[byte & 0xfU];
  }
  return pair;
}

}  // namespace

Error gnutls_error(int code, std::string_view what) {
  return Error{concat(what, ": ", gnutls_strerror(code))};
}

Result<KeyPair> generate_key(std::string_view type) {
  for (const Algorithm& known : kAlgorithms) {
    if (known.name != type) continue;
    gnutls_x509_privkey_t raw = nullptr;
    gnutls_x509_privkey_init(&raw);
    const X509Key key(raw);
    if (const int error = gnutls_x509_privkey_generate(raw, known.algorithm, known.bits, 0))
      return gnutls_error(error, concat("generating a key of type ", type));
    return describe(raw);
  }
  std::string names;
  for (const std::string_view name : kKeyTypes) names += concat(" ", name);
  return Error{concat("unknown key type \"", type, "\", expected one of:", names)};
}

Result<std::vector<KeyPair>> parse_keys(std::string_view pem) {
  static constexpr std::string_view kBegin = "-----BEGIN";
  std::vector<KeyPair> keys;
  for (std::size_t at = pem.find(kBegin); at != std::string_view::npos;) {
    const std::size_t next = pem.find(kBegin, at + kBegin.size());
    const std::string block(pem.substr(at, next == std::string_view::npos ? next : next - at));
    at = next;
    if (block.find("PRIVATE KEY") == std::string::npos) continue;
    auto imported = import_key(block);
    if (!imported) return Error{imported.error()};
    auto pair = describe(imported->get());
    if (!pair) return Error{pair.error()};
    keys.push_back(*std::move(pair));
  }
  if (keys.empty()) return Error{"no private key in PEM form"};
  return keys;
}

Result<std::string> read_file(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) return errno_error(errno, file);
  return text.str();
}

Result<std::vector<KeyPair>> load_keys(const std::string& file) {
  auto text = read_file(file);
  if (!text) return Error{text.error()};
  auto keys = parse_keys(*text);
  if (!keys) return Error{concat(file, ": ", keys.error())};
  return keys;
}

Result<Credentials> raw_key_credentials(const KeyPair& key) {
  gnutls_certificate_credentials_t raw = nullptr;
  gnutls_certificate_allocate_credentials(&raw);
  Credentials credentials(raw);
  // One format holds for both halves, so the public one is wrapped as PEM too.
  const gnutls_datum_t der = datum(key.public_der);
  gnutls_datum_t wrapped{};
  if (const int error = gnutls_pem_base64_encode2("PUBLIC KEY", &der, &wrapped))
    return gnutls_error(error, "public key");
  const std::string public_pem = taken(wrapped);
  const gnutls_datum_t public_text = datum(public_pem);
  const gnutls_datum_t private_text = datum(key.private_pem);
  if (const int error = gnutls_certificate_set_rawpk_key_mem(
          raw, &public_text, &private_text, GNUTLS_X509_FMT_PEM, nullptr, 0, nullptr, 0, 0))
    return gnutls_error(error, "raw public key");
  return credentials;
}

Result<Credentials> certificate_credentials(const KeyPair& key) {
  auto private_key = import_key(key.private_pem);
  if (!private_key) return Error{private_key.error()};
  gnutls_x509_crt_t raw_certificate = nullptr;
  gnutls_x509_crt_init(&raw_certificate);
  const Certificate certificate(raw_certificate);
  static constexpr std::array<unsigned char, 1> kSerial = {1};
  static constexpr std::string_view kName = "test client";
  const std::time_t now = std::time(nullptr);
  gnutls_x509_crt_set_version(raw_certificate, 3);
  gnutls_x509_crt_set_serial(raw_certificate, kSerial.data(), kSerial.size());
  gnutls_x509_crt_set_activation_time(raw_certificate, now - 60);
  gnutls_x509_crt_set_expiration_time(raw_certificate, now + 86400);
  gnutls_x509_crt_set_dn_by_oid(raw_certificate, GNUTLS_OID_X520_COMMON_NAME, 0, kName.data(),
                                static_cast<unsigned>(kName.size()));
  gnutls_x509_crt_set_key(raw_certificate, private_key->get());
  gnutls_certificate_credentials_t raw = nullptr;
  gnutls_certificate_allocate_credentials(&raw);
  Credentials credentials(raw);
  int error = gnutls_x509_crt_sign2(raw_certificate, raw_certificate, private_key->get(),
                                    GNUTLS_DIG_UNKNOWN, 0);
  if (error == 0)
    error = gnutls_certificate_set_x509_key(raw, &raw_certificate, 1, private_key->get());
  if (error != 0) return gnutls_error(error, "certificate");
  return credentials;
}

std::string client_priority(std::string_view groups, std::string_view version,
                            std::string_view certificate_type) {
  std::string priority =
      concat("NORMAL:-VERS-ALL:+VERS-", version, ":-CTYPE-ALL:+CTYPE-", certificate_type);
  if (!groups.empty()) {
    priority += ":-GROUP-ALL";
    while (!groups.empty()) {
      const std::size_t comma = groups.find(',');
      priority += concat(":+GROUP-", groups.substr(0, comma));
      groups.remove_prefix(comma == std::string_view::npos ? groups.size() : comma + 1);
    }
  }
  return priority;
}

}  // namespace mandos::test
