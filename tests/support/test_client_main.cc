// SPDX-License-Identifier: GPL-3.0-or-later
// test-client: a Mandos client for the command line, well behaved or not. The blob goes to standard
// output, one line about what happened to standard error, the outcome is the exit status.
#include <getopt.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/test_client.h"

namespace mandos::test {
namespace {

constexpr std::string_view kUsageText =
    R"(Usage: test-client --port N --key FILE [OPTION...]
       test-client --generate TYPE --key FILE     make a key, print its key ID
       test-client --print-key-id --key FILE      print the key ID of each key in the file

Connection
  --host ADDRESS          numeric; default ::1
  --port N
  --source ADDRESS        come from this address
  --timeout SECONDS       for everything together; default 10
Key
  --key FILE              private key, PEM
  --key-type TYPE         use a new key of this type: ed25519, ed448, p256, p384, p521,
                          rsa2048, rsa3072
What it says first
  --line TEXT             version line, default "1"; carriage return and newline are added
  --opening TEXT          all of it verbatim; understands \r \n \xHH
  --silent                nothing at all
  --endless               bytes without a line's end
TLS
  --groups A,B            such as SECP384R1, which forces a HelloRetryRequest
  --tls12                 TLS 1.2 only
  --x509                  a certificate instead of a raw public key
  --priority STRING       all of it (GnuTLS)
  --request-certificate   ask the server for a certificate
  --stall-after N         send N bytes of the handshake, then nothing
  --stall-after-server-hello
  --flip-byte N           invert a bit in byte N of what is sent
  --key-update            ask for new keys after the handshake
  --talk N                send N bytes of application data after the handshake
Leaving and loitering
  --hang-up POINT         connected, line, client-hello, stalled, handshake, waiting, blob
  --wait SECONDS          how long "waiting" waits
  --reset                 hang up by RST
  --read-size N           read at most N bytes at a time
  --read-pause MS         with a pause before each

Exit status: 0 blob, 1 usage, 2 nothing given, 3 no handshake, 4 closed before the handshake,
             5 time limit, 6 no connection, 7 hung up as told, 8 blob cut off
)";

int fail(std::string_view why) {
  std::cerr << "test-client: " << why << '\n';
  return static_cast<int>(Outcome::kUsage);
}

/// The bytes that a text with \r, \n, \\ and \xHH stands for.
std::string unescaped(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      bytes += text[i];
      continue;
    }
    const char kind = text[++i];
    if (kind == 'x' && i + 2 < text.size()) {
      bytes += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      bytes += kind == 'r' ? '\r' : kind == 'n' ? '\n' : kind;
    }
  }
  return bytes;
}

bool parse_hang_up(std::string_view text, HangUp& point) {
  static constexpr std::string_view kPoints[] = {"never",   "connected", "line",    "client-hello",
                                                 "stalled", "handshake", "waiting", "blob"};
  for (std::size_t i = 0; i < std::size(kPoints); ++i)
    if (text == kPoints[i]) {
      point = static_cast<HangUp>(i);
      return true;
    }
  return false;
}

int run(int argc, char** argv) {
  enum Option {
    kHost = 1,
    kPort,
    kSource,
    kTimeout,
    kKey,
    kKeyType,
    kGenerate,
    kPrintKeyId,
    kLine,
    kOpening,
    kSilent,
    kEndless,
    kGroups,
    kTls12,
    kX509,
    kPriority,
    kRequestCertificate,
    kStallAfter,
    kStallAfterServerHello,
    kFlipByte,
    kKeyUpdate,
    kTalk,
    kHangUp,
    kWait,
    kReset,
    kReadSize,
    kReadPause,
    kHelp,
  };
  static const option kOptions[] = {
      {"host", 1, nullptr, kHost},
      {"port", 1, nullptr, kPort},
      {"source", 1, nullptr, kSource},
      {"timeout", 1, nullptr, kTimeout},
      {"key", 1, nullptr, kKey},
      {"key-type", 1, nullptr, kKeyType},
      {"generate", 1, nullptr, kGenerate},
      {"print-key-id", 0, nullptr, kPrintKeyId},
      {"line", 1, nullptr, kLine},
      {"opening", 1, nullptr, kOpening},
      {"silent", 0, nullptr, kSilent},
      {"endless", 0, nullptr, kEndless},
      {"groups", 1, nullptr, kGroups},
      {"tls12", 0, nullptr, kTls12},
      {"x509", 0, nullptr, kX509},
      {"priority", 1, nullptr, kPriority},
      {"request-certificate", 0, nullptr, kRequestCertificate},
      {"stall-after", 1, nullptr, kStallAfter},
      {"stall-after-server-hello", 0, nullptr, kStallAfterServerHello},
      {"flip-byte", 1, nullptr, kFlipByte},
      {"key-update", 0, nullptr, kKeyUpdate},
      {"talk", 1, nullptr, kTalk},
      {"hang-up", 1, nullptr, kHangUp},
      {"wait", 1, nullptr, kWait},
      {"reset", 0, nullptr, kReset},
      {"read-size", 1, nullptr, kReadSize},
      {"read-pause", 1, nullptr, kReadPause},
      {"help", 0, nullptr, kHelp},
      {nullptr, 0, nullptr, 0},
  };
  ClientOptions options;
  std::string key_file;
  std::string key_type;
  std::string generate;
  std::string groups;
  std::string priority;
  std::string_view version = "TLS1.3";
  bool print_key_id = false;
  double seconds = 0;
  std::size_t number = 0;
  for (int found = 0; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    const std::string value = optarg != nullptr ? optarg : "";
    bool good = true;
    switch (found) {
      case kHost:
        options.host = value;
        break;
      case kPort:
        good = parse_number(value, options.port);
        break;
      case kSource:
        options.source = value;
        break;
      case kTimeout:
      case kWait:
        good = std::sscanf(value.c_str(), "%lf", &seconds) == 1 && seconds >= 0 && seconds < 86400;
        (found == kWait ? options.wait : options.timeout) =
            std::chrono::milliseconds(static_cast<long>(seconds * 1000));
        break;
      case kKey:
        key_file = value;
        break;
      case kKeyType:
        key_type = value;
        break;
      case kGenerate:
        generate = value;
        break;
      case kPrintKeyId:
        print_key_id = true;
        break;
      case kLine:
        options.opening = value + "\r\n";
        break;
      case kOpening:
        options.opening = unescaped(value);
        break;
      case kSilent:
        options.silent = true;
        break;
      case kEndless:
        options.endless = true;
        break;
      case kGroups:
        groups = value;
        break;
      case kTls12:
        version = "TLS1.2";
        break;
      case kX509:
        options.certificate = true;
        break;
      case kPriority:
        priority = value;
        break;
      case kRequestCertificate:
        options.request_certificate = true;
        break;
      case kStallAfterServerHello:
        options.stall_after_server_hello = true;
        break;
      case kKeyUpdate:
        options.key_update = true;
        break;
      case kHangUp:
        good = parse_hang_up(value, options.hang_up);
        break;
      case kReset:
        options.reset = true;
        break;
      case kStallAfter:
        good = parse_number(value, number);
        options.stall_after = number;
        break;
      case kFlipByte:
        good = parse_number(value, number);
        options.flip_byte = number;
        break;
      case kTalk:
        good = parse_number(value, options.talk);
        break;
      case kReadSize:
        good = parse_number(value, options.read_size) && options.read_size > 0;
        break;
      case kReadPause:
        good = parse_number(value, number) && number < 60000;
        options.read_pause = std::chrono::milliseconds(number);
        break;
      case kHelp:
        std::cout << kUsageText;
        return 0;
      default:
        good = false;
    }
    if (!good) return fail("bad option or value, see --help");
  }
  if (optind != argc) return fail("unexpected argument, see --help");

  if (!generate.empty()) {
    auto key = generate_key(generate);
    if (!key) return fail(key.error());
    if (!key_file.empty()) {
      umask(077);
      if (!(std::ofstream(key_file) << key->private_pem)) return fail("cannot write the key file");
    }
    std::cout << key->key_id << '\n';
    return 0;
  }
  auto keys = [&]() -> Result<std::vector<KeyPair>> {
    if (!key_file.empty()) return load_keys(key_file);
    auto made = generate_key(key_type.empty() ? "ed25519" : key_type);
    if (!made) return Error{made.error()};
    return std::vector{*std::move(made)};
  }();
  if (!keys) return fail(keys.error());
  if (print_key_id) {
    for (const KeyPair& key : *keys) std::cout << key.key_id << '\n';
    return 0;
  }
  if (options.port == 0) return fail("no port, see --help");
  options.priority = priority.empty()
                         ? client_priority(groups, version, options.certificate ? "X.509" : "RAWPK")
                         : priority;
  const ClientReport report = run_client(options, keys->front());
  std::cout << report.blob << std::flush;
  std::cerr << "outcome=" << outcome_name(report.outcome) << " seconds=" << report.seconds
            << " bytes=" << report.blob.size() << " sent=" << report.bytes_sent
            << " hello_retried=" << (report.hello_retried ? "yes" : "no")
            << " session=" << (report.session.empty() ? "-" : report.session) << " detail=\""
            << report.detail << "\"\n";
  return static_cast<int>(report.outcome);
}

}  // namespace
}  // namespace mandos::test

int main(int argc, char** argv) { return mandos::test::run(argc, argv); }
