// SPDX-License-Identifier: GPL-3.0-or-later
// Any bytes as clients.conf. Each error names file and line and shows no secret; clients that were
// read without one are the same after they were written and read again.
#include <strings.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "monitor/clients_conf.h"
#include "tests/fuzz/config_checks.h"
#include "tests/fuzz/folder.h"

namespace {

using namespace mandos;
using namespace mandos::fuzz;

std::string base64(std::span<const unsigned char> bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? bytes[i + j] : 0U);
    for (std::size_t j = 0; j < 4; ++j) {
      out += j <= bytes.size() - i ? kDigits[group >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

std::string written(const monitor::LoadedClients& loaded) {
  const auto seconds = [](Milliseconds value) { return concat("PT", value.count() / 1000, "S"); };
  std::string out;
  for (const auto& [name, c] : loaded.clients) {
    out += concat('[', name, "]\nkey_id = ", c.key_id ? c.key_id->text() : "",
                  "\nfingerprint = ", literal(c.fingerprint), "\nhost = ", literal(c.host),
                  "\nchecker = ", literal(c.checker), "\nsecret = ", base64(c.secret->bytes()),
                  "\nenabled = ", c.enabled ? "on" : "off",
                  "\napproved_by_default = ", c.approved_by_default ? "1" : "0",
                  "\ntimeout = ", seconds(c.timeout), "\ninterval = ", seconds(c.interval),
                  "\nextended_timeout = ", seconds(c.extended_timeout),
                  "\napproval_delay = ", seconds(c.approval_delay),
                  "\napproval_duration = ", seconds(c.approval_duration), '\n');
  }
  return out;
}

const Folder& folder() {
  static const Folder made;
  return made;
}

monitor::LoadedClients load(std::string_view content) {
  folder().put("clients.conf", content);
  return monitor::load_clients(folder().path());
}

void check_sentences(const monitor::LoadedClients& loaded, std::string_view content) {
  const auto file = folder().file("clients.conf");
  for (const auto* list : {&loaded.problems, &loaded.warnings}) {
    for (const auto& sentence : *list) {
      if (!sentence.ends_with(": found no client, expected a section for each one")) {
        require_place(sentence, file, content);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 16384) return 0;
  const auto content = text_of(data, size);
  static const bool prepared = [] {
    folder().put("secret", "a secret in a file");
    return setenv("HOME", folder().path().c_str(), 1) == 0;
  }();
  require(prepared, "setenv");

  const auto loaded = load(content);
  check_sentences(loaded, content);
  if (loaded.problems.empty()) {
    for (const auto& [name, client] : loaded.clients) {
      require(!name.empty() && name.size() <= 200 && name.find('/') == name.npos,
              "a client's name can be a file's");
      require(client.secret && !client.secret->bytes().empty(), "a client has a secret");
      require(client.key_id || !client.fingerprint.empty(), "a client has a key");
      require(client.interval >= std::chrono::seconds(1), "an interval is not zero");
    }
    const std::string once = written(loaded);
    const auto again = load(once);
    check_sentences(again, once);
    require(again.problems.empty(), "clients can be read again",
            again.problems.empty() ? std::string_view() : again.problems.front());
    require(written(again) == once, "clients read again are the same", once);
  }

  // A client behind whatever that was, with a secret that is wrong in a way that the input chooses:
  // no sentence may show any of it, unless another option asks for it by name.
  constexpr std::string_view kMarked = "bWFya2Vk2Vj2V0";
  const bool asks = strcasestr(std::string(content).c_str(), "%(secret") != nullptr ||
                    content.find('\0') != content.npos || content.find(kMarked) != content.npos;
  if (asks || size == 0) return 0;
  constexpr std::string_view kWrongs[] = {"",    "%", "!",   "%(secret)s", "%(",
                                          "\n ", "=", "==A", "\xff"};
  const auto wrong = kWrongs[data[size / 2] % std::size(kWrongs)];
  const std::string whole = concat(content, "\n[one more]\nkey_id = ", std::string(64, 'a'),
                                   "\nsecret = ", kMarked, wrong, kMarked, "\n");
  const auto marked = load(whole);
  check_sentences(marked, whole);
  for (const auto* list : {&marked.problems, &marked.warnings}) {
    for (const auto& sentence : *list) {
      require(sentence.find(kMarked) == sentence.npos, "no sentence shows a secret", sentence);
    }
  }
  return 0;
}
