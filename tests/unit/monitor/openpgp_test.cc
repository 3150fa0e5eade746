// SPDX-License-Identifier: GPL-3.0-or-later
// What is taken for a whole OpenPGP message. The messages are made here, as RFC 9580 describes
// them.
#include "monitor/openpgp.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/text.h"
#include "tests/support/sanitized.h"

namespace mandos::monitor {
namespace {

std::string bytes(std::uint64_t number, std::size_t octets) {
  std::string out;
  while (octets-- > 0) out += static_cast<char>(number >> 8 * octets & 0xff);
  return out;
}
std::string old_packet(unsigned type, const std::string& body, unsigned length_type = 1) {
  return bytes(0x80U | type << 2U | length_type, 1) +
         (length_type < 3 ? bytes(body.size(), std::size_t{1} << length_type) : "") + body;
}
std::string length(std::size_t size) {
  return size < 192    ? bytes(size, 1)
         : size < 8384 ? bytes(size - 192 + 0xc000, 2)
                       : "\xff" + bytes(size, 4);
}
std::string new_packet(unsigned type, const std::string& body) {
  return bytes(0xc0U | type, 1) + length(body.size()) + body;
}
/// Its body in parts of 512 and 2048 bytes, and the rest.
std::string partial_packet(unsigned type, const std::string& body) {
  return bytes(0xc0U | type, 1) + "\xe9" + body.substr(0, 512) + "\xeb" + body.substr(512, 2048) +
         length(body.size() - 2560) + body.substr(2560);
}
/// To a key of RSA, and with a passphrase.
const std::string kToKey =
    "\3"
    "12345678"
    "\1" +
    std::string(258, 'k');
const std::string kToPassphrase =
    "\4\x09\3\x08"
    "12345678`";

/// By the C code of RFC 4880, section 6.1, in other words.
std::string checksum(const std::string& data) {
  unsigned crc = 0xb704ce;
  for (const char c : data) {
    const auto octet = static_cast<unsigned char>(c);
    for (unsigned bit = 8; bit-- > 0;) {
      const unsigned out = (crc >> 23U ^ octet >> bit) & 1U;
      crc = (crc << 1U & 0xffffffU) ^ out * 0x864cfbU;
    }
  }
  return bytes(crc, 3);
}
std::string base64(const std::string& data, std::size_t folded = 64) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::size_t column = 0;
  const auto put = [&](char c) {
    if (column++ == folded) {
      out += '\n';
      column = 1;
    }
    out += c;
  };
  for (std::size_t at = 0; at < data.size(); at += 3) {
    unsigned group = 0;
    for (std::size_t i = at; i < at + 3; ++i) {
      group = group << 8U | (i < data.size() ? static_cast<unsigned char>(data[i]) : 0U);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      put(i > data.size() - at ? '=' : kDigits[group >> (18 - 6 * i) & 63U]);
    }
  }
  return out;
}
const std::string kBegin = "-----BEGIN PGP MESSAGE-----\n";
const std::string kEnd = "\n-----END PGP MESSAGE-----\n";
std::string armored(const std::string& data, const std::string& headers = "\n") {
  return concat(kBegin, headers, base64(data), "\n=", base64(checksum(data)), kEnd);
}

TEST(OpenPgp, WholeArmoredMessages) {
  EXPECT_EQ(base64(checksum("")), "twTO") << "RFC 4880: of nothing";
  for (std::size_t size = 700; size < 706; ++size) {
    const std::string data = old_packet(1, kToKey) + new_packet(18, std::string(size, 'd'));
    const auto text = armored(data);
    EXPECT_EQ(judge_openpgp(text), OpenPgp::kWhole);
    EXPECT_EQ(judge_openpgp(armored(data, "Version: 1\nComment: = x\n\n")), OpenPgp::kWhole);
    // A checksum need not be there (RFC 9580, section 6.1), nor stand in the last line.
    EXPECT_EQ(judge_openpgp(concat(kBegin, '\n', base64(data), kEnd)), OpenPgp::kWhole);
    EXPECT_EQ(judge_openpgp(concat(kBegin, '\n', base64(data, 7), kEnd)), OpenPgp::kWhole);
    EXPECT_EQ(judge_openpgp(concat(text.substr(0, text.find("\n-----END")), "\n\n", kEnd)),
              OpenPgp::kWhole);
    std::string windows;
    for (const char c : text) windows += c == '\n' ? "\r\n" : std::string(1, c);
    EXPECT_EQ(judge_openpgp(windows), OpenPgp::kWhole);
    EXPECT_EQ(judge_openpgp("\n" + text), OpenPgp::kOther) << "as before";
  }
}

/// Without the line of that length at `at`, and with it twice, the message is damaged.
void expect_line_matters(const std::string& message, std::size_t at, std::size_t length) {
  auto shorter = message;
  shorter.erase(at, length);
  EXPECT_EQ(judge_openpgp(shorter), OpenPgp::kDamaged) << "without the line at " << at;
  auto longer = message;
  longer.insert(at, message, at, length);
  EXPECT_EQ(judge_openpgp(longer), OpenPgp::kDamaged) << "with the line at " << at << " twice";
}

TEST(OpenPgp, DamagedArmoredMessages) {
  const std::string data = old_packet(1, kToKey) + new_packet(18, std::string(700, 'd'));
  const auto text = armored(data);
  const auto first = kBegin.size() + 1;
  const auto last = text.find("\n=");
  for (auto at = first; at + 65 < last; at += 65) {
    expect_line_matters(text, at, 65);
    auto uncounted = concat(kBegin, '\n', base64(data), kEnd);
    uncounted.erase(at, 65);
    // Without its first line it is anything.
    EXPECT_EQ(judge_openpgp(uncounted), at == first ? OpenPgp::kOther : OpenPgp::kDamaged)
        << "no checksum, and without the line at " << at;
  }
  for (auto at = first; at < last + 6; ++at) {
    if (text[at] == '\n' || text[at] == '=') continue;
    for (const char other : {'A', 'B', '#'}) {
      auto changed = text;
      changed[at] = text[at] == other ? 'C' : other;
      EXPECT_EQ(judge_openpgp(changed), OpenPgp::kDamaged) << "at " << at;
    }
  }
  EXPECT_EQ(judge_openpgp(kBegin + "\nhQ" + kEnd), OpenPgp::kDamaged);
}

TEST(OpenPgp, WholeMessages) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{191}, std::size_t{192},
                                 std::size_t{8383}, std::size_t{8384}, std::size_t{70000}}) {
    const std::string data(size, 'd');
    for (const std::string& key : {old_packet(1, kToKey), new_packet(1, kToKey),
                                   old_packet(3, kToPassphrase, 0), new_packet(3, kToPassphrase)}) {
      for (const unsigned type : {9U, 18U, 20U}) {
        EXPECT_EQ(judge_openpgp(key + new_packet(type, data)), OpenPgp::kWhole);
      }
      EXPECT_EQ(judge_openpgp(key + key + old_packet(9, data, 2)), OpenPgp::kWhole);
      EXPECT_EQ(judge_openpgp(key + old_packet(9, data, 3)), OpenPgp::kWhole) << "no length";
      EXPECT_EQ(judge_openpgp(new_packet(10, "PGP") + key + new_packet(18, data)), OpenPgp::kWhole);
      if (size > 2560) {
        EXPECT_EQ(judge_openpgp(key + partial_packet(18, data)), OpenPgp::kWhole);
      }
    }
  }
  EXPECT_EQ(judge_openpgp(old_packet(1, kToKey) + new_packet(18, "data") + "\r\n"),
            OpenPgp::kWhole);
}

// A paste that lost lines, or has one twice.
TEST(OpenPgp, WhatIsMissingOrTooMuch) {
  for (const std::string& data :
       {new_packet(18, std::string(100, 'd')), new_packet(18, std::string(3000, 'd')),
        partial_packet(18, std::string(3000, 'd'))}) {
    const std::string message = old_packet(1, kToKey) + data;
    for (std::size_t size = 13; size < message.size(); ++size) {
      EXPECT_EQ(judge_openpgp(message.substr(0, size)), OpenPgp::kDamaged) << size;
    }
    for (std::size_t at = 48; at + 48 < message.size(); at += 48) {
      expect_line_matters(message, at, 48);
    }
  }
  EXPECT_EQ(judge_openpgp("-----BEGIN PGP MESSAGE-----\n\nhQ\n"), OpenPgp::kDamaged);
}

/// In a process of its own, which a judge that never ends, or throws, does not outlive.
int judge_in_a_process(const std::string& content, bool without_locked_memory = false) {
  const pid_t child = fork();
  if (child == 0) {
    const auto judge = [&]() noexcept { return static_cast<int>(judge_openpgp(content)); };
    const rlimit none{0, 0};
    alarm(5);
    // Root may lock without a limit.
    if (without_locked_memory &&
        (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || setresuid(65534, 65534, 65534) != 0)) {
      _exit(100);
    }
    _exit(judge());
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

// Each of these lengths, in a number of 32 bits, leads back to the packet that has it.
TEST(OpenPgp, ALengthThatWrapsLeadsNowhere) {
  for (const unsigned type : {1U, 3U, 10U}) {
    for (std::size_t back = 1; back < 8; ++back) {
      const auto length = bytes(0x100000000U - back, 4);
      ASSERT_EQ(judge_in_a_process(bytes(0x80U | type << 2U | 2U, 1) + length),
                static_cast<int>(OpenPgp::kOther));
      ASSERT_EQ(judge_in_a_process(bytes(0xc0U | type, 1) + "\xff" + length),
                static_cast<int>(OpenPgp::kOther));
    }
  }
}

#ifndef MANDOS_SANITIZED  // for which mlock(2) does nothing
// A new secret is judged while the monitor serves, which must not end for that.
TEST(OpenPgp, WithoutMemoryThatCanBeLockedAnArmoredMessageIsNotJudged) {
  // Too long for what other cases have left in the pools of secret_memory().
  const auto damaged = concat(kBegin, '\n', std::string(200'000, '#'), kEnd);
  EXPECT_EQ(judge_in_a_process(damaged), static_cast<int>(OpenPgp::kDamaged));
  EXPECT_EQ(judge_in_a_process(damaged, true), static_cast<int>(OpenPgp::kWhole));
}
#endif

TEST(OpenPgp, SomethingElse) {
  for (const char* text : {"", "%", "a passphrase", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
                           "\x85", "\xff\xff\xff\xff\xff\xff\xff"}) {
    EXPECT_EQ(judge_openpgp(text), OpenPgp::kOther) << text;
  }
  EXPECT_EQ(judge_openpgp(old_packet(6, kToKey)), OpenPgp::kOther) << "a public key";
  EXPECT_EQ(judge_openpgp(old_packet(1, std::string(268, 'r'))), OpenPgp::kOther) << "no version 3";
  EXPECT_EQ(judge_openpgp(old_packet(3, "\4" + std::string(20, '\xee'))), OpenPgp::kOther);
}

}  // namespace
}  // namespace mandos::monitor
