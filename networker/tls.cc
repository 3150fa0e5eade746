// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/tls.h"

#include <gnutls/crypto.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "proto/networker.h"
namespace mandos::networker {
namespace {

// No session is ever resumed, because a proof requires a full handshake.
constexpr unsigned kFlags = GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS |
                            GNUTLS_ENABLE_RAWPK | GNUTLS_NO_SIGNAL | GNUTLS_KEY_SHARE_TOP;
constexpr char kDefaultPriority[] =
    "SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA";
// A meaningless record for middleboxes (RFC 8446 appendix D.4).
constexpr std::array<unsigned char, 6> kChangeCipherSpec{20, 3, 3, 0, 1, 1};
// From level 9 on, GnuTLS's debug lines contain keys.
constexpr std::uint32_t kMaxDebugLevel = 8;

// GnuTLS passes no user pointer to the log function.
Log*& debug_log() {
  static Log* log = nullptr;
  return log;
}

std::vector<unsigned> listed(int (*list)(gnutls_priority_t, const unsigned**),
                             gnutls_priority_t priority) {
  const unsigned* values = nullptr;
  const int count = list(priority, &values);
  return count <= 0 ? std::vector<unsigned>() : std::vector<unsigned>(values, values + count);
}

int peer_certificate_types(gnutls_priority_t priority, const unsigned** values) {
  return gnutls_priority_certificate_type_list2(priority, values, GNUTLS_CTYPE_SERVER);
}

/// The names of `values`, for an error message.
std::string names(const std::vector<unsigned>& values, const char* (*name)(unsigned)) {
  std::string text;
  for (const unsigned value : values) {
    const char* const known = name(value);
    text += concat(text.empty() ? "" : ", ", known == nullptr ? "unknown" : known);
  }
  return text.empty() ? "nothing" : text;
}

const char* group_name(unsigned value) {
  return gnutls_group_get_name(static_cast<gnutls_group_t>(value));
}

const char* cipher_name(unsigned value) {
  return gnutls_cipher_get_name(static_cast<gnutls_cipher_algorithm_t>(value));
}

/// A suffix for a priority string that allows `values`, so that `first` comes first: `none`, then
/// each value with the prefix `one`. Empty if the string does not allow `first`.
std::string led_by(unsigned first, std::vector<unsigned> values, const char* (*name)(unsigned),
                   std::string_view none, std::string_view one) {
  const auto found = std::ranges::find(values, first);
  if (found == values.end()) return {};
  std::rotate(values.begin(), found, found + 1);
  std::string text(none);
  for (const unsigned value : values) text += concat(one, name(value));
  return text;
}

/// The priority string with the cheapest algorithms first, if it leaves the order to GnuTLS, which
/// starts with SECP256R1 and AES-256-GCM; the peer takes our first one that it knows. With "@", the
/// order is that of the system's administrator.
std::string cheapest_first(const std::string& priority, gnutls_priority_t parsed) {
  std::string upper = priority;  // GnuTLS ignores case
  std::ranges::transform(upper, upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  const auto says = [&](std::string_view word) { return upper.find(word) != upper.npos; };
  if (priority.starts_with('@')) return priority;
  std::string text = priority;
  // The key share of the first group is offered. X25519 costs three quarters of SECP256R1 at the
  // same strength.
  if (!says("GROUP-") && !says("CURVE-")) {
    text += led_by(GNUTLS_GROUP_X25519, listed(&gnutls_priority_group_list, parsed), &group_name,
                   ":-GROUP-ALL", ":+GROUP-");
  }
  // AES-256-GCM needs SHA-384 in the key schedule and for every hash of the handshake. This is 10 %
  // of the total cost. ChaCha20-Poly1305 is as strong and uses SHA-256 (RFC 8446, appendix B.4).
  const auto ciphers = listed(&gnutls_priority_cipher_list, parsed);
  if (!ciphers.empty() && ciphers.front() == GNUTLS_CIPHER_AES_256_GCM && !says("CIPHER-") &&
      std::ranges::none_of(ciphers, says, &cipher_name)) {
    text += led_by(GNUTLS_CIPHER_CHACHA20_POLY1305, ciphers, &cipher_name, ":-CIPHER-ALL", ":+");
  }
  return text;
}

}  // namespace

Status Tls::warm_up() {
  if (const int failed = gnutls_global_init(); failed != 0) {
    return Error{concat("GnuTLS: ", gnutls_strerror(failed))};
  }
  std::array<unsigned char, 32> random{};
  if (const int failed = gnutls_rnd(GNUTLS_RND_KEY, random.data(), random.size()); failed != 0) {
    return Error{concat("GnuTLS: random generator: ", gnutls_strerror(failed))};
  }
  // The system-wide GnuTLS configuration may make the default unusable; this is reported when the
  // actual priority string is known.
  gnutls_priority_t priority = nullptr;
  if (gnutls_priority_init(&priority, kDefaultPriority, nullptr) == 0) {
    gnutls_priority_deinit(priority);
  }
  return Ok{};
}

Result<std::unique_ptr<Tls>> Tls::make(const std::string& priority) {
  std::unique_ptr<Tls> tls(new Tls);
  gnutls_certificate_credentials_t credentials = nullptr;
  if (const int failed = gnutls_certificate_allocate_credentials(&credentials); failed != 0) {
    return Error{concat("GnuTLS: ", gnutls_strerror(failed))};
  }
  tls->credentials_.reset(credentials);

  const std::string what =
      concat("found priority string '", std::string_view(priority).substr(0, 200), "', which");
  gnutls_priority_t parsed = nullptr;
  const char* where = nullptr;
  if (const int failed = gnutls_priority_init(&parsed, priority.c_str(), &where); failed != 0) {
    return Error{concat(what, " GnuTLS does not accept",
                        where == nullptr || *where == '\0' || where == priority.c_str()
                            ? ""
                            : concat(" from '", std::string_view(where).substr(0, 200), "' on"),
                        " (", gnutls_strerror(failed),
                        "); leave it out for the default, see mandos.conf(5)")};
  }
  tls->priority_.reset(parsed);
  gnutls_priority_t reordered = nullptr;
  if (gnutls_priority_init(&reordered, cheapest_first(priority, parsed).c_str(), nullptr) == 0) {
    tls->priority_.reset(parsed = reordered);
  }

  const auto protocols = listed(&gnutls_priority_protocol_list, parsed);
  if (protocols != std::vector<unsigned>{GNUTLS_TLS1_3}) {
    return Error{concat(what,
                        " must allow TLS 1.3 and no other version ('!VERS-ALL:+VERS-TLS1.3')"
                        ", but allows ",
                        names(protocols, [](unsigned value) {
                          return gnutls_protocol_get_name(static_cast<gnutls_protocol_t>(value));
                        }))};
  }
  const auto types = listed(&peer_certificate_types, parsed);
  if (types != std::vector<unsigned>{GNUTLS_CRT_RAWPK}) {
    return Error{concat(what,
                        " must allow raw public keys and no other certificates "
                        "('!CTYPE-X.509:+CTYPE-RAWPK'), but allows ",
                        names(types, [](unsigned value) {
                          return gnutls_certificate_type_get_name(
                              static_cast<gnutls_certificate_type_t>(value));
                        }))};
  }
  // The real test: whether a first message can be created.
  TlsSession trial(*tls, std::array<unsigned char, door::networker::kNonceSize>{});
  const bool possible = trial.handshake({}) == TlsSession::Step::kMore && !tls->output.empty();
  tls->output.clear();
  if (!possible) return Error{concat(what, " cannot be used: ", trial.problem())};
  return tls;
}

void Tls::set_debug(Log& log, std::uint32_t level) {
  debug_log() = &log;
  gnutls_global_set_log_function([](int at, const char* line) {
    std::string_view text(line);
    if (text.ends_with('\n')) text.remove_suffix(1);
    debug_log()->debug("GnuTLS ", at, ": ", escaped(text));
  });
  gnutls_global_set_log_level(static_cast<int>(std::min(level, kMaxDebugLevel)));
}

TlsSession::TlsSession(Tls& tls, Bytes nonce) : tls_(tls) {
  error_ = gnutls_init(&session_, kFlags);
  if (error_ != 0) return;
  gnutls_session_set_ptr(session_, this);
  gnutls_transport_set_ptr(session_, this);
  gnutls_transport_set_push_function(session_, &push);
  gnutls_transport_set_pull_function(session_, &pull);
  gnutls_handshake_set_hook_function(session_, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_PRE, &hook);
  gnutls_handshake_set_max_packet_length(session_, door::networker::kLongestTranscript);
  const gnutls_datum_t random{const_cast<unsigned char*>(nonce.data()),
                              static_cast<unsigned>(nonce.size())};
  for (const int failed :
       {gnutls_priority_set(session_, tls.priority()),
        gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, tls.credentials()),
        gnutls_handshake_set_random(session_, &random)}) {
    if (failed != 0) error_ = failed;
  }
}

TlsSession::~TlsSession() {
  if (session_ != nullptr) gnutls_deinit(session_);
}

TlsSession::Step TlsSession::handshake(Bytes received) {
  received_ = received;
  // A warning uses up received bytes, so this ends.
  while (error_ == 0) {
    error_ = gnutls_handshake(session_);
    if (error_ == GNUTLS_E_AGAIN) {
      error_ = 0;
      return Step::kMore;
    }
    if (error_ == 0 && transcript_.complete()) return Step::kDone;
    if (error_ == 0) error_ = GNUTLS_E_UNEXPECTED_HANDSHAKE_PACKET;
    if (error_ == GNUTLS_E_WARNING_ALERT_RECEIVED && !received_.empty()) error_ = 0;
  }
  if (session_ != nullptr) gnutls_alert_send_appropriate(session_, error_);
  return Step::kFailed;
}

bool TlsSession::send(Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = gnutls_record_send(session_, bytes.data(), bytes.size());
    if (sent <= 0) {
      error_ = static_cast<int>(sent);
      return false;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

void TlsSession::say_goodbye() { gnutls_bye(session_, GNUTLS_SHUT_WR); }

std::string TlsSession::problem() const {
  if (error_ != GNUTLS_E_FATAL_ALERT_RECEIVED && error_ != GNUTLS_E_WARNING_ALERT_RECEIVED) {
    return gnutls_strerror(error_);
  }
  const char* const alert = gnutls_alert_get_name(gnutls_alert_get(session_));
  return concat("the peer says: ", alert == nullptr ? "unknown alert" : alert);
}

ssize_t TlsSession::push(void* self, const void* data, std::size_t size) {
  auto& output = static_cast<TlsSession*>(self)->tls_.output;
  auto& held_back = static_cast<TlsSession*>(self)->held_back_;
  const Bytes bytes(static_cast<const unsigned char*>(data), size);
  if (std::ranges::equal(bytes, kChangeCipherSpec)) {
    held_back = kChangeCipherSpec;
    return static_cast<ssize_t>(size);
  }
  output.insert(output.end(), held_back.begin(), held_back.end());
  held_back = {};
  output.insert(output.end(), bytes.begin(), bytes.end());
  return static_cast<ssize_t>(size);
}

ssize_t TlsSession::pull(void* self, void* data, std::size_t size) {
  auto* session = static_cast<TlsSession*>(self);
  auto& received = session->received_;
  if (received.empty()) {
    gnutls_transport_set_errno(session->session_, EAGAIN);
    return -1;
  }
  size = std::min(size, received.size());
  std::memcpy(data, received.data(), size);
  received = received.subspan(size);
  return static_cast<ssize_t>(size);
}

int TlsSession::hook(gnutls_session_t session, unsigned type, unsigned, unsigned,
                     const gnutls_datum_t* message) {
  auto* self = static_cast<TlsSession*>(gnutls_session_get_ptr(session));
  // If the size is 0, the pointer may be null.
  return self->transcript_.record(type, {message->data, message->size})
             ? 0
             : GNUTLS_E_HANDSHAKE_TOO_LARGE;
}

}  // namespace mandos::networker
