// SPDX-License-Identifier: GPL-3.0-or-later
#include "bus-agent/announcer.h"

#include <avahi-common/alternative.h>
#include <avahi-common/error.h>
#include <avahi-common/malloc.h>

#include <algorithm>

#include "bus-agent/main_loop.h"

namespace mandos::bus_agent {
namespace {

constexpr char kType[] = "_mandos._tcp";
constexpr unsigned kFirstDelayMs = 500;
constexpr unsigned kLongestDelayMs = 10'000;

}  // namespace

Announcer::Announcer(Log& log) : log_(log) {}

void Announcer::announce(Service service) {
  withdraw();
  service_ = std::move(service);
  name_ = service_->name;
  if (poll_ == nullptr) poll_.reset(avahi_glib_poll_new(nullptr, G_PRIORITY_DEFAULT));
  connect();
}

void Announcer::withdraw() {
  service_.reset();
  if (retry_ != 0) g_source_remove(std::exchange(retry_, 0));
  // The group is taken back by a call that waits for Avahi's answer.
  if (group_ != nullptr && current_ != nullptr) avahi_entry_group_free(group_);
  group_ = nullptr;
  current_ = nullptr;
  client_.reset();
}

void Announcer::connect() {
  int error = 0;
  client_.reset(avahi_client_new(
      avahi_glib_poll_get(poll_.get()), AVAHI_CLIENT_NO_FAIL,
      [](AvahiClient* client, AvahiClientState state, void* self) {
        static_cast<Announcer*>(self)->client_changed(client, state);
      },
      this, &error));
  if (client_ == nullptr) retry(avahi_strerror(error));
}

void Announcer::complain(const std::string& why) {
  if (!complained_) log_.warning("not announced by Avahi, trying on: ", why);
  complained_ = true;
}

// Not from within a callback of the client that it frees.
void Announcer::retry(const std::string& why) {
  complain(why);
  if (retry_ != 0) return;
  delay_ms_ = std::clamp(delay_ms_ * 2, kFirstDelayMs, kLongestDelayMs);
  retry_ = run_after(delay_ms_, [this] {
    retry_ = 0;
    group_ = nullptr;  // goes with its client
    current_ = nullptr;
    client_.reset();
    connect();
  });
}

void Announcer::client_changed(AvahiClient* client, AvahiClientState state) {
  current_ = client;
  switch (state) {
    case AVAHI_CLIENT_S_RUNNING:
      return publish();
    case AVAHI_CLIENT_S_REGISTERING:
    case AVAHI_CLIENT_S_COLLISION:
      // The host name changes: once that is over we are told S_RUNNING.
      if (group_ != nullptr) avahi_entry_group_reset(group_);
      return;
    case AVAHI_CLIENT_CONNECTING:
      return complain("its daemon does not run");
    case AVAHI_CLIENT_FAILURE:
      return retry(avahi_strerror(avahi_client_errno(client)));
  }
}

void Announcer::publish() {
  if (!service_) return;
  if (group_ == nullptr) {
    group_ = avahi_entry_group_new(
        current_,
        [](AvahiEntryGroup* group, AvahiEntryGroupState state, void* self) {
          static_cast<Announcer*>(self)->group_changed(group, state);
        },
        this);
    if (group_ == nullptr) return retry(avahi_strerror(avahi_client_errno(current_)));
  }
  if (avahi_entry_group_is_empty(group_) == 0) return;
  const AvahiIfIndex interface =
      service_->interface == 0 ? AVAHI_IF_UNSPEC : static_cast<AvahiIfIndex>(service_->interface);
  const AvahiProtocol protocol = service_->ipv6 ? AVAHI_PROTO_INET6 : AVAHI_PROTO_INET;
  int error = AVAHI_ERR_COLLISION;
  // A collision with another service of this host is known at once.
  for (int attempt = 0; attempt < 100 && error == AVAHI_ERR_COLLISION; ++attempt) {
    if (attempt > 0) rename();
    error = avahi_entry_group_add_service_strlst(group_, interface, protocol, AvahiPublishFlags{},
                                                 name_.c_str(), kType, nullptr, nullptr,
                                                 service_->port, nullptr);
  }
  if (error == AVAHI_OK) error = avahi_entry_group_commit(group_);
  if (error != AVAHI_OK) retry(avahi_strerror(error));
}

void Announcer::rename() {
  char* other = avahi_alternative_service_name(name_.c_str());
  log_.warning("the service name ", name_, " is taken: trying ", other);
  name_ = other;
  avahi_free(other);
}

void Announcer::group_changed(AvahiEntryGroup* group, AvahiEntryGroupState state) {
  group_ = group;
  switch (state) {
    case AVAHI_ENTRY_GROUP_ESTABLISHED:
      delay_ms_ = 0;
      log_.write(complained_ ? LogLevel::kWarning : LogLevel::kInfo,
                 concat("announced by Avahi as ", name_));
      complained_ = false;
      return;
    case AVAHI_ENTRY_GROUP_COLLISION:
      rename();
      avahi_entry_group_reset(group);
      return publish();
    case AVAHI_ENTRY_GROUP_FAILURE:
      return retry(avahi_strerror(avahi_client_errno(avahi_entry_group_get_client(group))));
    case AVAHI_ENTRY_GROUP_UNCOMMITED:
    case AVAHI_ENTRY_GROUP_REGISTERING:
      return;
  }
}

}  // namespace mandos::bus_agent
