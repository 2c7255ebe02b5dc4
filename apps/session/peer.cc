// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/peer.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace faultline::session {

Result<PeerId> peer_of(int socket) {
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
    return fail(errno, "ask for a peer's credentials");
  }
  PeerId out{credentials.pid, credentials.uid, credentials.gid, {}};
  out.groups.resize(64);
  bytes = static_cast<socklen_t>(out.groups.size() * sizeof(gid_t));
  int rc = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, out.groups.data(), &bytes);
  if (rc != 0 && errno == ERANGE) {  // `bytes` is now what it takes
    out.groups.resize(bytes / sizeof(gid_t));
    rc = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, out.groups.data(), &bytes);
  }
  // Without them the peer has its primary group.
  out.groups.resize(rc == 0 ? bytes / sizeof(gid_t) : 0);
  out.groups.push_back(out.gid);
  return out;
}

bool is_operator(const PeerId& peer) noexcept {
  return peer.uid == 0 || peer.uid == ::geteuid();
}

bool may_attach(const PeerId& peer, const ServerOptions& options) noexcept {
  return is_operator(peer) || std::ranges::find(options.uids, peer.uid) != options.uids.end() ||
         std::ranges::any_of(peer.groups, [&](gid_t group) {
           return std::ranges::find(options.gids, group) != options.gids.end();
         });
}

Nanos Rate::take(unsigned per_second, Nanos now) noexcept {
  constexpr Nanos kSecond = 1'000'000'000;
  const Nanos each = kSecond / std::max(per_second, 1U);
  const Nanos due = std::max(next_, now) + each;
  if (due > now + kSecond + each) return due - (now + kSecond + each);
  next_ = due;
  return 0;
}

std::string Session::who() const {
  return fmt::format("session {} ({}pid {}, uid {})", id, name.empty() ? "" : name + ", ", peer.pid,
                     peer.uid);
}

}  // namespace faultline::session
