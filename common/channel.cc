// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/channel.h"

#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message_lite.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/descriptors.h"
#include "common/event_loop.h"

namespace mandos {
namespace {

constexpr std::size_t kMostDescriptors = 16;
// A round of the loop serves at most so many datagrams of one door, so that no peer starves others.
constexpr int kDatagramsPerRound = 16;

}  // namespace

Result<DoorPair> make_door() {
  std::array<int, 2> fds{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) != 0) {
    return errno_error(errno, "socketpair");
  }
  return DoorPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void refuse_descriptors(int socket) {
  constexpr int kPassRights = 83;  // SO_PASSRIGHTS, newer than our C library
  const int no = 0;
  static_cast<void>(setsockopt(socket, SOL_SOCKET, kPassRights, &no, sizeof no));
}

Channel::Channel(UniqueFd fd, const Limits& limits)
    : fd_(std::move(fd)), limits_(limits), buffer_(limits.receive) {}

Result<std::optional<Channel::Datagram>> Channel::receive() {
  iovec part{buffer_.data(), buffer_.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostDescriptors)> control{};
  // Without room for them the kernel installs no descriptor and says MSG_CTRUNC.
  msghdr header{
      .msg_name = nullptr,
      .msg_namelen = 0,
      .msg_iov = &part,
      .msg_iovlen = 1,
      .msg_control = limits_.descriptors > 0 ? control.data() : nullptr,
      .msg_controllen = limits_.descriptors > 0 ? CMSG_SPACE(sizeof(int) * limits_.descriptors) : 0,
      .msg_flags = 0};
  const ssize_t size = recvmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return std::optional<Datagram>();
    return errno_error(errno, "recvmsg");
  }
  std::vector<UniqueFd> descriptors;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + CMSG_LEN(sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0) return Error{"descriptors that nobody asked for"};
  if ((header.msg_flags & MSG_TRUNC) != 0) return Error{"a message longer than allowed"};
  // No message of ours is empty: this is the end of the stream.
  if (size == 0) return Error{"closed by the peer"};
  received_ = static_cast<std::size_t>(size);
  return std::optional(Datagram{{buffer_.data(), received_}, std::move(descriptors)});
}

void Channel::wipe_received() { explicit_bzero(buffer_.data(), received_); }

Channel::Sent Channel::send_now(std::string_view bytes, std::span<const int> descriptors,
                                const Tail& tail) const {
  std::array<iovec, 2> parts{
      iovec{const_cast<char*>(bytes.data()), bytes.size()},
      iovec{const_cast<unsigned char*>(tail.bytes.data()), tail.bytes.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostDescriptors)> control{};
  msghdr header{.msg_name = nullptr,
                .msg_namelen = 0,
                .msg_iov = parts.data(),
                .msg_iovlen = tail.bytes.empty() ? 1U : 2U,
                .msg_control = nullptr,
                .msg_controllen = 0,
                .msg_flags = 0};
  if (!descriptors.empty()) {
    if (descriptors.size() > kMostDescriptors) return Sent::kNever;
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(c), descriptors.data(), descriptors.size_bytes());
  }
  if (sendmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::kYes;
  return errno == EAGAIN || errno == EINTR ? Sent::kLater : Sent::kNever;
}

bool Channel::send(const google::protobuf::MessageLite& message, std::span<const int> descriptors,
                   Tail tail) {
  scratch_.clear();
  if (!message.AppendToString(&scratch_)) return false;
  if (!tail.bytes.empty()) {
    using google::protobuf::io::CodedOutputStream;
    constexpr std::uint32_t kLengthDelimited = 2;  // wire type, protobuf encoding
    std::array<std::uint8_t, 16> head{};
    auto* end = CodedOutputStream::WriteVarint32ToArray(
        static_cast<std::uint32_t>(tail.bytes.size()),
        CodedOutputStream::WriteVarint32ToArray(tail.field << 3 | kLengthDelimited, head.data()));
    scratch_.append(head.data(), end);
  }
  if (queue_.empty()) {
    const Sent sent = send_now(scratch_, descriptors, tail);
    if (sent != Sent::kLater) return sent == Sent::kYes;
  }
  Queued queued{scratch_, {}, std::move(tail)};
  for (const int fd : descriptors) queued.descriptors.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return put(std::move(queued), queue_.end());
}

bool Channel::send_first(const google::protobuf::MessageLite& message) {
  if (queue_.empty()) return send(message);
  return put({message.SerializeAsString(), {}, {}}, queue_.begin());
}

bool Channel::put(Queued queued, const std::deque<Queued>::iterator& where) {
  if (queued_bytes_ + queued.size() > limits_.queue) return false;
  queued_bytes_ += queued.size();
  queue_.insert(where, std::move(queued));
  return true;
}

bool Channel::flush() {
  while (!queue_.empty()) {
    const Queued& next = queue_.front();
    const Sent sent = send_now(next.bytes, numbers_of(next.descriptors), next.tail);
    if (sent != Sent::kYes) return sent == Sent::kLater;
    queued_bytes_ -= next.size();
    queue_.pop_front();
  }
  return true;
}

Door::Door(EventLoop& loop, UniqueFd fd, const Channel::Limits& limits, OnDatagram on_datagram,
           OnClosed on_closed)
    : loop_(loop),
      channel_(std::move(fd), limits),
      on_datagram_(std::move(on_datagram)),
      on_closed_(std::move(on_closed)) {
  loop_.watch(channel_.fd(), EPOLLIN, [this](std::uint32_t events) { serve(events); });
}

Door::~Door() {
  if (destroyed_ != nullptr) *destroyed_ = true;
  loop_.unwatch(channel_.fd());
}

void Door::fail(std::string why) {
  if (failed_) return;
  failed_ = true;
  loop_.unwatch(channel_.fd());
  loop_.at(BootClock::now(), [this, why = std::move(why), alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired()) on_closed_(why);
  });
}

void Door::send(const google::protobuf::MessageLite& message, std::span<const int> descriptors,
                Channel::Tail tail) {
  if (!failed_) sent(channel_.send(message, descriptors, std::move(tail)));
}

void Door::send_first(const google::protobuf::MessageLite& message) {
  if (!failed_) sent(channel_.send_first(message));
}

void Door::sent(bool done) {
  if (!done) {
    fail("the peer does not read or is gone");
  } else if (channel_.waiting() && !watching_write_) {
    loop_.rewatch(channel_.fd(), EPOLLIN | EPOLLOUT);
    watching_write_ = true;
  }
}

void Door::serve(std::uint32_t epoll_events) {
  if ((epoll_events & EPOLLOUT) != 0) {
    if (!channel_.flush()) return fail("the peer is gone");
    if (!channel_.waiting()) {
      loop_.rewatch(channel_.fd(), EPOLLIN);
      watching_write_ = false;
      on_drained_();
    }
  }
  bool destroyed = false;
  destroyed_ = &destroyed;
  for (int i = 0; i < kDatagramsPerRound && !failed_; ++i) {
    auto received = channel_.receive();
    if (!received) {
      fail(received.error());
    } else if (!*received) {
      break;
    } else {
      on_datagram_(std::move(**received));
      if (destroyed) return;
    }
  }
  destroyed_ = nullptr;
}

}  // namespace mandos
