// SPDX-License-Identifier: GPL-3.0-or-later
// The other end of a door.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "common/channel.h"
#include "common/event_loop.h"
#include "tests/fuzz/input.h"

namespace mandos::fuzz {

/// To be called where an input leaves nothing behind.
inline void require_descriptors() {
  constexpr int kMost = 100;
  const UniqueFd lowest(dup(STDERR_FILENO));
  require(lowest.get() < kMost, "descriptors are given back");
}

/// A process's end of its door.
class Peer {
 public:
  static constexpr std::size_t kMostDescriptors = 4;

  explicit Peer(UniqueFd fd) : fd_(std::move(fd)), buffer_(256 * 1024) {}

  void send(std::string_view bytes, const std::vector<int>& descriptors = {}) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostDescriptors)> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!descriptors.empty()) {
      const std::size_t size = sizeof(int) * descriptors.size();
      require(descriptors.size() <= kMostDescriptors, "few descriptors");
      header.msg_control = control.data();
      header.msg_controllen = CMSG_SPACE(size);
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(size);
      std::memcpy(CMSG_DATA(c), descriptors.data(), size);
    }
    // What does not fit is lost: this process is not one that waits.
    static_cast<void>(!sendmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL));
  }
  /// Calls `heard` with each datagram that is there.
  template <class Heard>
  void receive(Heard heard) {
    if (!fd_) return;
    ssize_t size = 0;
    while ((size = recv(fd_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT)) > 0) {
      heard(std::string_view(buffer_.data(), static_cast<std::size_t>(size)));
    }
  }
  int fd() const { return fd_.get(); }
  void hang_up() { fd_.reset(); }

 private:
  UniqueFd fd_;
  std::vector<char> buffer_;
};

}  // namespace mandos::fuzz
