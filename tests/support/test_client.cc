// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/test_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>
#include <utility>

#include "common/unique_fd.h"

namespace mandos::test {
namespace {

using Clock = std::chrono::steady_clock;
using AddressList = Owned<addrinfo*, freeaddrinfo>;

class Connection {
 public:
  Connection(const ClientOptions& options, const KeyPair& key) : options_(options), key_(key) {}

  ClientReport run() {
    play();
    report_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    return std::move(report_);
  }

 private:
  void end(Outcome outcome, std::string detail) {
    report_.outcome = outcome;
    report_.detail = std::move(detail);
  }

  /// Waits for `events`; false when the time is over.
  bool wait(short events) const {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
    pollfd waiting{fd_.get(), events, 0};
    return left > 0 && poll(&waiting, 1, static_cast<int>(left)) > 0;
  }

  void leave(std::string_view where) {
    if (options_.reset) {
      const linger now{1, 0};
      setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    fd_.reset();
    end(Outcome::kHungUp, concat("hung up ", where));
  }

  static AddressList resolve(const std::string& host, const std::string& port, int flags) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICHOST;
    addrinfo* found = nullptr;
    if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return nullptr;
    return AddressList(found);
  }

  bool open() {
    const AddressList to = resolve(options_.host, std::to_string(options_.port), AI_NUMERICSERV);
    if (!to) {
      end(Outcome::kUsage, concat("\"", options_.host, "\" is no numeric address"));
      return false;
    }
    fd_.reset(socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (options_.read_pause.count() > 0) {
      const int small = 4096;  // so that slow reading is felt at the other end
      setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
    if (!options_.source.empty()) {
      const AddressList from = resolve(options_.source, "0", AI_PASSIVE);
      if (!from || bind(fd_.get(), from->ai_addr, from->ai_addrlen) != 0) {
        end(Outcome::kUsage, concat("cannot come from \"", options_.source, "\""));
        return false;
      }
    }
    int error = 0;
    if (connect(fd_.get(), to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS) {
      error = errno;
    } else if (!wait(POLLOUT)) {
      error = ETIMEDOUT;
    } else {
      socklen_t size = sizeof error;
      getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error != 0) end(Outcome::kNoConnection, errno_error(error, "connecting").text);
    return error == 0;
  }

  /// Sends all of `bytes`; false when the peer is gone or the time is over, with errno set.
  bool send_all(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno != EAGAIN) {
        return false;
      } else if (!wait(POLLOUT)) {
        timed_out_ = true;
        errno = ETIMEDOUT;
        return false;
      }
    }
    return true;
  }

  /// recv(2) that waits and keeps to the pace that was asked for.
  ssize_t receive(void* to, std::size_t size) {
    if (options_.read_pause.count() > 0) std::this_thread::sleep_for(options_.read_pause);
    if (!wait(POLLIN)) {
      timed_out_ = true;
      errno = ETIMEDOUT;
      return -1;
    }
    const ssize_t got = recv(fd_.get(), to, std::min(size, options_.read_size), 0);
    if (got > 0) heard_ = true;
    return got;
  }

  /// Reads and forgets until the server closes.
  void await_close(Outcome when_closed, std::string_view what) {
    std::array<char, 4096> sink{};
    ssize_t got = 0;
    while ((got = receive(sink.data(), sink.size())) > 0) continue;
    if (timed_out_) return end(Outcome::kTimeout, concat(what, ": still open at the time limit"));
    end(when_closed, concat(what, got == 0 ? ": closed" : ": reset", " by the server"));
  }

  /// GnuTLS's way out: all faults of the sending side are made here.
  ssize_t push(std::string_view bytes) {
    if (stalled_) return static_cast<ssize_t>(bytes.size());
    std::string out(bytes);
    std::size_t room = out.size();
    if (options_.stall_after)
      room = std::min(room,
                      *options_.stall_after - std::min(*options_.stall_after, report_.bytes_sent));
    // The ServerHello is a record of its own, the first of the flight (RFC 8446 section 5).
    if (options_.stall_after_server_hello && room >= 5 && report_.bytes_sent == 0)
      room = std::min(room, 5 + static_cast<std::size_t>(static_cast<unsigned char>(out[3])) * 256 +
                                static_cast<unsigned char>(out[4]));
    if (options_.flip_byte && *options_.flip_byte >= report_.bytes_sent &&
        *options_.flip_byte < report_.bytes_sent + out.size())
      out[*options_.flip_byte - report_.bytes_sent] ^= 1;
    if (!send_all(std::string_view(out).substr(0, room))) return -1;
    report_.bytes_sent += room;
    stalled_ = room < out.size() || options_.stall_after == report_.bytes_sent ||
               options_.stall_after_server_hello;
    return static_cast<ssize_t>(out.size());
  }
  static ssize_t push(gnutls_transport_ptr_t self, const void* bytes, std::size_t size) {
    return static_cast<Connection*>(self)->push({static_cast<const char*>(bytes), size});
  }

  ssize_t pull(void* to, std::size_t size) {
    const bool leaving = stalled_ && options_.hang_up == HangUp::kStalled;
    if (leaving) {  // the caller finds stalled_ set and leaves
      errno = ECONNABORTED;
      return -1;
    }
    return receive(to, size);
  }
  static ssize_t pull(gnutls_transport_ptr_t self, void* to, std::size_t size) {
    return static_cast<Connection*>(self)->pull(to, size);
  }
  static int pull_timeout(gnutls_transport_ptr_t self, unsigned milliseconds) {
    pollfd waiting{static_cast<Connection*>(self)->fd_.get(), POLLIN, 0};
    return poll(&waiting, 1, static_cast<int>(std::min(milliseconds, 60000U)));
  }

  static int count_hello(gnutls_session_t session, unsigned /*type*/, unsigned /*when*/,
                         unsigned incoming, const gnutls_datum_t* /*message*/) {
    auto* self = static_cast<Connection*>(gnutls_session_get_ptr(session));
    if (incoming != 0 && ++self->client_hellos_ == 2) self->report_.hello_retried = true;
    return 0;
  }

  void play() {
    if (!open()) return;
    if (options_.hang_up == HangUp::kConnected) return leave("after connecting");
    if (options_.silent) return await_close(Outcome::kClosedEarly, "said nothing");
    if (options_.endless) {
      const std::string filler(4096, '1');
      while (send_all(filler)) continue;
      if (timed_out_) return end(Outcome::kTimeout, "an endless line: still open");
      return end(Outcome::kClosedEarly, "an endless line: closed by the server");
    }
    if (!send_all(options_.opening))
      return end(Outcome::kClosedEarly, "closed by the server while the line was sent");
    if (options_.hang_up == HangUp::kLine) return leave("after the version line");
    if (options_.hang_up == HangUp::kClientHello) {
      if (!wait(POLLIN)) return end(Outcome::kTimeout, "no ClientHello");
      char byte = 0;
      if (recv(fd_.get(), &byte, 1, MSG_PEEK) != 1)
        return end(Outcome::kClosedEarly, "closed by the server before its ClientHello");
      return leave("after the ClientHello");
    }

    auto credentials =
        options_.certificate ? certificate_credentials(key_) : raw_key_credentials(key_);
    if (!credentials) return end(Outcome::kUsage, credentials.error());
    gnutls_session_t session = nullptr;
    gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_TICKETS | GNUTLS_ENABLE_RAWPK);
    const Session owner(session);
    const char* at = nullptr;
    if (gnutls_priority_set_direct(session, options_.priority.c_str(), &at) != 0)
      return end(Outcome::kUsage, concat("priority string, from here: ", at ? at : ""));
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->get());
    if (options_.request_certificate)
      gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT);
    gnutls_session_set_ptr(session, this);
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_PRE,
                                       count_hello);
    gnutls_transport_set_ptr(session, this);
    gnutls_transport_set_push_function(session, push);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);

    int result = 0;
    do {
      result = gnutls_handshake(session);
    } while (result < 0 && gnutls_error_is_fatal(result) == 0);
    if (stalled_) {
      if (options_.hang_up == HangUp::kStalled) return leave("within the handshake");
      if (timed_out_) return end(Outcome::kTimeout, "half a handshake: still open");
      return end(Outcome::kNoHandshake, "half a handshake: closed by the server");
    }
    if (result < 0) {
      const std::string why = gnutls_error(result, "handshake").text;
      if (timed_out_) return end(Outcome::kTimeout, why);
      return end(heard_ ? Outcome::kNoHandshake : Outcome::kClosedEarly, why);
    }
    char* description = gnutls_session_get_desc(session);
    report_.session = description != nullptr ? description : "";
    gnutls_free(description);
    converse(session);
  }

  void converse(gnutls_session_t session) {
    if (options_.hang_up == HangUp::kHandshake) return leave("after the handshake");
    if (options_.key_update) gnutls_session_key_update(session, GNUTLS_KU_PEER);
    for (std::size_t left = options_.talk; left > 0;) {
      const std::string words(std::min<std::size_t>(left, 4096), 'x');
      if (gnutls_record_send(session, words.data(), words.size()) < 0) break;
      left -= words.size();
    }
    if (options_.hang_up == HangUp::kWaiting) {
      std::this_thread::sleep_for(options_.wait);
      return leave("while waiting");
    }
    std::array<char, 16384> piece{};
    for (;;) {
      const ssize_t got = gnutls_record_recv(session, piece.data(), piece.size());
      if (got > 0) {
        report_.blob.append(piece.data(), static_cast<std::size_t>(got));
        if (options_.hang_up == HangUp::kBlob) return leave("within the blob");
      } else if (got == 0) {
        return report_.blob.empty() ? end(Outcome::kNothing, "close_notify without a byte")
                                    : end(Outcome::kBlob, "whole");
      } else if (gnutls_error_is_fatal(static_cast<int>(got)) != 0) {
        const std::string why = gnutls_error(static_cast<int>(got), "receiving").text;
        if (timed_out_) return end(Outcome::kTimeout, why);
        return end(report_.blob.empty() ? Outcome::kNothing : Outcome::kTruncated, why);
      }
    }
  }

  const ClientOptions& options_;
  const KeyPair& key_;
  const Clock::time_point start_ = Clock::now();
  const Clock::time_point deadline_ = start_ + options_.timeout;
  UniqueFd fd_;
  ClientReport report_;
  bool timed_out_ = false;
  bool stalled_ = false;
  bool heard_ = false;
  int client_hellos_ = 0;
};

}  // namespace

std::string_view outcome_name(Outcome outcome) {
  static constexpr std::array<std::string_view, 9> kNames = {
      "blob",    "usage",         "nothing", "no-handshake", "closed-early",
      "timeout", "no-connection", "hung-up", "truncated"};
  return kNames.at(static_cast<std::size_t>(outcome));
}

ClientReport run_client(const ClientOptions& options, const KeyPair& key) {
  return Connection(options, key).run();
}

}  // namespace mandos::test
