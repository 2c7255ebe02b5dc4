// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/guest_book.h"
#include "apps/session/heartbeat.h"
#include "apps/session/methods.h"
#include "apps/session/offenders.h"
#include "apps/session/peer.h"
#include "apps/session/server.h"
#include "apps/session/wire.h"

namespace faultline::session {

inline constexpr Nanos kMs = 1'000'000;
inline constexpr std::uint64_t kListener = 0;  ///< in the place of a session's id

[[nodiscard]] std::string dump(const nlohmann::json& j);
/// The answer to a request that is refused, or to what is none.
[[nodiscard]] std::string refusal(const nlohmann::json& id, const std::string& line);

/// What a Server is made of. server.cc has its turn and the packets of sessions, server_peers.cc
/// who may connect, and who is put aside.
struct Server::State {
  State(GuestHost& guest_host, Keeper& keeper, ServerOptions o, Heartbeat page, Fd poll)
      : host(guest_host),
        options(std::move(o)),
        heartbeat(std::move(page)),
        epoll(std::move(poll)),
        guests(guest_host, keeper, [this](const std::string& line) { log(line); }),
        service{&host, &guests, &heartbeat, &options, &counters, &drain} {}

  void log(const std::string& line) const {
    if (options.log) options.log(line);
  }

  void turn(int timeout_ms);
  void hear(bool on) const;
  void accept_peers();
  bool accept_one();
  std::string refuse_peer(const PeerId& peer) const;
  void put_aside(const std::string& line, uid_t uid);
  void end_blocking(bool all, Session* asking);
  void serve(Session& session, Nanos now);
  void serve_packet(Session& session, Packet packet);
  Result<Reply> do_request(Session& session, Request& request);
  void reply(Session& session, std::string text, std::vector<Fd> fds);
  void flush(Session& session);
  bool held_up(const Session& session) const;
  void watch(const Session& session) const;
  void end(Session& session, Nanos now);
  void publish();
  [[nodiscard]] int patience(int timeout_ms, Nanos now) const;

  GuestHost& host;
  ServerOptions options;
  Heartbeat heartbeat;
  Fd epoll;
  GuestBook guests;
  ServerCounters counters;   // the session thread's
  ServerCounters published;  // of some recent moment, for any thread
  bool drain = false;
  Service service;
  Fd listener;
  Offenders offenders;
  Nanos looked_at = 0;   ///< for guests whose VMM made an eventfd block
  Nanos deaf_until = 0;  ///< not 0: peers that want to connect wait so long
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, Session> sessions;
};

}  // namespace faultline::session
