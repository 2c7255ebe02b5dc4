// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/process_channel.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace faultline::soft {
namespace {

// Room for a few more than allowed, so that these arrive and can be closed.
constexpr std::size_t kControlSize = CMSG_SPACE(8 * sizeof(int));

}  // namespace

void Descriptors::clear() noexcept {
  for (const int fd : fds_) {
    if (fd >= 0) close(fd);
  }
  fds_.clear();
}

int Descriptors::take(std::size_t i) noexcept {
  return i < fds_.size() ? std::exchange(fds_[i], -1) : -1;
}

int send_message(int socket, std::span<const std::byte> head, std::span<const std::byte> payload,
                 std::span<const int> fds) noexcept {
  iovec parts[2] = {{const_cast<std::byte*>(head.data()), head.size()},
                    {const_cast<std::byte*>(payload.data()), payload.size()}};
  alignas(cmsghdr) char control[kControlSize] = {};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = payload.empty() ? 1 : 2;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : 0;
}

ssize_t receive_message(int socket, std::span<std::byte> buffer, Descriptors& fds,
                        int flags) noexcept {
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[kControlSize] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  fds.clear();
  std::size_t n = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i, ++n) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      fds.add(fd);
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || n > kMaxDescriptors) {
    fds.clear();
    return -EMSGSIZE;
  }
  return got;
}

}  // namespace faultline::soft
