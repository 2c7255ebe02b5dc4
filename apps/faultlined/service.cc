// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/service.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/faultlined/check.h"
#include "apps/faultlined/fd_store.h"
#include "apps/faultlined/listener.h"
#include "apps/faultlined/log.h"
#include "apps/faultlined/node_engine.h"
#include "apps/faultlined/node_lock.h"
#include "apps/faultlined/notify.h"
#include "apps/faultlined/outlets.h"
#include "apps/faultlined/peer_log.h"
#include "apps/faultlined/peers.h"
#include "apps/faultlined/privileges.h"
#include "apps/faultlined/seccomp.h"
#include "apps/metrics/moment.h"
#include "apps/metrics/moment_json.h"
#include "apps/session/close.h"
#include "apps/session/fd.h"
#include "apps/session/server.h"
#include "config/keys.h"
#include "config/parse.h"
#include "engine/nudge.h"
#include "kernel/base/clock.h"

namespace faultline::daemon {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr int kTurnMs = 50;  ///< also how long a signal may wait

/// Nobody outlives the service.
class NoKeeper final : public session::Keeper {
 public:
  void keep(const std::string& /*name*/, int /*fd*/) override {}
  void forget(const std::string& /*name*/) override {}
};

Result<session::Fd> block_signals() {
  // A peer that is gone is an error of its call.
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return fail(error, "block signals");
  }
  session::Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail(errno, "signalfd");
  return fd;
}

class Service {
 public:
  Service(config::Options options, std::string file)
      : options_(std::move(options)),
        file_(std::move(file)),
        peers_(std::make_unique<PeerLog>(peer_log_options(options_), say_peer)) {}
  ~Service() {
    outlets_.reset();  // they ask the others
    server_.reset();
    if (own_socket_) remove_listener(options_);
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  Result<void> start();
  Result<void> run();

 private:
  static void say_peer(const std::string& line) { log(Level::kNotice, line); }

  Result<std::vector<session::Fd>> sockets();
  Result<void> lock_down();
  [[nodiscard]] session::ServerOptions for_server();
  [[nodiscard]] metrics::Moment moment() const;
  [[nodiscard]] nlohmann::json status() const;
  [[nodiscard]] std::string summary() const;
  void reload();
  void watch(Nanos now);
  /// returns  whether one of them ends the service
  bool take_signals();
  Result<void> drain();

  config::Options options_;
  std::string file_;
  Notify notify_;
  std::unique_ptr<PeerLog> peers_;
  NoKeeper nobody_;
  std::unique_ptr<FdStore> store_;
  session::Fd signals_;
  session::Fd lock_;
  bool own_socket_ = false;
  std::unique_ptr<NodeEngine> engine_;
  std::unique_ptr<session::Server> server_;
  std::optional<Outlets> outlets_;
  Nanos started_ = 0;
  Nanos beat_every_ = 0;
  Nanos beat_at_ = 0;
  Nanos tick_at_ = 0;
  bool stalled_ = false;
};

session::ServerOptions Service::for_server() {
  return server_options(
      options_,
      [this](const std::string& line) { peers_->log(payer_of(line), line, monotonic_ns()); },
      [this] { return status(); });
}

metrics::Moment Service::moment() const {
  metrics::Moment m;
  m.node = static_cast<int>(options_.node);
  m.backend = engine_->host().backend();
  m.now = monotonic_ns();
  m.uptime_ns = m.now - started_;
  m.engine = engine_->host().snapshot();
  m.sessions = server_->counters();
  return m;
}

nlohmann::json Service::status() const {
  metrics::Moment m = moment();
  m.names = server_->guest_names();
  return nlohmann::json::parse(metrics::to_json(m), nullptr, false);
}

std::string Service::summary() const {
  const bool one = engine_->plan().shards.size() == 1;
  return "serving node " + std::to_string(options_.node) + " on core" + (one ? " " : "s ") +
         engine_->cores() + " (" + options_.backend + ")";
}

Result<std::vector<session::Fd>> Service::sockets() {
  std::vector<session::Fd> out;
  auto own = make_listener(options_);
  if (!own) return tl::unexpected(std::move(own.error()));
  own_socket_ = true;
  out.push_back(std::move(*own));
  return out;
}

Result<void> Service::lock_down() {
  if (!options_.user.empty()) {
    auto who = find_identity(options_.user, options_.group);
    if (!who) return fail(std::move(who.error()), "service.user");
    if (auto ok = drop_privileges(*who); !ok) return ok;
  } else if (::geteuid() == 0) {
    log(Level::kWarning, "goes on as root: name whom to become in service.user");
  } else if (auto ok = drop_privileges(std::nullopt); !ok) {
    return ok;
  }
  if (!options_.seccomp) return {};
  SeccompOptions seccomp;
  seccomp.io_uring = options_.backend == "iommufd";
  if (auto ok = allow_only_listed_calls(seccomp); !ok) return ok;
  // Every thread, by the kernel's own account.
  if (::geteuid() == 0) return {};
  return check_locked_down(true);
}

Result<void> Service::start() {
  auto signals = block_signals();
  if (!signals) return tl::unexpected(std::move(signals.error()));
  signals_ = std::move(*signals);
  Passed passed = take_passed();
  auto lock = lock_node(static_cast<unsigned>(options_.node), options_.instance);
  if (!lock) return tl::unexpected(std::move(lock.error()));
  lock_ = std::move(*lock);

  std::vector<session::Fd> listeners;
  for (const int fd : passed.sockets) listeners.emplace_back(fd);
  // All that is wrong at once: a try for each would be a restart for each.
  std::vector<std::string> wrong = check(options_, false);
  if (listeners.empty()) {
    if (auto own = sockets()) {
      listeners = std::move(*own);
    } else {
      wrong.push_back(own.error().message());
    }
  } else if (listeners.size() > 1) {
    return fail(0, "systemd passed " + std::to_string(listeners.size()) +
                       " sockets: the socket unit has one ListenSequentialPacket=");
  }

  if (!wrong.empty()) {
    if (auto node = check_node(options_); !node) wrong.push_back(node.error().message());
    for (std::size_t i = 0; i + 1 < wrong.size(); ++i) log(Level::kError, wrong[i]);
    return fail(0, wrong.back());
  }
  auto engine = NodeEngine::start(options_);
  if (!engine) return tl::unexpected(std::move(engine.error()));
  engine_ = std::move(*engine);
  for (const std::string& warning : engine_->plan().warnings) log(Level::kWarning, warning);

  session::Keeper* keeper = &nobody_;
  if (std::getenv("NOTIFY_SOCKET") != nullptr) {
    store_ = std::make_unique<FdStore>(notify_, kStoreMax,
                                       [](const std::string& line) { log(Level::kWarning, line); });
    keeper = store_.get();
  }
  auto server = session::Server::make(engine_->host(), *keeper, for_server());
  if (!server) return tl::unexpected(std::move(server.error()));
  server_ = std::move(*server);
  started_ = monotonic_ns();
  auto outlets =
      Outlets::start(options_, engine_->plan().housekeeping, [this] { return moment(); });
  if (!outlets) return tl::unexpected(std::move(outlets.error()));
  outlets_ = std::move(*outlets);
  if (auto ok = lock_down(); !ok) return ok;

  if (store_) {
    std::vector<session::KeptFd> kept = store_->restore(std::move(passed.stored));
    if (!kept.empty()) {
      const unsigned guests = server_->restore(std::move(kept));
      log(Level::kNotice, "serves " + std::to_string(guests) + " guest" + (guests == 1 ? "" : "s") +
                              " of its last life again");
    }
  } else {
    for (const session::KeptFd& k : passed.stored) session::close_passed(k.fd);
  }
  server_->listen(listeners.front().release());
  beat_every_ = Notify::beat_interval();
  notify_.ready(summary());
  log(Level::kNotice, summary() + "; VMMs attach at " +
                          (own_socket_ ? socket_path(options_) : "the socket that was passed"));
  return {};
}

void Service::reload() {
  if (file_.empty()) {
    log(Level::kNotice, "SIGHUP: started without --config, so nothing is read again");
    return;
  }
  notify_.reloading();
  config::Parsed parsed = config::parse_file(file_);
  if (!parsed.errors.empty()) {
    for (const std::string& error : parsed.errors) log(Level::kError, error);
    log(Level::kError, "SIGHUP: nothing is changed");
  } else {
    parsed.options.node = options_.node;  // the command line's
    for (const std::string& key : config::reload(options_, parsed.options)) {
      log(Level::kWarning, key + " stays as it was until the service starts again");
    }
    peers_ = std::make_unique<PeerLog>(peer_log_options(options_), say_peer);
    server_->reload(for_server());
    engine_->host().set_most(budget_of(options_));
    log(Level::kNotice, "read " + file_ + " again");
  }
  notify_.ready(summary());
}

bool Service::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo != SIGHUP) {
      log(Level::kNotice, info.ssi_signo == SIGINT ? "SIGINT: drains" : "SIGTERM: drains");
      return true;
    }
    reload();
  }
  return false;
}

void Service::watch(Nanos now) {
  if (now >= tick_at_ + kSecond) {
    tick_at_ = now;
    peers_->tick(now);
    outlets_->tick(now);
  }
  const Nanos oldest = engine_->host().oldest_beat();
  if (now > oldest && now - oldest > engine::kHangNs &&
      engine_->host().nudge_stalled(now - engine::kHangNs) > 0) {
    peers_->log("hang",
                "a shard has not beaten for " + std::to_string((now - oldest) / 1'000'000) +
                    " ms: if a system call held it, as where a VMM made an eventfd block, it was "
                    "taken out",
                now);
  }
  const bool stalled = now > oldest && now - oldest > options_.stall_ms * 1'000'000;
  if (stalled != stalled_) {
    stalled_ = stalled;
    if (stalled) {
      log(Level::kError, "a shard has not beaten for " +
                             std::to_string((now - oldest) / 1'000'000) +
                             " ms: the watchdog is fed no more");
    } else {
      log(Level::kNotice, "all shards beat again");
    }
  }
  if (stalled || beat_every_ == 0 || now < beat_at_ + beat_every_) return;
  beat_at_ = now;
  notify_.beat();
}

Result<void> Service::run() {
  for (;;) {
    const Nanos now = monotonic_ns();
    watch(now);
    server_->turn(kTurnMs);
    if (take_signals()) break;
    if (server_->drain_asked()) {
      log(Level::kNotice, "a peer asked it to drain");
      break;
    }
  }
  return drain();
}

Result<void> Service::drain() {
  notify_.stopping("draining");
  auto ok = engine_->host().stop();
  if (!ok) return fail(std::move(ok.error()), "drain");
  const std::size_t guests = engine_->host().snapshot().guests.size();
  log(Level::kNotice,
      "drained: " + std::to_string(guests) + " guest" + (guests == 1 ? "" : "s") + " at rest");
  return {};
}

}  // namespace

Result<void> serve(config::Options options, const std::string& file) {
  Service service(std::move(options), file);
  if (auto ok = service.start(); !ok) return ok;
  return service.run();
}

}  // namespace faultline::daemon
