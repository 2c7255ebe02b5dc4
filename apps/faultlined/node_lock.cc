// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/node_lock.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace faultline::daemon {
namespace {

/// Who listens there; 0: nobody that says so.
pid_t listener_of(const sockaddr_un& address, socklen_t size) {
  const session::Fd peer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) return 0;
  ucred who{};
  socklen_t length = sizeof who;
  if (::getsockopt(peer.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return 0;
  return who.pid;
}

}  // namespace

Result<session::Fd> lock_node(unsigned node, const std::string& instance) {
  std::string name = "faultline/node-" + std::to_string(node);
  if (!instance.empty()) name += '/' + instance;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() > sizeof address.sun_path - 1) {
    return fail(0, "service.instance: the name is too long");
  }
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());

  session::Fd lock(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (lock.get() < 0) return fail(errno, "a socket to lock node " + std::to_string(node));
  if (::bind(lock.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0) {
    // Whoever asks finds the process by it; nothing is ever accepted.
    if (::listen(lock.get(), 1) == 0) return lock;
    return fail(errno, "lock node " + std::to_string(node));
  }
  if (errno != EADDRINUSE) return fail(errno, "lock node " + std::to_string(node));
  const pid_t pid = listener_of(address, size);
  return fail(0, "node " + std::to_string(node) + " is served already" +
                     (pid > 0 ? " by process " + std::to_string(pid) : "") +
                     ": stop that service first");
}

}  // namespace faultline::daemon
