// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "apps/metrics/moment.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline {

/// Where node 0's service listens: systemd's socket where there is one, else that of `./fl serve`.
[[nodiscard]] std::string default_socket();

/// An operator's session with a running service: doc/session.md without any guest.
///
/// thread   one
class ServiceSocket {
 public:
  static constexpr Nanos kPatience = 5'000'000'000;

  /// Connect and greet. Says goodbye and closes with the object.
  ///
  /// patience   how long it waits for a connection, and for each answer
  /// errors     nothing listens there, it refuses this user, or it speaks another version
  static Result<ServiceSocket> open(const std::string& path, Nanos patience = kPatience);
  ServiceSocket(ServiceSocket&& other) noexcept;
  ServiceSocket& operator=(ServiceSocket&& other) noexcept;
  ServiceSocket(const ServiceSocket&) = delete;
  ServiceSocket& operator=(const ServiceSocket&) = delete;
  ~ServiceSocket();

  /// One request without fields. After an error the connection is of no more use.
  ///
  /// errors   the service's own line; ECONNRESET: it went away; ETIMEDOUT
  Result<nlohmann::ordered_json> ask(const std::string& method);

  /// As open() was told.
  void set_patience(Nanos patience) noexcept { patience_ = patience; }

  /// Whether the service closed the connection within so long.
  bool closed_within(Nanos time);

 private:
  ServiceSocket(int fd, std::string path, Nanos patience) noexcept
      : fd_(fd), path_(std::move(path)), patience_(patience) {}
  Result<nlohmann::ordered_json> request(nlohmann::ordered_json request);
  struct Answer {
    std::string text;
    int file = -1;  ///< of a result that is longer than a packet
  };
  Result<Answer> receive();

  int fd_ = -1;
  std::string path_;
  Nanos patience_ = kPatience;
  std::uint64_t next_ = 1;
};

/// What the service is now.
Result<metrics::Moment> ask_moment(ServiceSocket& service);

}  // namespace faultline
