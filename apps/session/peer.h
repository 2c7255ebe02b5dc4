// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/fd.h"
#include "apps/session/server.h"
#include "apps/session/wire.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// Who is at the other end, as the kernel says.
struct PeerId {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};
[[nodiscard]] Result<PeerId> peer_of(int socket);

/// Root and the service's own user.
[[nodiscard]] bool is_operator(const PeerId& peer) noexcept;
[[nodiscard]] bool may_attach(const PeerId& peer, const ServerOptions& options) noexcept;

/// So many a second, with a second's worth at once.
class Rate {
 public:
  /// Take one. returns  0, or ns until there is one
  Nanos take(unsigned per_second, Nanos now) noexcept;

 private:
  Nanos next_ = 0;  ///< when the one after those taken would be due
};

/// An answer that the peer's socket had no room for yet.
struct Answer {
  std::string text;
  std::vector<Fd> fds;
};

/// One connection.
struct Session {
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { hang_up(std::move(socket)); }

  std::uint64_t id = 0;
  Fd socket;
  PeerId peer;
  std::string name;  ///< that the VMM says it has
  bool greeted = false;
  bool goodbye = false;
  bool over = false;  ///< to be closed
  Nanos muted_until = 0;
  Rate rate;
  std::deque<Answer> unread;

  [[nodiscard]] std::string who() const;
};

}  // namespace faultline::session
