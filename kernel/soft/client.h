// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kernel/soft/process_channel.h"

namespace faultline::soft {

/// What came back of one call.
struct Reply {
  std::int64_t result = 0;
  std::uint64_t value = 0;
  std::vector<std::byte> bytes;
  int fd = -1;  ///< the caller's
};

/// One process's sessions with a kernel process: one per descriptor in use.
///
/// thread   any; calls on one descriptor wait for each other
class Client {
 public:
  explicit Client(int root) noexcept : root_(root) {}

  [[nodiscard]] int root() const noexcept { return root_; }

  /// Whether the descriptor can be an open file of a kernel process: a SOCK_SEQPACKET connection.
  [[nodiscard]] static bool is_file(int fd) noexcept;

  /// Make one call on the file behind `fd`.
  ///
  /// errors   in Reply::result: -EIO the kernel process is gone; -EBADF not a file
  Reply call(int fd, const MessageHeader& header, std::span<const std::byte> payload,
             std::span<const int> fds) noexcept;

  /// Forget the session of a descriptor that is being closed.
  void forget(int fd) noexcept;

 private:
  struct Session {
    Session() = default;
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    int fd = -1;
    ino_t file = 0;  ///< of the descriptor it belongs to: numbers are used again
    pid_t process = 0;
    std::mutex mutex;
  };
  std::shared_ptr<Session> session(int fd);

  int root_;
  std::mutex mutex_;
  std::map<int, std::shared_ptr<Session>> sessions_;
};

}  // namespace faultline::soft
