// SPDX-License-Identifier: GPL-3.0-or-later
// What is taken for a whole OpenPGP message. The messages are made here, as RFC 9580 describes
// them.
#include "monitor/openpgp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>

namespace mandos::monitor {
namespace {

std::string bytes(std::size_t number, std::size_t octets) {
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
  EXPECT_EQ(judge_openpgp("-----BEGIN PGP MESSAGE-----\n\nhQ\n-----END PGP MESSAGE-----\n"),
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
      auto shorter = message;
      shorter.erase(at, 48);
      EXPECT_EQ(judge_openpgp(shorter), OpenPgp::kDamaged) << "without the line at " << at;
      auto longer = message;
      longer.insert(at, message, at, 48);
      EXPECT_EQ(judge_openpgp(longer), OpenPgp::kDamaged) << "with the line at " << at << " twice";
    }
  }
  EXPECT_EQ(judge_openpgp("-----BEGIN PGP MESSAGE-----\n\nhQ\n"), OpenPgp::kDamaged);
}

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
