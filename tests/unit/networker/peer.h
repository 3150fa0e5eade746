// SPDX-License-Identifier: GPL-3.0-or-later
// A Mandos client's half of TLS in memory, as GnuTLS plays it.
#pragma once

#include <gnutls/gnutls.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/test_key.h"

namespace mandos::test {

class Peer {
 public:
  Peer(const KeyPair& key, const std::string& priority, bool request_certificate = false) {
    auto credentials = raw_key_credentials(key);
    if (!credentials) throw std::runtime_error(credentials.error());
    credentials_ = *std::move(credentials);
    gnutls_init(&session_,
                GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_ENABLE_RAWPK | GNUTLS_NO_TICKETS);
    if (gnutls_priority_set_direct(session_, priority.c_str(), nullptr) != 0) {
      throw std::runtime_error(priority);
    }
    gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, credentials_.get());
    if (request_certificate) gnutls_certificate_server_set_request(session_, GNUTLS_CERT_REQUEST);
    gnutls_transport_set_ptr(session_, this);
    gnutls_transport_set_push_function(
        session_, [](gnutls_transport_ptr_t self, const void* data, std::size_t size) {
          static_cast<Peer*>(self)->output_.append(static_cast<const char*>(data), size);
          return static_cast<ssize_t>(size);
        });
    gnutls_transport_set_pull_function(
        session_, [](gnutls_transport_ptr_t self, void* data, std::size_t size) {
          auto& peer = *static_cast<Peer*>(self);
          if (peer.input_.empty()) {
            gnutls_transport_set_errno(peer.session_, EAGAIN);
            return ssize_t{-1};
          }
          size = std::min(size, peer.input_.size());
          std::copy_n(peer.input_.data(), size, static_cast<char*>(data));
          peer.input_.erase(0, size);
          return static_cast<ssize_t>(size);
        });
  }
  ~Peer() { gnutls_deinit(session_); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// What it answers to `received`.
  std::string step(std::string_view received) {
    input_ += received;
    if (!ready_) {
      const int status = gnutls_handshake(session_);
      ready_ = status == 0;
      if (status < 0 && gnutls_error_is_fatal(status) != 0) {
        gnutls_alert_send_appropriate(session_, status);
        failed_ = true;
      }
    }
    std::string some(16384, '\0');
    while (ready_ && !goodbye_) {
      const ssize_t size = gnutls_record_recv(session_, some.data(), some.size());
      if (size < 0) break;
      goodbye_ = size == 0;
      blob_.append(some, 0, static_cast<std::size_t>(size));
    }
    return std::exchange(output_, {});
  }
  /// An encrypted record with `text`.
  std::string say(std::string_view text) {
    gnutls_record_send(session_, text.data(), text.size());
    return std::exchange(output_, {});
  }
  gnutls_session_t session() const { return session_; }
  bool ready() const { return ready_; }
  bool failed() const { return failed_; }
  bool goodbye() const { return goodbye_; }
  const std::string& blob() const { return blob_; }

 private:
  Credentials credentials_;
  gnutls_session_t session_ = nullptr;
  std::string input_;
  std::string output_;
  std::string blob_;
  bool ready_ = false;
  bool failed_ = false;
  bool goodbye_ = false;
};

}  // namespace mandos::test
