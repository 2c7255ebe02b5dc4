// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/session/guest_host.h"
#include "apps/session/guest_names.h"
#include "apps/session/keeper.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// What one peer may have. 0 is never "no limit".
struct SessionLimits {
  unsigned sessions = 256;  ///< of the service
  unsigned sessions_per_uid = 128;
  unsigned guests_per_session = 8;
  unsigned devices_per_guest = 64;
  unsigned memory_parts = 32;                            ///< of one guest
  std::uint64_t memory_bytes = std::uint64_t{4} << 40U;  ///< of one guest
  unsigned messages_per_second = 1000;
  std::uint64_t descriptors_per_uid = 16384;  ///< by descriptor_limit.h
};

/// What the peers of a service are told, and who they may be.
struct ServerOptions {
  unsigned node = 0;
  std::vector<unsigned> uids;  ///< who may attach guests, besides root and the service's own user
  std::vector<unsigned> gids;
  SessionLimits limits;
  Nanos linger_ns = 30'000'000'000;  ///< a guest whose VMM went away is kept so long for it
  std::function<void(const std::string& line)> log;  ///< about peers; the caller limits its rate
  std::function<nlohmann::json()> status;            ///< the whole service; unset: nothing is told
};

struct ServerCounters {
  std::uint64_t sessions = 0;  ///< open now
  std::uint64_t accepted = 0;
  std::uint64_t refused_peers = 0;  ///< by credentials or limits
  std::uint64_t requests = 0;
  std::uint64_t refused_requests = 0;
  std::uint64_t lost_vmms = 0;   ///< sessions that left guests behind without a goodbye
  std::uint64_t reattached = 0;  ///< guest.attach, or a start with a journal
  std::uint64_t lingering = 0;   ///< guests without a session now
};

/// The service's end of doc/session.md.
///
/// host, keeper   outlive the server
/// thread         one, in which `status` is called, too; counters() any
class Server {
 public:
  static Result<std::unique_ptr<Server>> make(GuestHost& host, Keeper& keeper,
                                              ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Serve peers of this listening SOCK_SEQPACKET socket, which is the server's from now on.
  void listen(int socket);

  /// Take up the guests of an earlier life, before listen(). Owns the descriptors.
  ///
  /// returns  guests that are served again; each one that cannot be is let go with a line in `log`
  unsigned restore(std::vector<KeptFd> kept);

  /// Wait for peers at most so long (and no longer than 100 ms, for the heartbeat), and serve what
  /// they ask.
  void turn(int timeout_ms);

  /// What applies to peers from now on.
  void reload(ServerOptions options);

  /// A peer of the service's own user or root asked for it; the caller ends its loop then.
  [[nodiscard]] bool drain_asked() const noexcept;

  [[nodiscard]] ServerCounters counters() const noexcept;
  [[nodiscard]] GuestNames guest_names() const;

 private:
  Server();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace faultline::session
