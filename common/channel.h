// SPDX-License-Identifier: GPL-3.0-or-later
// One end of a door: a SOCK_SEQPACKET socket between two processes. Each datagram carries one
// protobuf message. Both directions are bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"

namespace google::protobuf {
class MessageLite;
}

namespace mandos {

class EventLoop;

/// A door's two ends.
struct DoorPair {
  UniqueFd first;
  UniqueFd second;
};
/// A connected pair of non-blocking, close-on-exec SOCK_SEQPACKET sockets.
Result<DoorPair> make_door();
/// From now on nobody can send a descriptor to `socket`, the receiving end of a pair: a sender that
/// tries gets EPERM. Without this, the kernel closes unwanted descriptors during recvmsg(2), and
/// the sender can choose a file whose close blocks. No effect before Linux 6.16.
void refuse_descriptors(int socket);

class Channel {
 public:
  struct Limits {
    /// Longest datagram that is accepted, in bytes.
    std::size_t receive;
    /// Most bytes that may be queued for a peer that does not read, without tails.
    std::size_t queue;
    /// Most descriptors that may come with one datagram.
    std::size_t descriptors = 0;
  };
  struct Datagram {
    /// Valid until the next receive().
    std::string_view bytes;
    std::vector<UniqueFd> descriptors;
  };
  /// Bytes that follow a message as its length-delimited field `field`. They are not copied on the
  /// way to the kernel; `owner` keeps them alive while they are queued.
  struct Tail {
    std::uint32_t field;
    std::span<const unsigned char> bytes;
    std::shared_ptr<const void> owner;
  };

  Channel(UniqueFd fd, const Limits& limits);

  int fd() const { return fd_.get(); }

  /// The next datagram, or nothing if none has arrived. An Error if the peer is gone or exceeded a
  /// limit; the channel cannot be used after that.
  Result<std::optional<Datagram>> receive();
  /// Overwrites the buffer of the last receive(), for datagrams that held a secret.
  void wipe_received();

  /// Sends now, or queues if the peer is slow. False: the queue is full or the peer is gone; the
  /// channel cannot be used after that. The caller keeps `descriptors`.
  bool send(const google::protobuf::MessageLite& message, std::span<const int> descriptors = {},
            Tail tail = {});
  /// As send(), ahead of everything that is queued.
  bool send_first(const google::protobuf::MessageLite& message);
  /// Sends what is queued. False as with send().
  bool flush();
  bool waiting() const { return !queue_.empty(); }
  /// Queued bytes, without tails.
  std::size_t queued() const { return queued_bytes_; }

 private:
  struct Queued {
    std::string bytes;
    std::vector<UniqueFd> descriptors;
    Tail tail;
    std::size_t size() const { return bytes.size(); }  // the tail is its owner's
  };
  bool put(Queued queued, const std::deque<Queued>::iterator& where);
  enum class Sent { kYes, kLater, kNever };
  Sent send_now(std::string_view bytes, std::span<const int> descriptors, const Tail& tail) const;

  UniqueFd fd_;
  Limits limits_;
  std::vector<char> buffer_;
  std::size_t received_ = 0;
  std::string scratch_;
  std::deque<Queued> queue_;
  std::size_t queued_bytes_ = 0;
};

/// A Channel on an EventLoop.
class Door {
 public:
  using OnDatagram = std::function<void(Channel::Datagram datagram)>;
  using OnClosed = std::function<void(const std::string& why)>;

  /// `on_datagram` gets each datagram. `on_closed` is called at most once, from the loop and never
  /// from within send(); it may destroy the Door.
  Door(EventLoop& loop, UniqueFd fd, const Channel::Limits& limits, OnDatagram on_datagram,
       OnClosed on_closed);
  ~Door();
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  /// As Channel::send(); after a failure on_closed follows.
  void send(const google::protobuf::MessageLite& message, std::span<const int> descriptors = {},
            Channel::Tail tail = {});
  /// As Channel::send_first(); after a failure on_closed follows.
  void send_first(const google::protobuf::MessageLite& message);
  void wipe_received() { channel_.wipe_received(); }
  /// Handles pending input now, as the loop would, so that a long batch of work does not starve the
  /// peer. Not to be called from within on_datagram.
  void serve(std::uint32_t epoll_events = 0);
  /// True when everything sent has reached the kernel.
  bool drained() const { return !channel_.waiting(); }
  /// `then` is called each time the queue has become empty.
  void on_drained(std::function<void()> then) { on_drained_ = std::move(then); }
  std::size_t queued() const { return channel_.queued(); }
  /// Reads and sends nothing more; on_closed() follows.
  void fail(std::string why);

 private:
  void sent(bool done);

  EventLoop& loop_;
  Channel channel_;
  OnDatagram on_datagram_;
  OnClosed on_closed_;
  std::function<void()> on_drained_ = [] {};
  bool watching_write_ = false;
  bool failed_ = false;
  // Tells serve() that a callback destroyed this object.
  bool* destroyed_ = nullptr;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace mandos
