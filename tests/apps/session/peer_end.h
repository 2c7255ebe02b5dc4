// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/close.h"
#include "apps/session/fd.h"
#include "apps/session/keeper.h"
#include "apps/session/server.h"
#include "apps/session/wire.h"
#include "tests/apps/session/fake_host.h"
#include "tests/support/descriptors.h"

namespace faultline::session::testing {

using nlohmann::json;

/// Those that still wait to be closed (apps/session/close.h) are none.
inline std::size_t open_descriptors() {
  wait_until_closed();
  return test_support::open_descriptors();
}

/// Holds duplicates, as systemd does.
class MapKeeper final : public Keeper {
 public:
  void keep(const std::string& name, int fd) override {
    if (keeping) keeping();
    EXPECT_FALSE(held.contains(name)) << name;
    held[name] = Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  }
  void forget(const std::string& name) override { held.erase(name); }
  /// What the next life is handed; it stays held.
  [[nodiscard]] std::vector<KeptFd> hand_out() const {
    std::vector<KeptFd> out;
    for (const auto& [name, fd] : held) out.push_back({name, fd.duplicate()->release()});
    return out;
  }
  std::map<std::string, Fd> held;
  std::function<void()> keeping;  ///< called before each keep()
};

inline Fd memfd(std::size_t bytes = 0x200000, int seals = F_SEAL_SHRINK) {
  Fd fd(::memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(seals == 0 ? 0 : ::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}
inline Fd event() {
  return Fd(::eventfd(0, EFD_CLOEXEC));
}

/// A server on a socket of its own, turned by the test's only thread.
class Bench {
 public:
  explicit Bench(ServerOptions options = {}) { start(std::move(options)); }
  void start(ServerOptions options) {
    options.log = [this](const std::string& line) { log.push_back(line); };
    server = Server::make(host, keeper, std::move(options)).value();
    // An abstract name of the kernel's choice: nothing to clean up.
    const int socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un any{};
    any.sun_family = AF_UNIX;
    EXPECT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&any), sizeof(sa_family_t)), 0);
    EXPECT_EQ(::listen(socket, 64), 0);
    address_bytes = sizeof address;
    EXPECT_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &address_bytes), 0);
    server->listen(socket);
  }
  void turns(unsigned n = 3) const {
    for (unsigned i = 0; i < n; ++i) server->turn(0);
  }
  [[nodiscard]] bool logged(const std::string& part) const {
    for (const std::string& line : log) {
      if (line.find(part) != std::string::npos) return true;
    }
    return false;
  }

  FakeHost host;
  MapKeeper keeper;
  std::vector<std::string> log;
  std::unique_ptr<Server> server;
  sockaddr_un address{};
  socklen_t address_bytes = 0;
};

/// A VMM as a test plays it.
class PeerEnd {
 public:
  /// as   user to connect as; only root can be another one
  explicit PeerEnd(Bench& bench, bool greet = true, std::optional<uid_t> as = {})
      : bench_(&bench), socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    const uid_t me = ::geteuid();
    EXPECT_EQ(as ? ::seteuid(*as) : 0, 0);
    EXPECT_EQ(
        ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&bench.address), bench.address_bytes),
        0);
    EXPECT_EQ(as ? ::seteuid(me) : 0, 0);
    bench.turns();
    EXPECT_TRUE(!greet || ok({{"method", "hello"}, {"versions", {1}}}));
  }

  /// Send what need not be a request.
  bool post(const std::string& text, const std::vector<Fd>& fds = {}) {
    return send(socket_.get(), text, fds) == 0;
  }
  /// The next answer, while the server turns; nothing when it has closed the session.
  std::optional<json> next() {
    for (unsigned i = 0; i < 1000; ++i) {
      Packet packet;
      const Received got = receive(socket_.get(), packet);
      if (got == Received::kPacket) {
        fds = std::move(packet.fds);
        return json::parse(packet.text);
      }
      if (got != Received::kNothing) return std::nullopt;
      bench_->server->turn(1);
    }
    ADD_FAILURE() << "no answer";
    return std::nullopt;
  }
  json call(json request, const std::vector<Fd>& passed = {}) {
    request["id"] = ++id_;
    EXPECT_TRUE(post(request.dump(), passed));
    const auto answer = next();
    if (!answer) return {{"closed", true}};
    EXPECT_EQ((*answer)["id"], id_);
    return *answer;
  }
  /// returns  whether it was done; else `error` says why not
  bool ok(json request, const std::vector<Fd>& passed = {}) {
    const json answer = call(std::move(request), passed);
    error = answer.value("error", "");
    result = answer.value("result", json());
    return answer.contains("result");
  }
  /// The line of a request that has to be refused.
  std::string refused(json request, const std::vector<Fd>& passed = {}) {
    EXPECT_FALSE(ok(std::move(request), passed));
    return error;
  }

  bool add_guest(const std::string& name) {
    std::vector<Fd> socket;
    socket.push_back(event());
    return ok({{"method", "guest.add"},
               {"name", name},
               {"registers", 0x40000000},
               {"mode", "exitless"},
               {"backend_fds", {0}}},
              socket);
  }
  bool add_memory(const std::string& guest, std::uint64_t gpa = 0x40000000,
                  std::uint64_t bytes = 0x200000) {
    std::vector<Fd> file;
    file.push_back(memfd(bytes));
    return ok(
        {{"method", "memory.add"}, {"guest", guest}, {"gpa", gpa}, {"bytes", bytes}, {"memfd", 0}},
        file);
  }
  bool add_device(const std::string& guest, unsigned vsid) {
    std::vector<Fd> files;
    for (int i = 0; i < 3; ++i) files.push_back(event());
    return ok({{"method", "device.add"},
               {"guest", guest},
               {"name", "0000:01:00." + std::to_string(vsid)},
               {"vsid", vsid},
               {"fds", {0, 1, 2}}},
              files);
  }
  bool of(const char* method, const std::string& guest) {
    return ok({{"method", method}, {"guest", guest}});
  }
  /// A guest that is served; its token.
  std::string serve_guest(const std::string& name) {
    EXPECT_TRUE(add_guest(name)) << error;
    std::string token = result.value("token", "");
    EXPECT_TRUE(add_memory(name)) << error;
    EXPECT_TRUE(add_device(name, 8)) << error;
    EXPECT_TRUE(of("start", name)) << error;
    return token;
  }
  void hang_up() {
    session::hang_up(std::move(socket_));
    bench_->turns();
  }

  [[nodiscard]] int socket() const noexcept { return socket_.get(); }

  std::string error;
  json result;
  std::vector<Fd> fds;

 private:
  Bench* bench_;
  Fd socket_;
  unsigned id_ = 0;
};

/// The request that takes over a lingering guest.
inline json attach(const std::string& guest, const std::string& token) {
  return {{"method", "guest.attach"}, {"guest", guest}, {"token", token}};
}

}  // namespace faultline::session::testing
