// SPDX-License-Identifier: BSD-3-Clause
#include "apps/example_vmm/vmm.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "apps/example_vmm/connection.h"
#include "apps/faultline/options.h"
#include "apps/faultline/result_file.h"
#include "apps/faultline/session.h"
#include "apps/faultline/setup.h"
#include "apps/wiring/host_guest.h"
#include "apps/wiring/wiring.h"
#include "kernel/soft/soft_process.h"
#include "kernel/soft/soft_process_sys.h"

namespace faultline::vmm {
namespace {

using Sys = soft::SoftProcessSys;

constexpr Nanos kStart = 60'000'000'000;
constexpr Nanos kPatience = 30'000'000'000;

/// What a VMM makes of a guest before anybody serves it: memory in a sealed memfd, eventfds for its
/// interrupts, and its devices, opened, with the memory mapped for their DMA.
struct Machine {
  vfio::Mapping<Sys> memory;
  std::unique_ptr<Wiring<Sys>> devices;
};

Result<Machine> make_machine(Sys& sys, HostGuest& host) {
  if (auto ok = make_descriptors(host); !ok) return tl::unexpected(ok.error());
  auto memory = Wiring<Sys>::map_memory(sys, host);
  if (!memory) return tl::unexpected(memory.error());
  auto devices = Wiring<Sys>::open(sys, host);
  if (!devices) return tl::unexpected(devices.error());
  return Machine{std::move(*memory), std::move(*devices)};
}

/// Have the service serve a guest. Nothing of what is passed changes hands.
Result<void> attach(Connection& service, const HostGuest& host, const Machine& machine,
                    int kernel) {
  const faultline_memory memory{HostGuest::kBase.value, host.bytes, 0, host.memfd};
  std::vector<DeviceFds> fds;
  for (std::size_t i = 0; i < host.devices.size(); ++i) fds.push_back(machine.devices->fds(i));
  std::vector<faultline_device> devices;
  for (std::size_t i = 0; i < host.devices.size(); ++i) {
    const HostDevice& d = host.devices[i];
    devices.push_back({d.name.c_str(), d.vsid.value, d.host_sid, &fds[i].container, 3});
  }
  faultline_guest guest{};
  guest.name = host.name.c_str();
  guest.memory = &memory;
  guest.n_memory = 1;
  guest.registers = host.registers().value;
  guest.devices = devices.data();
  guest.n_devices = devices.size();
  guest.backend_fds = &kernel;
  guest.n_backend_fds = 1;
  guest.evtq_eventfd = host.evtq_eventfd;
  guest.gerror_eventfd = host.gerror_eventfd;
  guest.sync_eventfd = guest.doorbell_eventfd = -1;
  guest.arm_eventfd = guest.armed_eventfd = -1;
  return service.attach(guest);
}
static_assert(sizeof(DeviceFds) == 3 * sizeof(int), "container, group, device");

std::uint64_t lost(const guest::FaultCounts& faults) {
  return faults.lost_reported + faults.lost_silent;
}

void print_table(const std::vector<GuestTally>& guests) {
  fmt::print("{:<10} {:>16} {:>12} {:>12} {:>6}\n", "guest", "faults delivered", "commands",
             "SYNCs", "lost");
  for (const GuestTally& g : guests) {
    fmt::print("{:<10} {:>16} {:>12} {:>12} {:>6}\n", g.name, g.faults.delivered, g.did.commands,
               g.did.syncs_completed, lost(g.faults));
  }
}

std::string to_json(const std::vector<GuestTally>& guests, const RunResult& result,
                    const Connection& service) {
  nlohmann::ordered_json j;
  j["seconds"] = result.seconds;
  j["reattached"] = service.reattached();
  j["silences"] = service.silences();
  for (const GuestTally& g : guests) {
    j["guests"].push_back({{"name", g.name},
                           {"faults_delivered", g.faults.delivered},
                           {"commands", g.did.commands},
                           {"syncs", g.did.syncs_completed},
                           {"lost", lost(g.faults)}});
  }
  j["findings"] = result.verdict.findings;
  return j.dump(2) + "\n";
}

/// Until the time is up; then until some service has the guests, so that they can end well.
Result<void> play(Session& session, const Connection& service, unsigned seconds) {
  if (auto ok = session.wait_ready(kStart); !ok) return ok;
  const Nanos until = monotonic_ns() + Nanos{seconds} * 1'000'000'000;
  while (monotonic_ns() < until && !interrupted()) session.turn({}, false);
  const Nanos end = monotonic_ns() + kPatience;
  while (service.lost()) {
    if (monotonic_ns() > end) return fail(0, "the service went away and did not come back");
    session.turn({}, false);
  }
  return {};
}

}  // namespace

std::string default_socket() {
  const char* run = std::getenv("XDG_RUNTIME_DIR");
  return std::string(run != nullptr && *run != '\0' ? run : "/tmp") + "/faultline-0.sock";
}

Result<bool> run(const Options& options) {
  RunOptions o;
  o.guests = options.guests;
  o.devices = options.devices;
  o.seconds = options.seconds;
  o.trace = options.trace;
  std::optional<ResultFile> json;
  if (!options.json.empty()) {
    auto file = ResultFile::open(options.json);
    if (!file) return fail(0, "--json: " + file.error().message());
    json.emplace(std::move(*file));
  }
  auto trace = load_trace(o);
  if (!trace) return tl::unexpected(trace.error());
  std::vector<HostGuest> hosts =
      make_guests(options.guests, guest::Guest::choose_sids(*trace, options.devices));
  const std::string own = fmt::format("vmm{}-", ::getpid());
  for (HostGuest& host : hosts) host.name = own + host.name;
  // It forks, so it comes before any thread.
  auto kernel = soft::SoftProcess::start(kernel_config(o, hosts));
  if (!kernel) return tl::unexpected(kernel.error());
  catch_interrupts();
  auto service = Connection::open(options.socket);
  if (!service) return tl::unexpected(service.error());

  Sys sys((*kernel)->socket());
  std::vector<Machine> machines;
  for (HostGuest& host : hosts) {
    auto machine = make_machine(sys, host);
    if (!machine) return tl::unexpected(machine.error());
    machines.push_back(std::move(*machine));
  }
  Session session(o, *trace, hosts,
                  soft_devices((*kernel)->view(), std::size_t{options.guests} * options.devices));
  for (std::size_t g = 0; g < hosts.size(); ++g) {
    auto ok = attach(**service, hosts[g], machines[g], (*kernel)->socket());
    if (!ok) return tl::unexpected(ok.error());
  }
  (*service)->watch();
  session.start();
  const Result<void> played = play(session, **service, options.seconds);
  const RunResult result = session.finish();
  const std::vector<GuestTally> tallies = session.tallies();
  print_table(tallies);
  for (const std::string& finding : result.verdict.findings) fmt::print("{}\n", finding);
  fmt::print("audit: {}\n", result.verdict.clean() ? "clean" : "NOT CLEAN");
  if (json) {
    if (auto ok = json->commit(to_json(tallies, result, **service)); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  for (HostGuest& host : hosts) close_descriptors(host);
  if (!played) return tl::unexpected(played.error());
  return result.verdict.clean();
}

}  // namespace faultline::vmm
