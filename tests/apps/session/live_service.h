// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "apps/session/keeper.h"
#include "apps/session/server.h"
#include "tests/apps/session/soft_vmm.h"

namespace faultline::session::testing_vmm {

/// Holds what outlives a service, as systemd's fd store does.
class MapKeeper final : public Keeper {
 public:
  ~MapKeeper() override {
    for (const auto& [name, fd] : held_) ::close(fd);
  }
  void keep(const std::string& name, int fd) override {
    const auto [at, fresh] = held_.emplace(name, -1);
    if (!fresh) ::close(at->second);
    at->second = duplicate(fd);
  }
  void forget(const std::string& name) override {
    const auto at = held_.find(name);
    if (at == held_.end()) return;
    ::close(at->second);
    held_.erase(at);
  }
  /// Duplicates of all, for the next life.
  [[nodiscard]] std::vector<KeptFd> kept() const {
    std::vector<KeptFd> out;
    for (const auto& [name, fd] : held_) out.push_back({name, duplicate(fd)});
    return out;
  }
  [[nodiscard]] std::size_t size() const noexcept { return held_.size(); }

 private:
  std::map<std::string, int> held_;
};

/// Holds nothing: the supervisor is gone with the service.
class NoKeeper final : public Keeper {
 public:
  void keep(const std::string&, int) override {}
  void forget(const std::string&) override {}
};

/// A whole service in this process: engine, server, socket.
class LiveService {
 public:
  /// keeper   outlives the service
  LiveService(const std::string& path, Keeper& keeper, std::vector<KeptFd> kept = {},
              Nanos poll_ns = 50'000)
      : path_(path), service_(2, poll_ns) {
    ServerOptions options;
    options.limits.messages_per_second = 1'000'000;
    options.limits.guests_per_session = 64;
    server_ = Server::make(*service_.host, keeper, std::move(options)).value();
    restored = server_->restore(std::move(kept));
    const int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    ::unlink(path.c_str());
    EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener, 16), 0);
    server_->listen(listener);
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) server_->turn(20);
    });
  }
  ~LiveService() {
    thread_ = {};
    // A guest that goes on asking may have work in flight at the deadline; it is in its journal.
    const auto stopped = service_.host->stop();
    EXPECT_TRUE(stopped || stopped.error().code == ETIMEDOUT) << stopped.error().message();
    server_.reset();
    ::unlink(path_.c_str());
  }
  LiveService(const LiveService&) = delete;
  LiveService& operator=(const LiveService&) = delete;

  [[nodiscard]] GuestHost& host() noexcept { return *service_.host; }
  [[nodiscard]] ServerCounters counters() const noexcept { return server_->counters(); }
  unsigned restored = 0;

 private:
  std::string path_;
  Service service_;
  std::unique_ptr<Server> server_;
  std::jthread thread_;
};

}  // namespace faultline::session::testing_vmm
