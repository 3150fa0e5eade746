// SPDX-License-Identifier: GPL-3.0-or-later
// Whether the interface and the address that the settings name exist at the moment (rtnetlink(7)).
// The socket is opened before the jail; the kernel answers each question while it is being asked.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "common/result.h"
#include "common/unique_fd.h"

namespace mandos::monitor {

class NetworkWatch {
 public:
  struct View {
    unsigned index = 0;           // of the interface; 0: it does not exist, or none was named
    bool address_exists = false;  // true as well when none was named
    bool operator==(const View&) const = default;
  };
  /// `interface` may be empty. An IPv4 `address` is a mapped one (RFC 4291 section 2.5.5.2).
  static Result<NetworkWatch> open(std::string interface, std::optional<in6_addr> address);

  /// Readable when something has changed that may change the result of look().
  int fd() const { return socket_.get(); }
  /// Discards the notifications. Some may have been lost, so look() does not use them.
  void drain() const;
  /// No value: the answer was lost among the notifications. Ask again later.
  std::optional<View> look();

 private:
  NetworkWatch(UniqueFd socket, std::uint32_t port, std::string interface,
               std::optional<in6_addr> address)
      : socket_(std::move(socket)),
        port_(port),
        interface_(std::move(interface)),
        address_(address) {}
  /// Whether the kernel answered. `answer` is empty if what was asked for does not exist.
  template <class Answer, class Question>
  /// The last `unused` bytes of the question are not sent.
  bool ask(std::uint16_t type, const Question& question, std::optional<Answer>& answer,
           std::size_t unused = 0);

  UniqueFd socket_;
  std::uint32_t port_;  // the socket's address
  std::string interface_;
  std::optional<in6_addr> address_;
  std::uint32_t serial_ = 0;
};

}  // namespace mandos::monitor
