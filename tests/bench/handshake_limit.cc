// SPDX-License-Identifier: GPL-3.0-or-later
// The limit that the server is measured against: a TLS handshake as GnuTLS's first choices make it,
// and as others do that it can be told of, blob and close_notify, with GnuTLS at both ends in the
// memory of one thread, no socket and no process switch; and what the verification of a proof costs
// by itself. Prints one JSON object, times in microseconds of CPU.
#include <nettle/eddsa.h>
#include <nettle/sha2.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/test_key.h"

namespace mandos::test {
namespace {

double cpu_microseconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// One end of a connection in memory.
struct End {
  std::string in;
  std::size_t taken = 0;
  End* peer = nullptr;

  static ssize_t push(gnutls_transport_ptr_t self, const void* bytes, std::size_t size) {
    static_cast<End*>(self)->peer->in.append(static_cast<const char*>(bytes), size);
    return static_cast<ssize_t>(size);
  }
  static ssize_t pull(gnutls_transport_ptr_t self, void* to, std::size_t size) {
    auto* end = static_cast<End*>(self);
    const std::size_t count = std::min(size, end->in.size() - end->taken);
    if (count == 0) {
      errno = EAGAIN;
      return -1;
    }
    std::memcpy(to, end->in.data() + end->taken, count);
    end->taken += count;
    return static_cast<ssize_t>(count);
  }
  static int pull_timeout(gnutls_transport_ptr_t self, unsigned /*milliseconds*/) {
    const auto* end = static_cast<End*>(self);
    return end->in.size() > end->taken ? 1 : 0;
  }
  void attach(gnutls_session_t session) {
    gnutls_transport_set_ptr(session, this);
    gnutls_transport_set_push_function(session, push);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
  }
};

struct Halves {
  double client = 0;
  double server = 0;
};

class Limit {
 public:
  Limit(unsigned client_flags, std::string_view choice, Credentials credentials, std::string blob)
      : client_flags_(client_flags), credentials_(std::move(credentials)), blob_(std::move(blob)) {
    gnutls_certificate_credentials_t none = nullptr;
    gnutls_certificate_allocate_credentials(&none);
    no_credentials_.reset(none);
    // The original server's default. The networker takes the same, with choices of its own.
    client_priority_ = parse(
        concat("SECURE128:!CTYPE-X.509:+CTYPE-RAWPK:!RSA:!VERS-ALL:+VERS-TLS1.3:%PROFILE_ULTRA",
               choice)
            .c_str());
    server_priority_ = parse(client_priority().c_str());
  }

  /// One connection; nothing when it failed.
  std::optional<Halves> connect() {
    Halves spent;
    End client_end;
    End server_end;
    client_end.peer = &server_end;
    server_end.peer = &client_end;
    // The end whose turn it is pays for what it does.
    double mark = cpu_microseconds();
    const auto charge = [&mark](double& account) {
      const double now = cpu_microseconds();
      account += now - mark;
      mark = now;
    };
    Session client = open(GNUTLS_CLIENT | client_flags_, client_priority_, no_credentials_);
    client_end.attach(client.get());
    charge(spent.client);
    Session server = open(GNUTLS_SERVER, server_priority_, credentials_);
    server_end.attach(server.get());
    charge(spent.server);
    int client_result = GNUTLS_E_AGAIN;
    int server_result = GNUTLS_E_AGAIN;
    for (int turn = 0; turn < 10 && (client_result != 0 || server_result != 0); ++turn) {
      if (client_result != 0) client_result = gnutls_handshake(client.get());
      charge(spent.client);
      if (server_result != 0) server_result = gnutls_handshake(server.get());
      charge(spent.server);
    }
    if (client_result != 0 || server_result != 0) return std::nullopt;
    std::size_t got = 0;
    unsigned count = 0;
    if (gnutls_certificate_get_peers(client.get(), &count) == nullptr || count != 1)
      return std::nullopt;
    gnutls_record_send(client.get(), blob_.data(), blob_.size());
    gnutls_bye(client.get(), GNUTLS_SHUT_WR);
    client.reset();
    charge(spent.client);
    std::array<char, 16384> sink{};
    for (ssize_t size = 1; size > 0; got += static_cast<std::size_t>(size))
      size = std::max<ssize_t>(0, gnutls_record_recv(server.get(), sink.data(), sink.size()));
    server.reset();
    charge(spent.server);
    if (got != blob_.size()) return std::nullopt;
    return spent;
  }

 private:
  static Priority parse(const char* text) {
    gnutls_priority_t raw = nullptr;
    gnutls_priority_init(&raw, text, nullptr);
    return Priority(raw);
  }
  static Session open(unsigned flags, const Priority& priority, const Credentials& credentials) {
    gnutls_session_t raw = nullptr;
    gnutls_init(&raw, flags | GNUTLS_NO_TICKETS | GNUTLS_ENABLE_RAWPK);
    gnutls_priority_set(raw, priority.get());
    gnutls_credentials_set(raw, GNUTLS_CRD_CERTIFICATE, credentials.get());
    return Session(raw);
  }

  unsigned client_flags_;
  Credentials credentials_;
  Credentials no_credentials_;
  Priority client_priority_;
  Priority server_priority_;
  std::string blob_;
};

/// What the monitor cannot avoid for an Ed25519 proof: the transcript's hash, the key's hash and
/// one verification, on a transcript of usual length.
double verification_cost(int rounds) {
  std::array<std::uint8_t, ED25519_KEY_SIZE> secret{};
  std::array<std::uint8_t, ED25519_KEY_SIZE> key{};
  secret.fill(7);
  ed25519_sha512_public_key(key.data(), secret.data());
  const std::array<std::uint8_t, 620> transcript{};
  const std::array<std::uint8_t, 44> public_key_info{};
  std::array<std::uint8_t, 64 + 33 + 1 + SHA256_DIGEST_SIZE> content{};
  std::array<std::uint8_t, SHA256_DIGEST_SIZE> key_id{};
  const auto hash = [](std::span<const std::uint8_t> bytes, std::uint8_t* to) {
    sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, bytes.size(), bytes.data());
    sha256_digest(&context, SHA256_DIGEST_SIZE, to);
  };
  std::array<std::uint8_t, ED25519_SIGNATURE_SIZE> signature{};
  hash(transcript, content.data() + 98);
  ed25519_sha512_sign(key.data(), secret.data(), content.size(), content.data(), signature.data());
  std::vector<double> costs;
  for (int i = 0; i < rounds; ++i) {
    const double start = cpu_microseconds();
    hash(public_key_info, key_id.data());
    hash(transcript, content.data() + 98);
    const bool good =
        ed25519_sha512_verify(key.data(), content.size(), content.data(), signature.data()) == 1;
    costs.push_back(cpu_microseconds() - start);
    if (!good) return -1;
  }
  return median(costs);
}

int run(int argc, char** argv) {
  std::string type = "ed25519";
  int count = 2000;
  std::size_t blob_size = 1024;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
    const bool good = name == "--key-type" ? !(type = value).empty()
                      : name == "--count"  ? parse_number(value, count) && count > 0
                      : name == "--blob-size"
                          ? parse_number(value, blob_size) && blob_size > 0 && blob_size <= 16384
                          : false;
    if (!good) {
      std::cerr << "Usage: handshake-limit [--key-type TYPE] [--count N] [--blob-size 1..16384]\n";
      return 1;
    }
  }
  auto key = generate_key(type);
  if (!key) {
    std::cerr << "handshake-limit: " << key.error() << '\n';
    return 1;
  }
  std::cout << "{\"key_type\": \"" << type << "\", \"count\": " << count
            << ", \"blob_size\": " << blob_size;
  // With one key share in the ClientHello, of GnuTLS's first group; with what it sends when it is
  // not told; with one share of X25519; and with the cheapest cipher too, as the server offers.
  struct Variant {
    const char* name;
    unsigned flags;
    const char* choice;
  };
  for (const auto& [name, flags, choice] :
       {Variant{"", GNUTLS_KEY_SHARE_TOP, ""}, Variant{"default_", 0, ""},
        Variant{"x25519_", GNUTLS_KEY_SHARE_TOP, ":-GROUP-ALL:+GROUP-X25519"},
        Variant{"cheapest_", GNUTLS_KEY_SHARE_TOP,
                ":-GROUP-ALL:+GROUP-X25519:-CIPHER-ALL:+CHACHA20-POLY1305"}}) {
    auto credentials = raw_key_credentials(*key);
    if (!credentials) {
      std::cerr << "handshake-limit: " << credentials.error() << '\n';
      return 1;
    }
    Limit limit(flags, choice, *std::move(credentials), std::string(blob_size, 'x'));
    std::vector<double> client;
    std::vector<double> both;
    for (int i = 0; i < count + 50; ++i) {
      const auto spent = limit.connect();
      if (!spent) {
        std::cerr << "handshake-limit: a connection failed\n";
        return 1;
      }
      if (i < 50) continue;  // warm-up
      client.push_back(spent->client);
      both.push_back(spent->client + spent->server);
    }
    std::cout << ", \"" << name << "client_half_us\": " << median(client) << ", \"" << name
              << "both_halves_us\": " << median(both);
  }
  std::cout << ", \"ed25519_verify_us\": " << verification_cost(count) << "}\n";
  return 0;
}

}  // namespace
}  // namespace mandos::test

int main(int argc, char** argv) { return mandos::test::run(argc, argv); }
