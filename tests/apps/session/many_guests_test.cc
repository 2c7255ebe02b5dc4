// SPDX-License-Identifier: BSD-3-Clause
// As many guests as a dense node has, 64 of 16 devices each: their VMMs in one process, by the
// client library; the service in another one.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>

#include "apps/client/faultline_client.h"
#include "apps/session/request_fds.h"
#include "tests/apps/session/live_service.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;

constexpr unsigned kKernels = 16;
constexpr unsigned kGuests = 4;  // of each
constexpr unsigned kDevices = 16;
constexpr Nanos kReady = 120'000'000'000;

bool complain(const std::string& why) {
  std::fprintf(stderr, "vmm: %s\n", why.c_str());
  return false;
}

/// Pass guest g of a VMM, and let go of what was opened for it: the service and the client have it.
bool attach(faultline_client* client, SoftVmm& vmm, std::size_t g) {
  const GuestRequest r = vmm.request(g);
  const faultline_memory memory{r.memory[0].gpa.value, r.memory[0].bytes, 0, r.memory[0].memfd};
  std::vector<faultline_device> devices;
  for (const DeviceRequest& d : r.devices) {
    devices.push_back({d.name.c_str(), d.vsid.value, d.host_sid, d.fds.data(), d.fds.size()});
  }
  faultline_guest guest{};
  guest.name = r.name.c_str();
  guest.memory = &memory;
  guest.n_memory = 1;
  guest.registers = r.registers.value;
  guest.devices = devices.data();
  guest.n_devices = devices.size();
  guest.backend_fds = r.backend_fds.data();
  guest.n_backend_fds = r.backend_fds.size();
  guest.evtq_eventfd = r.evtq_eventfd;
  guest.gerror_eventfd = r.gerror_eventfd;
  guest.sync_eventfd = guest.doorbell_eventfd = -1;
  guest.arm_eventfd = guest.armed_eventfd = -1;
  const bool attached = faultline_attach(client, &guest) == 0;
  const OwnedRequest closes(r);
  vmm.let_go(g);
  return attached || complain(faultline_error(client));
}

/// returns  whether everything went well; `go` is readable when the guests may end
bool run_vmms(const std::string& socket, int ready, int go) {
  RunOptions options;
  options.rate = "recorded";
  options.chaos = 1;  // as with a chaos run, drivers are patient
  std::vector<std::unique_ptr<SoftVmm>> vmms;
  for (unsigned k = 0; k < kKernels; ++k) {
    const std::string prefix = "k" + std::to_string(k) + "-";
    vmms.push_back(std::make_unique<SoftVmm>(kGuests, kDevices, options, 1, prefix));
  }
  char byte = 0;
  if (::read(ready, &byte, 1) != 1) return complain("the service did not start");
  char why[200] = "";
  faultline_client* client = faultline_connect(socket.c_str(), why, sizeof why);
  if (client == nullptr) return complain(why);
  faultline_set_timeout(client, 60'000);
  for (auto& vmm : vmms) {
    for (unsigned g = 0; g < kGuests; ++g) {
      if (!attach(client, *vmm, g)) return false;
    }
  }
  // All of them are attached; a few of them at a time have something to do.
  bool clean = true;
  for (auto& vmm : vmms) {
    faultline::Session& session = vmm->session();
    session.start();
    if (auto ok = session.wait_ready(kReady); !ok) return complain(ok.error().message());
    const auto had_faults = [&] {
      const auto tallies = session.tallies();
      return std::ranges::all_of(tallies, [](const auto& g) { return g.faults.delivered > 0; });
    };
    while (!had_faults()) vmm->turns(1);
    for (const std::string& finding : session.finish().verdict.findings) clean = complain(finding);
  }
  if (::read(go, &byte, 1) != 1) return complain("nobody looked");
  for (auto& vmm : vmms) {
    for (const HostGuest& host : vmm->hosts()) {
      if (faultline_detach(client, host.name.c_str()) != 0) {
        clean = complain(faultline_error(client));
      }
    }
  }
  faultline_close(client);
  return clean;
}

TEST(ManyGuests, SixtyFourOfSixteenDevicesAreServedAndLeaveNothing) {
  const std::string socket = "/tmp/faultline-many-" + std::to_string(::getpid());
  int ready[2];
  int go[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(go, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(go[1]);
    const bool clean = run_vmms(socket, ready[0], go[0]);
    ::_exit(clean ? 0 : 1);
  }
  NoKeeper keeper;
  {
    LiveService service(socket, keeper, {}, 5'000'000);
    const std::size_t before = open_descriptors();
    ASSERT_EQ(::write(ready[1], "r", 1), 1);
    const auto all_served = [&] {
      const auto guests = service.host().snapshot().guests;
      return guests.size() == kKernels * kGuests &&
             std::ranges::all_of(guests, [](const engine::GuestSnapshot& g) {
               return g.devices.size() == kDevices &&
                      g.sum(&engine::EventDeviceCounters::delivered) > 0;
             });
    };
    int status = -1;
    pid_t ended = 0;
    bool told = false;
    while ((ended = ::waitpid(child, &status, WNOHANG)) == 0) {
      if (!told && all_served()) told = ::write(go[1], "g", 1) == 1;
      ::usleep(5000);
    }
    EXPECT_EQ(ended, child);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(told) << "all of them were served at once";
    EXPECT_TRUE(service.host().snapshot().guests.empty());
    while (service.counters().sessions != 0) ::usleep(1000);
    EXPECT_EQ(open_descriptors(), before);
  }
  for (const int fd : {ready[0], ready[1], go[0], go[1]}) ::close(fd);
}

}  // namespace
}  // namespace faultline::session
