// SPDX-License-Identifier: BSD-3-Clause
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "apps/session/server_state.h"

namespace faultline::session {
namespace {

constexpr Nanos kDeaf = 500 * kMs;
constexpr unsigned kAcceptsPerTurn = 16;

}  // namespace

/// Without a descriptor to accept it, a peer that waits would make every turn a busy one.
void Server::State::hear(bool on) const {
  epoll_event event{};
  if (on) event.events = EPOLLIN;
  event.data.u64 = kListener;
  (void)::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, listener.get(), &event);
}

void Server::State::accept_peers() {
  for (unsigned i = 0; i < kAcceptsPerTurn; ++i) {
    if (!accept_one()) return;
  }
}

bool Server::State::accept_one() {
  Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    const int error = errno;
    if (error == EMFILE || error == ENFILE || error == ENOMEM) {
      log("no descriptors for another peer: raise LimitNOFILE");
      hear(false);
      deaf_until = monotonic_ns() + kDeaf;
    }
    return error == ECONNABORTED || error == EINTR;
  }
  auto peer = peer_of(socket.get());
  const std::string no = peer ? refuse_peer(*peer) : peer.error().message();
  if (!no.empty()) {
    ++counters.refused_peers;
    (void)send(socket.get(), refusal(nullptr, no), {});
    log("a peer was refused: " + no);
    hang_up(std::move(socket));
    return true;
  }
  const std::uint64_t id = next_id++;
  Session& session = sessions[id];
  session.id = id;
  session.socket = std::move(socket);
  session.peer = std::move(*peer);
  ++counters.accepted;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = id;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, session.socket.get(), &event) != 0) {
    sessions.erase(id);
  }
  return true;
}

std::string Server::State::refuse_peer(const PeerId& peer) const {
  if (!may_attach(peer, options)) {
    return fmt::format(
        "uid {} may not attach guests here; the operator names users and groups in "
        "the configuration",
        peer.uid);
  }
  if (offenders.aside(peer.uid)) {
    return fmt::format("uid {} is put aside for {} s: a VMM of it would have held the service up",
                       peer.uid, offenders.seconds_left(peer.uid, monotonic_ns()));
  }
  if (sessions.size() >= options.limits.sessions) {
    return fmt::format("the service has {} sessions, which is the limit", sessions.size());
  }
  const auto same =
      std::ranges::count_if(sessions, [&](const auto& s) { return s.second.peer.uid == peer.uid; });
  if (same >= static_cast<std::ptrdiff_t>(options.limits.sessions_per_uid)) {
    return fmt::format("uid {} has {} sessions, which is the limit", peer.uid, same);
  }
  return {};
}

/// One line of what was done, and who may not connect for a time.
void Server::State::put_aside(const std::string& line, uid_t uid) {
  // The operator's own would only be locked out of helping.
  if (is_operator({0, uid, 0, {}})) return log(line);
  offenders.put_aside(uid, monotonic_ns());
  log(fmt::format("{}; uid {} is put aside for {} s", line, uid, Offenders::kAside / (1000 * kMs)));
}

/// Guests whose VMM made an eventfd block go, with the sessions that have them.
///
/// all      look at all that are served, too; else only what a request has just taken off its cores
/// asking   the session of that request; null: none
void Server::State::end_blocking(bool all, Session* asking) {
  for (const std::string& name : host.take_blocked(all)) {
    Guest* guest = guests.find(name);
    Session* session = asking;
    if (guest != nullptr) {
      const auto at = sessions.find(guest->session);
      session = at == sessions.end() ? nullptr : &at->second;
    }
    if (guest == nullptr && session == nullptr) continue;
    const uid_t uid = guest != nullptr ? guest->state.uid : session->peer.uid;
    const std::string who = session != nullptr ? session->who() : fmt::format("uid {}", uid);
    if (guest != nullptr) {
      // Found again in the next look.
      if (auto ok = guests.remove(*guest); !ok) {
        log(who + ": guest " + name + ": " + ok.error().message());
        continue;
      }
    }
    if (session != nullptr) session->over = true;
    put_aside(who + ": guest " + name + " is removed: its VMM made an eventfd block a polling core",
              uid);
  }
}

}  // namespace faultline::session
