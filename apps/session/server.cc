// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/server.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/session/guest_book.h"
#include "apps/session/heartbeat.h"
#include "apps/session/methods.h"
#include "apps/session/peer.h"
#include "apps/session/request.h"
#include "apps/session/sealed.h"
#include "apps/session/wire.h"
#include "kernel/base/shared.h"

namespace faultline::session {
namespace {

using nlohmann::json;

constexpr Nanos kMs = 1'000'000;
constexpr Nanos kDeaf = 500 * kMs;
constexpr int kLongestTurnMs = 100;       // the heartbeat moves at least so often
constexpr unsigned kPacketsPerTurn = 16;  // of one session, so that none keeps the others waiting
constexpr unsigned kAcceptsPerTurn = 16;
constexpr std::size_t kMostUnread = 64;
constexpr std::uint64_t kListener = 0;

std::string dump(const json& j) {
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string refusal(const json& id, const std::string& line) {
  return dump({{"id", id}, {"error", line}});
}

/// What we refuse says all there is to say; what the kernel refuses says why, too.
std::string line_of(const Error& error) {
  constexpr std::array kOurs = {EINVAL, ENOENT, EEXIST, EALREADY, EBUSY, EPROTO, EPERM, ENOTSUP};
  const bool ours = std::ranges::find(kOurs, error.code) != kOurs.end();
  return ours ? error.what : error.message();
}

}  // namespace

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
  void serve(Session& session, Nanos now);
  void serve_packet(Session& session, Packet packet);
  void reply(Session& session, std::string text, std::vector<Fd> fds);
  void flush(Session& session);
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
  Nanos deaf_until = 0;  ///< not 0: peers that want to connect wait so long
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, Session> sessions;
};

void Server::State::turn(int timeout_ms) {
  std::array<epoll_event, 64> events{};
  const int wait = patience(timeout_ms, monotonic_ns());
  const int n = ::epoll_wait(epoll.get(), events.data(), events.size(), wait);
  const Nanos now = monotonic_ns();
  for (int i = 0; i < n; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const std::uint64_t id = event.data.u64;  // a copy: the struct is packed
    if (id == kListener) {
      accept_peers();
      continue;
    }
    const auto at = sessions.find(id);
    if (at == sessions.end()) continue;
    if ((event.events & EPOLLOUT) != 0) flush(at->second);
    if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) serve(at->second, now);
  }
  for (auto at = sessions.begin(); at != sessions.end();) {
    Session& session = at->second;
    if (session.muted_until != 0 && session.muted_until <= now) {
      session.muted_until = 0;
      watch(session);
    }
    if (!session.over) {
      ++at;
      continue;
    }
    end(session, now);
    at = sessions.erase(at);
  }
  if (deaf_until != 0 && deaf_until <= now) {
    deaf_until = 0;
    hear(true);
  }
  guests.expire(now, options.linger_ns);
  heartbeat.beat(host.oldest_beat());
  publish();
}

int Server::State::patience(int timeout_ms, Nanos now) const {
  int wait = timeout_ms < 0 ? kLongestTurnMs : std::min(timeout_ms, kLongestTurnMs);
  for (const auto& [id, session] : sessions) {
    if (session.muted_until == 0) continue;
    const Nanos left = session.muted_until > now ? session.muted_until - now : 0;
    wait = std::min(wait, static_cast<int>(left / kMs) + 1);
  }
  return wait;
}

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

void Server::State::watch(const Session& session) const {
  epoll_event event{};
  if (session.muted_until == 0) event.events |= EPOLLIN;
  if (!session.unread.empty()) event.events |= EPOLLOUT;
  event.data.u64 = session.id;
  (void)::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, session.socket.get(), &event);
}

void Server::State::serve(Session& session, Nanos now) {
  Packet packet;
  for (unsigned i = 0; i < kPacketsPerTurn && !session.over; ++i) {
    if (const Nanos wait = session.rate.take(options.limits.messages_per_second, now)) {
      session.muted_until = now + wait;
      watch(session);
      return;
    }
    switch (receive(session.socket.get(), packet)) {
      case Received::kNothing:
        return;
      case Received::kClosed:
        session.over = true;
        return;
      case Received::kBroken:
        reply(session,
              refusal(nullptr, fmt::format("a packet has at most {} bytes and {} descriptors",
                                           kPacketBytes, kPacketFds)),
              {});
        log(session.who() + ": a packet that is none");
        session.over = true;
        return;
      case Received::kPacket:
        serve_packet(session, std::move(packet));
        break;
    }
  }
}

void Server::State::serve_packet(Session& session, Packet packet) {
  auto request = Request::parse(std::move(packet));
  if (!request) {
    reply(session, refusal(nullptr, request.error().what), {});
    log(session.who() + ": " + request.error().what);
    session.over = true;
    return;
  }
  ++counters.requests;
  auto done = answer(service, session, *request);
  if (!done) {
    // A VMM that comes back asks first whether its guest is here; a no is an answer.
    const bool asked = request->method == "guest.attach" && done.error().code == ENOENT;
    if (!asked) ++counters.refused_requests;
    const std::string line = line_of(done.error());
    log(session.who() + ": " + line);
    reply(session, refusal(request->id, line), {});
    return;
  }
  std::string text = dump({{"id", request->id}, {"result", done->result}});
  if (text.size() > kPacketBytes) {
    if (auto file = sealed_text("result", dump(done->result))) {
      text = dump({{"id", request->id}, {"result_file", done->fds.size()}});
      done->fds.push_back(std::move(*file));
    } else {
      text = refusal(request->id, file.error().message());
      done->fds.clear();
    }
  }
  reply(session, std::move(text), std::move(done->fds));
  if (session.goodbye) session.over = true;
}

void Server::State::reply(Session& session, std::string text, std::vector<Fd> fds) {
  session.unread.push_back({std::move(text), std::move(fds)});
  flush(session);
  if (session.unread.size() < kMostUnread) return;
  log(session.who() + ": it does not read its answers");
  session.over = true;
}

void Server::State::flush(Session& session) {
  const bool waited = session.unread.size() > 1;
  while (!session.unread.empty()) {
    const Answer& first = session.unread.front();
    const int error = send(session.socket.get(), first.text, first.fds);
    if (error == EAGAIN || error == ENOBUFS) {
      watch(session);
      return;
    }
    if (error != 0) {
      session.over = true;
      return;
    }
    session.unread.pop_front();
  }
  if (waited) watch(session);
}

void Server::State::end(Session& session, Nanos now) {
  const auto [linger, let_go] = guests.session_ended(session.id, session.goodbye, now);
  if (session.goodbye || linger + let_go == 0) return;
  if (linger != 0) ++counters.lost_vmms;
  const auto guests_that = [](std::size_t n, const char* one, const char* more) {
    return n == 1 ? fmt::format("guest {}", one) : fmt::format("{} guests {}", n, more);
  };
  log(session.who() + ": it went away without a goodbye; its " +
      (linger == 0
           ? guests_that(let_go, "was not started and is let go", "were not started and are let go")
       : let_go == 0 ? guests_that(linger, "lingers", "linger")
                     : fmt::format("{}, {} not started let go",
                                   guests_that(linger, "lingers", "linger"), let_go)));
}

void Server::State::publish() {
  counters.sessions = sessions.size();
  counters.lingering = guests.lingering();
  copy_to_shared(&published, &counters, sizeof counters);
}

Server::Server() = default;
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::make(GuestHost& host, Keeper& keeper,
                                             ServerOptions options) {
  auto heartbeat = Heartbeat::make();
  if (!heartbeat) return tl::unexpected(std::move(heartbeat.error()));
  Fd poll(::epoll_create1(EPOLL_CLOEXEC));
  if (!poll) return fail(errno, "create an epoll descriptor");
  std::unique_ptr<Server> server(new Server());
  server->state_ = std::make_unique<State>(host, keeper, std::move(options), std::move(*heartbeat),
                                           std::move(poll));
  return server;
}

void Server::listen(int socket) {
  State& s = *state_;
  s.listener = Fd(socket);
  const int flags = ::fcntl(socket, F_GETFL);
  (void)::fcntl(socket, F_SETFL, flags | O_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kListener;
  (void)::epoll_ctl(s.epoll.get(), EPOLL_CTL_ADD, socket, &event);
}

unsigned Server::restore(std::vector<KeptFd> kept) {
  return state_->guests.restore(std::move(kept), monotonic_ns());
}

void Server::turn(int timeout_ms) {
  state_->turn(timeout_ms);
}

void Server::reload(ServerOptions options) {
  state_->options = std::move(options);
}

bool Server::drain_asked() const noexcept {
  return state_->drain;
}

GuestNames Server::guest_names() const {
  return state_->guests.names();
}

ServerCounters Server::counters() const noexcept {
  ServerCounters out;
  copy_from_shared(&out, &state_->published, sizeof out);
  return out;
}

}  // namespace faultline::session
