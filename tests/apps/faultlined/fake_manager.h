// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/keeper.h"

namespace faultline::daemon {

/// systemd's end of sd_notify: a socket in the abstract namespace, and an fd store with its rules
/// (a file that is there under any name is not added again; removal is by name).
class FakeManager {
 public:
  FakeManager() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "faultline-test-" + std::to_string(getpid()) + "-" +
                             std::to_string(reinterpret_cast<std::uintptr_t>(this));
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    bound_ = bind(socket_, reinterpret_cast<const sockaddr*>(&address), size) == 0;
    setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  }
  ~FakeManager() {
    unsetenv("NOTIFY_SOCKET");
    for (const auto& s : store) close(s.fd);
    close(socket_);
  }
  FakeManager(const FakeManager&) = delete;
  FakeManager& operator=(const FakeManager&) = delete;

  [[nodiscard]] bool bound() const { return bound_; }

  /// Take what has been sent; false: nothing more. `last` is the message.
  bool turn() {
    std::array<char, 8192> text{};
    iovec vector{text.data(), text.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int)) + CMSG_SPACE(64)> control{};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t n = recvmsg(socket_, &message, MSG_CMSG_CLOEXEC);
    if (n < 0) return false;
    last.assign(text.data(), static_cast<std::size_t>(n));
    int fd = -1;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
      }
    }
    const std::string name = value("FDNAME");
    if (value("FDSTORE") == "1" && !add(name, fd)) close(fd);
    if (value("FDSTOREREMOVE") == "1") remove(name);
    return true;
  }
  void turn_all() {
    while (turn()) {
    }
  }

  /// Of an assignment in the last message.
  [[nodiscard]] std::string value(const std::string& key) const {
    const std::string text = "\n" + last + "\n";
    const auto at = text.find("\n" + key + "=");
    if (at == std::string::npos) return {};
    const auto from = at + key.size() + 2;
    return text.substr(from, text.find('\n', from) - from);
  }

  /// Duplicates of what is stored, as they would be passed to the next life.
  [[nodiscard]] std::vector<session::KeptFd> hand_over() const {
    std::vector<session::KeptFd> out;
    for (const auto& s : store) out.push_back({s.name, fcntl(s.fd, F_DUPFD_CLOEXEC, 0)});
    return out;
  }

  std::string last;
  std::vector<session::KeptFd> store;

 private:
  bool add(const std::string& name, int fd) {
    if (fd < 0 || name.empty() || name.size() > 255 || name.find(':') != std::string::npos) {
      return false;
    }
    const long self = getpid();
    for (const auto& s : store) {
      if (syscall(SYS_kcmp, self, self, 0L, s.fd, fd) == 0) return false;
    }
    store.push_back({name, fd});
    return true;
  }
  void remove(const std::string& name) {
    for (std::size_t i = store.size(); i-- > 0;) {
      if (store[i].name != name) continue;
      close(store[i].fd);
      store.erase(store.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  int socket_;
  bool bound_ = false;
};

}  // namespace faultline::daemon
