// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/faultline/options.h"
#include "apps/faultline/session.h"
#include "apps/faultline/setup.h"
#include "apps/guest/guest.h"
#include "apps/session/engine_guests.h"
#include "apps/session/guest_host.h"
#include "apps/wiring/host_guest.h"
#include "apps/wiring/wiring.h"
#include "engine/cold_lane.h"
#include "kernel/soft/soft_process.h"
#include "kernel/soft/soft_process_sys.h"
#include "tests/support/descriptors.h"

namespace faultline::session::testing_vmm {

using Sys = soft::SoftProcessSys;

using test_support::open_descriptors;

inline int duplicate(int fd) {
  return fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/// Guests on a soft kernel of their own, as their VMM has them: memory, open devices, drivers and
/// the audit. Makes the kernel's process, so it comes before any thread.
class SoftVmm {
 public:
  /// prefix   of the guests' names
  /// active   devices of each guest that do DMA; the others are configured, and let alone
  SoftVmm(unsigned guests, unsigned devices, RunOptions options = {}, unsigned active = ~0U,
          const std::string& prefix = "")
      : options_(std::move(options)), trace_(load_trace(options_).value()) {
    options_.guests = guests;
    options_.devices = devices;
    hosts_ = make_guests(guests, guest::Guest::choose_sids(trace_, devices));
    kernel_ = soft::SoftProcess::start(kernel_config(options_, hosts_)).value();
    sys_ = std::make_unique<Sys>(kernel_->socket());
    for (HostGuest& host : hosts_) {
      host.name = prefix + host.name;
      EXPECT_TRUE(make_descriptors(host));
      memories_.push_back(Wiring<Sys>::map_memory(*sys_, host).value());
      open(host);
    }
    auto bars = soft_devices(kernel_->view(), std::size_t{guests} * devices);
    for (std::size_t i = 0; i < bars.size(); ++i) bars[i].dma = i % devices < active;
    session_ = std::make_unique<faultline::Session>(options_, trace_, hosts_, bars);
  }
  ~SoftVmm() {
    session_.reset();  // its guests read the descriptors
    for (HostGuest& host : hosts_) close_descriptors(host);
  }
  SoftVmm(const SoftVmm&) = delete;
  SoftVmm& operator=(const SoftVmm&) = delete;

  /// Guest g as its VMM passes it: duplicates of everything.
  [[nodiscard]] GuestRequest request(std::size_t g, int journal = -1) const {
    const HostGuest& host = hosts_[g];
    GuestRequest r;
    r.name = host.name;
    r.memory.push_back({HostGuest::kBase, host.bytes, 0, duplicate(host.memfd)});
    r.registers = host.registers();
    r.backend_fds.push_back(duplicate(kernel_->socket()));
    for (std::size_t i = 0; i < host.devices.size(); ++i) {
      const HostDevice& d = host.devices[i];
      const DeviceFds fds = wirings_[g]->fds(i);
      r.devices.push_back(
          {d.name,
           d.vsid,
           d.host_sid,
           {duplicate(fds.container), duplicate(fds.group), duplicate(fds.device)}});
    }
    r.evtq_eventfd = duplicate(host.evtq_eventfd);
    r.gerror_eventfd = duplicate(host.gerror_eventfd);
    r.journal = duplicate(journal);
    return r;
  }
  /// Have the guests run until each of them has done some more, as `counts` says.
  void run(std::uint64_t syncs) {
    const std::uint64_t until = session_->syncs_completed() + syncs;
    while (session_->syncs_completed() < until) session_->turn({}, false);
  }
  void turns(unsigned n) {
    for (unsigned i = 0; i < n; ++i) session_->turn({}, false);
  }

  /// Close the devices of guest g and open them again, as on another host.
  void reopen(std::size_t g) {
    wirings_[g].reset();
    wirings_[g] = Wiring<Sys>::open(*sys_, hosts_[g]).value();
  }

  /// Close what was opened for guest g here.
  void let_go(std::size_t g) { wirings_[g].reset(); }

  [[nodiscard]] faultline::Session& session() noexcept { return *session_; }
  [[nodiscard]] std::vector<HostGuest>& hosts() noexcept { return hosts_; }
  [[nodiscard]] soft::SoftProcess& kernel() noexcept { return *kernel_; }

 private:
  void open(const HostGuest& host) { wirings_.push_back(Wiring<Sys>::open(*sys_, host).value()); }

  RunOptions options_;
  guest::Trace trace_;
  std::vector<HostGuest> hosts_;
  std::unique_ptr<soft::SoftProcess> kernel_;
  std::unique_ptr<Sys> sys_;
  std::vector<vfio::Mapping<Sys>> memories_;
  std::vector<std::unique_ptr<Wiring<Sys>>> wirings_;
  std::unique_ptr<faultline::Session> session_;
};

/// A service's engine on threads, on two shards that sleep.
struct Service {
  explicit Service(unsigned shards = 2, Nanos poll_ns = 50'000,
                   engine::Launcher launcher = engine::on_threads())
      : lane({0}) {
    EngineGuestsOptions options;
    options.backend = Backend::kSoft;
    options.engine.idle = engine::IdlePolicy::kSleep;
    options.register_poll_ns = poll_ns;
    engine::Plan plan;
    plan.housekeeping = {0};
    for (unsigned i = 0; i < shards; ++i) {
      plan.shards.push_back({.cpu = i, .shared = true, .reason = "", .isolated = false, .load = 0});
    }
    for (unsigned i = 0; i < shards; ++i) options.topology.cpus.push_back({i, i, 0, 0, false});
    options.placement.shards = shards;
    host = make_engine_guests(lane, plan, std::move(launcher), std::move(options)).value();
  }
  engine::ColdLane lane;
  std::unique_ptr<GuestHost> host;
};

}  // namespace faultline::session::testing_vmm
