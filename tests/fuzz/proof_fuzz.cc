// SPDX-License-Identifier: GPL-3.0-or-later
// Any bytes as a transcript: the monitor accepts it only if GnuTLS does (tests/support/
// reference_verifier.h). The first byte of an input says what becomes of the rest:
//   0  it is taken as it is;
//   1  its last message is replaced by a CertificateVerify of the key ed25519_key(1), so that what
//      is fuzzed is the structure beneath a genuine signature; the first bit above says that a
//      HelloRetryRequest is in it, the second that the suite hashes with SHA-384.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "monitor/proof.h"
#include "tests/support/reference_verifier.h"
#include "tests/support/transcript_builder.h"

namespace {

using namespace mandos;
using monitor::Bytes;
using test::ByteVector;

const test::SigningKey kKey = test::ed25519_key(1);

ByteVector signed_again(Bytes input, bool retried, const nettle_hash& algorithm) {
  test::Messages messages;
  monitor::ByteReader reader(input);
  while (reader.left() > 0) {
    const auto type = static_cast<unsigned char>(reader.number(1));
    const auto body = reader.vector(3);
    messages.push_back({type, {body.begin(), body.end()}});
  }
  if (!messages.empty()) messages.pop_back();
  if (messages.empty()) return {};
  return test::sign(messages, kKey, retried, algorithm);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Bytes rest(data + 1, size - 1);
  const ByteVector transcript =
      (data[0] & 1) == 0 ? ByteVector(rest.begin(), rest.end())
                         : signed_again(rest, (data[0] & 2) != 0,
                                        (data[0] & 4) != 0 ? nettle_sha384 : nettle_sha256);
  // The nonce is whatever the first ClientHello has.
  monitor::Nonce nonce{};
  for (std::size_t i = 0; i < nonce.size() && i + 6 < transcript.size(); ++i) {
    nonce[i] = transcript[i + 6];
  }
  const ByteVector expected_nonce(nonce.begin(), nonce.end());

  using Verdict = monitor::ProofResult::Verdict;
  const auto known = monitor::check_proof(transcript, nonce, [](const auto&) { return true; });
  const auto unknown = monitor::check_proof(transcript, nonce, [](const auto&) { return false; });
  const auto proof = test::reference_parse(transcript, expected_nonce);
  const bool reference = test::reference_accepts(transcript, expected_nonce);
  // The monitor wants keys and signatures in their one DER encoding, where GnuTLS takes others too.
  const bool has_slack = proof && proof->public_key != kKey.public_key;
  const bool fits = (known.verdict != Verdict::kProven || reference) &&
                    (known.verdict == Verdict::kProven || !reference || has_slack) &&
                    unknown.verdict != Verdict::kProven &&
                    (unknown.verdict == Verdict::kUnknownKey) == proof.has_value();
  if (!fits) {
    std::fprintf(stderr, "monitor: %s, GnuTLS: %s\n", known.reason, reference ? "good" : "bad");
    std::abort();
  }
  return 0;
}
