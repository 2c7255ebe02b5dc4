// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/engine_child.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#include "apps/faultline/description.h"
#include "kernel/base/shared.h"
#include "kernel/soft/soft_process_sys.h"

namespace faultline {
namespace {

constexpr int kStatusPeriodMs = 5;

volatile std::sig_atomic_t told_to_stop = 0;

extern "C" void on_stop(int) {
  told_to_stop = 1;
}

Result<Description> read_description(int fd) {
  struct stat size {};
  if (::fstat(fd, &size) != 0) return fail(errno, "the engine's description");
  std::string text(static_cast<std::size_t>(size.st_size), '\0');
  if (::pread(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return fail(errno, "the engine's description");
  }
  return description_from_json(text);
}

// Waits until this engine is needed. Returns false when it is not needed any more.
bool wait_for_go(int fd) {
  while (told_to_stop == 0) {
    pollfd p{fd, POLLIN, 0};
    if (::poll(&p, 1, 100) > 0) return true;
  }
  return false;
}

using Wires = Wiring<soft::SoftProcessSys>;
using Host = EngineHost<Wires, engine::KillAtStep>;

Result<void> serve(Description& d, EngineStatus& status) {
  std::vector<HostGuest> hosts;
  for (Description::Guest& g : d.guests) hosts.push_back(g.host);
  auto plan = make_plan(hosts, d.choices);
  if (!plan) return tl::unexpected(plan.error());
  auto base = Host::prepare(*plan, d.choices);
  if (!base) return tl::unexpected(base.error());

  soft::SoftProcessSys sys(d.kernel);
  std::vector<vfio::Mapping<soft::SoftProcessSys>> memories;
  for (HostGuest& host : hosts) {
    auto memory = Wires::map_memory(sys, host);
    if (!memory) return tl::unexpected(memory.error());
    memories.push_back(std::move(*memory));
  }
  store_release(status.shards, static_cast<std::uint32_t>(plan->shards.size()));
  store_release(status.spare, 1U);
  if (!wait_for_go(d.go)) return {};

  std::vector<std::unique_ptr<Wires>> wirings;
  std::vector<engine::Journal> journals;
  for (std::size_t g = 0; g < hosts.size(); ++g) {
    auto wiring =
        Wires::adopt(sys, spec_of(hosts[g], d.choices.policy).devices, d.guests[g].fds, d.profile);
    if (!wiring) return tl::unexpected(wiring.error());
    wirings.push_back(std::move(*wiring));
    auto journal = engine::Journal::open(d.guests[g].journal);
    if (!journal) return tl::unexpected(journal.error());
    journals.push_back(std::move(*journal));
  }
  auto host = Host::start(std::move(*base), hosts, wirings, journals, d.choices, *plan, d.kill);
  if (!host) return tl::unexpected(host.error());
  store_release(status.abi, static_cast<std::uint32_t>((*host)->abi()));
  store_release(status.running, 1U);
  while (told_to_stop == 0) {
    const engine::EngineSnapshot snapshot = (*host)->snapshot();
    for (std::size_t g = 0; g < std::min(snapshot.guests.size(), EngineStatus::kGuests); ++g) {
      store_relaxed(status.ioctls[g], snapshot.guests[g].commands.ioctls);
    }
    ::poll(nullptr, 0, kStatusPeriodMs);
  }
  return (*host)->stop();
}

}  // namespace

int engine_child(int description) {
  // A supervisor that dies must not leave an engine behind.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sigaction action {};
  action.sa_handler = on_stop;
  ::sigaction(SIGTERM, &action, nullptr);
  auto d = read_description(description);
  Result<void> result;
  if (!d) {
    result = tl::unexpected(d.error());
  } else {
    void* page =
        ::mmap(nullptr, sizeof(EngineStatus), PROT_READ | PROT_WRITE, MAP_SHARED, d->status, 0);
    if (page == MAP_FAILED) {
      result = fail(errno, "the engine's status page");
    } else {
      result = serve(*d, *static_cast<EngineStatus*>(page));
    }
  }
  if (result) return 0;
  std::fprintf(stderr, "faultline engine: %s\n", result.error().message().c_str());
  return 1;
}

}  // namespace faultline
