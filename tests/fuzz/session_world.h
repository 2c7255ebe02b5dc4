// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/fd.h"
#include "apps/session/guest_budget.h"
#include "apps/session/guest_host.h"
#include "apps/session/keeper.h"
#include "apps/session/server.h"
#include "tests/fuzz/input.h"
#include "tests/support/descriptors.h"

namespace faultline::fuzz {

using test_support::open_descriptors;

/// A host that serves nothing and holds the server to what GuestHost says: each guest is whole,
/// within the limits and sane, and no call comes in a state in which it means nothing.
class StrictHost final : public session::GuestHost {
 public:
  static constexpr std::size_t kGuests = 3, kDevices = 3, kParts = 4;
  static constexpr std::uint64_t kBytes = 1 << 20;

  bool refuse = false;         ///< every call that can fail does
  bool makes_objects = false;  ///< kernel objects of its own; else those of an earlier life
  /// What is promised of each guest, in the place of what a session's limits promise.
  std::function<void(const session::GuestRequest&)> promised = check;

  [[nodiscard]] session::Backend backend() const noexcept override {
    return session::Backend::kSoft;
  }
  [[nodiscard]] session::FdCounts fd_counts() const noexcept override { return {1, 1}; }

  Result<int> add(session::GuestRequest guest) override {
    Served served(std::move(guest));
    const std::string name = served.request.name;
    hold(!guests_.contains(name), "a guest is added twice");
    promised(served.request);
    if (refuse) return fail(EINVAL, "guest " + name + ": refused");
    const int journal = served.request.journal;  // it goes on with that of an earlier life
    served.journal = session::Fd(journal >= 0 ? ::fcntl(journal, F_DUPFD_CLOEXEC, 3)
                                              : ::memfd_create("journal", MFD_CLOEXEC));
    served.paused = served.request.paused;
    return guests_.emplace(name, std::move(served)).first->second.journal.get();
  }
  Result<int> replace(session::GuestRequest guest) override {
    Served next(std::move(guest));
    Served& old = served(next.request.name);
    promised(next.request);
    if (refuse) return fail(EINVAL, "guest " + next.request.name + ": refused");
    hold(next.request.paused == old.paused, "a guest that is paused by a new device");
    next.journal = std::move(old.journal);
    next.paused = old.paused;
    old = std::move(next);
    return old.journal.get();
  }
  Result<session::KeptObjects> objects(const std::string& name) override {
    const Served& guest = served(name);
    if (makes_objects) return session::KeptObjects{"made here", {guest.journal.get()}};
    const session::GuestRequest& r = guest.request;
    return session::KeptObjects{r.objects, r.object_fds};
  }
  Result<void> remove(const std::string& name) override {
    (void)served(name);
    guests_.erase(name);
    return {};
  }
  Result<void> pause(const std::string& name) override { return set_paused(name, true); }
  Result<void> resume(const std::string& name) override { return set_paused(name, false); }
  Result<std::string> state(const std::string& name) override {
    if (!served(name).paused) return fail(EINVAL, "guest " + name + " is not paused");
    return std::string("{\"version\":1}");
  }
  Result<void> set_state(const std::string& name, const std::string& state) override {
    if (!served(name).paused) return fail(EINVAL, "guest " + name + " is not paused");
    hold(state.size() <= 16384, "a state that is too long");
    return answer();
  }
  Result<void> reset(const std::string& name) override {
    (void)served(name);
    return answer();
  }
  Result<std::vector<session::GpaRange>> written(const std::string& name) override {
    return std::vector<session::GpaRange>{{served(name).request.registers, kPage4K}};
  }
  Result<std::vector<session::StreamBinding>> bindings(const std::string& name) override {
    return std::vector<session::StreamBinding>(served(name).request.devices.size());
  }
  Result<void> set_budget(const std::string& name, const nlohmann::json& budget) override {
    (void)served(name);
    if (!budget.is_object()) return fail(EINVAL, "guest " + name + ": a budget is an object");
    return answer();
  }
  unsigned nudge_stalled(Nanos /*before*/) override { return 0; }
  [[nodiscard]] engine::Budget most() const override { return session::kAnyBudget; }
  void set_most(const engine::Budget& /*most*/) override {}
  [[nodiscard]] engine::EngineSnapshot snapshot() const override {
    engine::EngineSnapshot out;
    for (const auto& [name, guest] : guests_) {
      engine::GuestSnapshot& g = out.guests.emplace_back();
      g.name = name;
      g.paused = guest.paused;
      for (const auto& d : guest.request.devices) {
        engine::DeviceSnapshot& device = g.devices.emplace_back();
        device.name = d.name;
        device.vsid = d.vsid;
      }
    }
    return out;
  }
  [[nodiscard]] Nanos oldest_beat() const override { return 1; }
  Result<void> stop() override { return {}; }

  [[nodiscard]] std::size_t guests() const noexcept { return guests_.size(); }

 private:
  struct Served {
    explicit Served(session::GuestRequest r) : request(std::move(r)) {
      for (const auto& m : request.memory) fds.emplace_back(m.memfd);
      for (const auto& d : request.devices) {
        for (const int fd : d.fds) fds.emplace_back(fd);
      }
      for (const int fd : request.backend_fds) fds.emplace_back(fd);
      for (const int fd : request.object_fds) fds.emplace_back(fd);
      for (const auto& route : request.routes) fds.emplace_back(route.eventfd);
      for (const int fd : {request.evtq_eventfd, request.gerror_eventfd, request.sync_eventfd,
                           request.doorbell_eventfd, request.arm_eventfd, request.armed_eventfd,
                           request.journal}) {
        fds.emplace_back(fd);
      }
    }

    session::GuestRequest request;
    std::vector<session::Fd> fds;
    session::Fd journal;
    bool paused = false;
  };

  Served& served(const std::string& name) {
    const auto at = guests_.find(name);
    hold(at != guests_.end(), "a call for a guest that the host does not have");
    return at->second;
  }
  Result<void> answer() const {
    if (refuse) return fail(EINVAL, "refused");
    return {};
  }
  Result<void> set_paused(const std::string& name, bool paused) {
    Served& guest = served(name);
    if (guest.paused == paused) return fail(EALREADY, "guest " + name + ": so it is");
    if (auto ok = answer(); !ok) return ok;
    guest.paused = paused;
    return {};
  }

  static void hold_open(int fd) { hold(::fcntl(fd, F_GETFD) >= 0, "a descriptor that is closed"); }
  static void check(const session::GuestRequest& r) {
    hold(r.memory.size() <= kParts && r.devices.size() <= kDevices, "more than the limits");
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < r.memory.size(); ++i) {
      const session::MemoryPart& m = r.memory[i];
      bytes += m.bytes;
      hold(m.bytes != 0 && (m.gpa.value | m.bytes | m.offset) % kPage4K == 0, "odd memory");
      hold((::fcntl(m.memfd, F_GET_SEALS) & F_SEAL_SHRINK) != 0, "memory that may shrink");
      for (std::size_t k = 0; k < i; ++k) {
        const session::MemoryPart& other = r.memory[k];
        hold(m.gpa + m.bytes <= other.gpa || other.gpa + other.bytes <= m.gpa, "memory overlaps");
      }
    }
    hold(bytes <= kBytes, "more memory than the limit");
    for (std::size_t i = 0; i < r.devices.size(); ++i) {
      hold(r.devices[i].fds.size() == 1, "descriptors of a device");
      hold_open(r.devices[i].fds[0]);
      for (std::size_t k = 0; k < i; ++k) {
        hold(r.devices[i].vsid != r.devices[k].vsid, "two devices with one vsid");
        hold(r.devices[i].name != r.devices[k].name, "two devices with one name");
      }
    }
    hold(r.backend_fds.size() == 1, "descriptors of the backend");
    hold_open(r.backend_fds[0]);
    for (const int fd : {r.evtq_eventfd, r.gerror_eventfd, r.sync_eventfd, r.doorbell_eventfd,
                         r.arm_eventfd, r.armed_eventfd}) {
      if (fd >= 0) hold((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, "an eventfd that may block");
    }
    hold((r.arm_eventfd >= 0) == (r.armed_eventfd >= 0), "half of what arming takes");
    hold(
        r.arm_eventfd < 0 || (r.doorbell_eventfd >= 0 && r.mode == engine::RegisterMode::kExitless),
        "arming that nothing could come of");
    for (const engine::MsiRoute& route : r.routes) hold_open(route.eventfd);
  }

  std::map<std::string, Served> guests_;
};

/// Holds nothing, and knows what it would hold.
class CountingKeeper final : public session::Keeper {
 public:
  void keep(const std::string& name, int fd) override {
    hold(::fcntl(fd, F_GETFD) >= 0, "a closed descriptor is kept");
    hold(name.size() <= 200, "a name that is too long to be kept");
    hold(names_.insert(name).second, "a name is kept twice");
  }
  void forget(const std::string& name) override {
    hold(names_.erase(name) == 1, "a name that was not kept is forgotten");
  }
  [[nodiscard]] std::size_t held() const noexcept { return names_.size(); }

 private:
  std::set<std::string> names_;
};

/// Where a service listens: an address that the kernel chose.
class Address {
 public:
  Address() : listener_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un any{};
    any.sun_family = AF_UNIX;
    length_ = sizeof address_;
    hold(::bind(listener_, reinterpret_cast<sockaddr*>(&any), sizeof any.sun_family) == 0 &&
             ::listen(listener_, 16) == 0 &&
             ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &length_) == 0,
         "no socket to listen at");
  }
  /// The listener's descriptor becomes the caller's.
  [[nodiscard]] int listener() const noexcept { return listener_; }
  [[nodiscard]] int connect() const {
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    hold(fd >= 0, "no socket");
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address_), length_) != 0) {
      ::close(fd);
      return -1;
    }
    return fd;
  }

 private:
  int listener_;
  sockaddr_un address_{};
  socklen_t length_ = 0;
};

}  // namespace faultline::fuzz
