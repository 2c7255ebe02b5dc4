// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <utility>
#include <vector>

#include "apps/session/close.h"
#include "apps/session/fd.h"
#include "apps/session/wire.h"

namespace faultline::session::testing {

/// A descriptor whose last close() waits until its peer goes: a TCP socket that lingers, with data
/// that nobody reads.
class Lingering {
 public:
  Lingering() {
    wait_until_closed();  // from here on closing() counts what comes of this one
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof any;
    auto* const address = reinterpret_cast<sockaddr*>(&any);
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_TRUE(::bind(listener, address, bytes) == 0 && ::listen(listener, 1) == 0 &&
                ::getsockname(listener, address, &bytes) == 0 &&
                ::connect(fd_, address, bytes) == 0);
    peer_ = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    EXPECT_GE(peer_, 0);
    ::close(listener);
    const std::array<char, 65536> data{};
    while (::send(fd_, data.data(), data.size(), MSG_DONTWAIT) > 0) continue;
    const linger wait{.l_onoff = 1, .l_linger = 3600};
    EXPECT_EQ(::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &wait, sizeof wait), 0);
  }
  Lingering(const Lingering&) = delete;
  Lingering& operator=(const Lingering&) = delete;
  ~Lingering() {
    EXPECT_EQ(fd_, -1) << "nobody closed it";
    end();
  }

  /// The caller's from now on.
  int release() noexcept { return std::exchange(fd_, -1); }
  /// Send it, and have none left.
  void pass(int socket, const char* text = "{}") {
    std::vector<Fd> fds;
    fds.emplace_back(release());
    EXPECT_EQ(send(socket, text, fds), 0);
    ::close(fds.front().release());  // the one on its way is the last
  }
  /// The peer goes: the close is over soon.
  void let_go() {
    if (peer_ >= 0) ::close(std::exchange(peer_, -1));
  }
  /// The same, and wait for that; of several it is the last one.
  void end() {
    let_go();
    wait_until_closed();
  }

 private:
  int fd_ = -1;
  int peer_ = -1;
};

}  // namespace faultline::session::testing
