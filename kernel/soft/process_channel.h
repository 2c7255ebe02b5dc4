// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "kernel/soft/process_protocol.h"

namespace faultline::soft {

/// Descriptors that came with a message; closed unless taken.
class Descriptors {
 public:
  Descriptors() = default;
  ~Descriptors() { clear(); }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  void add(int fd) { fds_.push_back(fd); }
  void clear() noexcept;
  /// Number i, still owned here; -1: there is none.
  [[nodiscard]] int get(std::size_t i) const noexcept { return i < fds_.size() ? fds_[i] : -1; }
  /// Number i, the caller's from now on; -1: there is none.
  int take(std::size_t i) noexcept;

 private:
  std::vector<int> fds_;
};

/// Send one message of two parts with descriptors. 0 or -errno; never raises SIGPIPE.
int send_message(int socket, std::span<const std::byte> head, std::span<const std::byte> payload,
                 std::span<const int> fds) noexcept;

/// Receive one message.
///
/// returns  its size; 0 = the other side is gone; -EMSGSIZE it did not fit or had too many
///          descriptors (they are closed); other -errno
ssize_t receive_message(int socket, std::span<std::byte> buffer, Descriptors& fds,
                        int flags = 0) noexcept;

template <class T>
std::span<const std::byte> bytes_of(const T& t) noexcept {
  return std::as_bytes(std::span<const T>(&t, 1));
}

}  // namespace faultline::soft
