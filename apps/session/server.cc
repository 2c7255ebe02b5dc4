// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/server.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/session/close.h"
#include "apps/session/descriptor_limit.h"
#include "apps/session/file_sort.h"
#include "apps/session/request.h"
#include "apps/session/sealed.h"
#include "apps/session/server_state.h"
#include "kernel/base/shared.h"

namespace faultline::session {
namespace {

constexpr int kLongestTurnMs = 100;       // the heartbeat moves at least so often
constexpr unsigned kPacketsPerTurn = 16;  // of one session, so that none keeps the others waiting
constexpr std::size_t kMostUnread = 64;
constexpr Nanos kLookEvery = 100 * kMs;  // for guests whose VMM made an eventfd block
constexpr Nanos kHeldUp = 500 * kMs;
constexpr std::size_t kMostClosing = 4096;  // descriptors that wait, of those who are put aside

/// What we refuse says all there is to say; what the kernel refuses says why, too.
std::string line_of(const Error& error) {
  constexpr std::array kOurs = {EINVAL, ENOENT, EEXIST, EALREADY, EBUSY, EPROTO, EPERM, ENOTSUP};
  const bool ours = std::ranges::find(kOurs, error.code) != kOurs.end();
  return ours ? error.what : error.message();
}

/// What of a packet's descriptors no VMM sends in earnest; empty: nothing.
std::string refuse_descriptors(const std::vector<Fd>& fds) {
  for (std::size_t i = 0; i < fds.size(); ++i) {
    if (may_be_passed(sort_of(fds[i].get()))) continue;
    return fmt::format(
        "descriptor {} is neither memfd, eventfd, UNIX socket nor device of VFIO or iommufd: no "
        "method asks for it, and the session ends",
        i);
  }
  return {};
}

}  // namespace

std::string dump(const nlohmann::json& j) {
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string refusal(const nlohmann::json& id, const std::string& line) {
  return dump({{"id", id}, {"error", line}});
}

void Server::State::turn(int timeout_ms) {
  std::array<epoll_event, 64> events{};
  const int wait = patience(timeout_ms, monotonic_ns());
  const int n = ::epoll_wait(epoll.get(), events.data(), events.size(), wait);
  const Nanos now = monotonic_ns();
  // Those whose descriptors are not closed yet stay aside, or more would come with every hour.
  if (closing() < kMostClosing) offenders.expire(now);
  if (now - looked_at >= kLookEvery) {
    looked_at = now;
    end_blocking(true, nullptr);
  }
  for (int i = 0; i < n; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const std::uint64_t id = event.data.u64;  // a copy: the struct is packed
    if (id == kListener) {
      accept_peers();
      continue;
    }
    const auto at = sessions.find(id);
    if (at == sessions.end()) continue;
    if (held_up(at->second) && (event.events & EPOLLHUP) != 0) at->second.over = true;
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

void Server::State::watch(const Session& session) const {
  epoll_event event{};
  if (session.muted_until == 0) event.events |= EPOLLIN;
  if (!session.unread.empty()) event.events |= EPOLLOUT;
  event.data.u64 = session.id;
  (void)::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, session.socket.get(), &event);
}

/// Nothing more is taken of those who passed what is not closed yet, nor of their like.
bool Server::State::held_up(const Session& session) const {
  return closing() >= kMostClosing && offenders.aside(session.peer.uid);
}

void Server::State::serve(Session& session, Nanos now) {
  Packet packet;
  for (unsigned i = 0; i < kPacketsPerTurn && !session.over; ++i) {
    Nanos wait = session.rate.take(options.limits.messages_per_second, now);
    if (held_up(session)) wait = kHeldUp;
    if (wait != 0) {
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
  const std::string no = refuse_descriptors(packet.fds);
  auto request = Request::parse(std::move(packet));
  if (!no.empty()) {
    ++counters.refused_requests;
    reply(session, request ? refusal(request->id, no) : refusal(nullptr, no), {});
    session.over = true;
    return put_aside(session.who() + ": " + no, session.peer.uid);
  }
  if (!request) {
    reply(session, refusal(nullptr, request.error().what), {});
    log(session.who() + ": " + request.error().what);
    session.over = true;
    return;
  }
  ++counters.requests;
  auto done = do_request(session, *request);
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

Result<Reply> Server::State::do_request(Session& session, Request& request) {
  const std::uint64_t has = guests.descriptors_of(session.peer.uid);
  if (auto ok = check_room(request, session.peer.uid, has, options.limits.descriptors_per_uid);
      !ok) {
    return tl::unexpected(std::move(ok.error()));
  }
  auto done = answer(service, session, request);
  end_blocking(false, &session);
  return done;
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
  // Its socket may stay open for long (hang_up() in wire.h), and every turn would find it ended.
  (void)::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, session.socket.get(), nullptr);
  const auto [linger, let_go] = guests.session_ended(session.id, session.goodbye, now);
  end_blocking(false, &session);
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
