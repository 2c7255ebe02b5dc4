// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/engine_guests.h"
#include "apps/session/guest_budget.h"
#include "apps/session/guest_state.h"
#include "apps/session/request_fds.h"
#include "engine/journal.h"
#include "engine/placement_join.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "kernel/base/clock.h"

namespace faultline::session {

/// What a guest's request asks of the engine, but for its memory.
[[nodiscard]] engine::GuestSpec spec_of(const GuestRequest& request,
                                        const EngineGuestsOptions& options);

/// GuestHost over an engine of one kind of kernel.
///
/// KernelGuest  one guest's devices and memory on that kernel:
///                kBackend, kDeviceFds, kBackendFds
///                Sources, SinkType
///                open(GuestRequest&, Journal*) → Result<unique_ptr>: takes what it keeps out of
///                  the request; the journal of an earlier life, if there was one
///                regions(), features(), sources(Journal&), sink()
template <class KernelGuest>
class ServedGuests final : public GuestHost {
 public:
  using EngineType = engine::Engine<typename KernelGuest::Sources, typename KernelGuest::SinkType>;

  static Result<std::unique_ptr<GuestHost>> make(engine::ColdLane& lane, const engine::Plan& plan,
                                                 engine::Launcher launcher,
                                                 EngineGuestsOptions options) {
    auto host = std::make_unique<ServedGuests>(lane, plan.shards, std::move(options));
    engine::Plan empty = plan;
    empty.guests.clear();
    if (auto ok = host->engine_.start(empty, std::move(launcher)); !ok) {
      return tl::unexpected(std::move(ok.error()));
    }
    return host;
  }

  ServedGuests(engine::ColdLane& lane, std::vector<engine::ShardPlan> shards,
               EngineGuestsOptions options)
      : options_(std::move(options)), shards_(std::move(shards)), engine_(lane, options_.engine) {}
  ~ServedGuests() override { (void)engine_.stop(); }

  [[nodiscard]] Backend backend() const noexcept override { return KernelGuest::kBackend; }

  Result<int> add(GuestRequest request) override {
    auto served = std::make_unique<Served>(std::move(request));
    GuestRequest& asked = *served->request;
    const std::string name = asked.name;
    if (guests_.contains(name)) return fail(EEXIST, "guest " + name + " is there already");
    if (auto ok = open(*served); !ok) return tl::unexpected(std::move(ok.error()));
    const int journal = served->journal->memfd();
    guests_.emplace(name, std::move(served));
    return journal;
  }

  Result<void> remove(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    if (auto ok = leave(**guest); !ok) return ok;
    guests_.erase(name);
    return {};
  }

  Result<void> pause(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    if ((*guest)->paused) return fail(EALREADY, "guest " + name + " is paused already");
    if (auto ok = engine_.pause_guest(name); !ok) return ok;
    (*guest)->paused = true;
    return {};
  }

  Result<void> resume(const std::string& name) override {
    auto guest = find_paused(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    Served& g = **guest;
    // One that was given another state is not in the engine: it recovers from there now.
    if (auto ok = g.entered ? engine_.resume_guest(name) : enter(g); !ok) return ok;
    g.paused = false;
    return {};
  }

  Result<std::string> state(const std::string& name) override {
    auto guest = find_paused(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    auto registers = Registers::of((*guest)->spec);
    if (!registers) return tl::unexpected(std::move(registers.error()));
    std::string state = state_of(*(*guest)->journal, registers->page, (*guest)->ids);
    if (registers->memory.poisoned()) return fail(EFAULT, "guest " + name + ": its memory is gone");
    return state;
  }

  Result<void> set_state(const std::string& name, const std::string& state) override {
    auto guest = find_paused(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    Served& g = **guest;
    auto registers = Registers::of(g.spec);
    if (!registers) return tl::unexpected(std::move(registers.error()));
    if (auto ok = leave(g); !ok) return ok;
    return take_state(*g.journal, registers->page, g.ids, state);
  }

  Result<void> reset(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    Served& g = **guest;
    if (auto ok = leave(g); !ok) return ok;
    auto sources = g.kernel->sources(*g.journal);  // where they stand by the journal as it was
    if (!sources) return fail(std::move(sources.error()), "guest " + name);
    clear_journal(*g.journal);
    if (auto ok = enter(g, std::move(*sources)); !ok) return ok;
    return g.paused ? engine_.pause_guest(name) : Result<void>();
  }

  Result<void> set_budget(const std::string& name, const nlohmann::json& budget) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    return apply_budget(engine_, name, budget);
  }

  [[nodiscard]] engine::EngineSnapshot snapshot() const override { return engine_.snapshot(); }
  [[nodiscard]] Nanos oldest_beat() const override { return engine_.oldest_beat(); }
  Result<void> stop() override { return engine_.stop(); }

 private:
  struct Served {
    explicit Served(GuestRequest r) : request(std::move(r)) {}

    OwnedRequest request;  ///< descriptors: closed last
    std::unique_ptr<KernelGuest> kernel;
    std::optional<engine::Journal> journal;
    engine::GuestSpec spec;
    engine::GuestPlan place;
    viommu::Features offered;
    viommu::IdRegisters ids;  ///< that the guest is shown
    bool entered = false;     ///< the engine has it
    bool paused = false;
  };

  /// The register page of a guest, guarded while it is looked at.
  struct Registers {
    static Result<Registers> of(const engine::GuestSpec& spec) {
      auto memory = viommu::GuestMemory::make(spec.memory);
      if (!memory) return tl::unexpected(std::move(memory.error()));
      auto page = viommu::RegisterPage::map(*memory, spec.registers);
      if (!page) return tl::unexpected(std::move(page.error()));
      return Registers{std::move(*memory), *page};
    }
    viommu::GuestMemory memory;
    viommu::RegisterPage page;
  };

  Result<Served*> find(const std::string& name) {
    const auto at = guests_.find(name);
    if (at == guests_.end()) return fail(ENOENT, "there is no guest " + name);
    return at->second.get();
  }
  Result<Served*> find_paused(const std::string& name) {
    auto guest = find(name);
    if (guest && !(*guest)->paused) return fail(EINVAL, "guest " + name + " is not paused");
    return guest;
  }

  Result<void> open(Served& g) {
    GuestRequest& asked = *g.request;
    const std::string where = "guest " + asked.name;
    auto ok = check_descriptors(asked, KernelGuest::kDeviceFds, KernelGuest::kBackendFds);
    if (!ok) return ok;
    g.spec = spec_of(asked, options_);
    auto journal =
        asked.journal >= 0 ? engine::Journal::open(asked.journal) : engine::create_journal(g.spec);
    if (!journal) return fail(std::move(journal.error()), where);
    g.journal.emplace(std::move(*journal));
    auto kernel = KernelGuest::open(asked, *g.journal);
    if (!kernel) return fail(std::move(kernel.error()), where);
    g.kernel = std::move(*kernel);
    g.spec.memory = g.kernel->regions();
    g.offered = g.kernel->features();
    g.spec.features = &g.offered;
    if (auto f = viommu::negotiate(g.offered, g.kernel->sink().caps())) {
      g.ids = viommu::id_registers(*f);
    }
    return enter(g);
  }

  /// Into the engine, where the journal says.
  Result<void> enter(Served& g) {
    auto sources = g.kernel->sources(*g.journal);
    if (!sources) return fail(std::move(sources.error()), "guest " + g.spec.name);
    return enter(g, std::move(*sources));
  }
  Result<void> enter(Served& g, typename KernelGuest::Sources sources) {
    auto sink = g.kernel->sink();
    // A journal that begins anew is not asked for them by the engine.
    if (!g.journal->in_use()) note_asids(*g.journal, sink);
    g.place = place(g);
    auto ok = engine_.add_guest(g.spec, std::move(sources), std::move(sink), *g.journal, g.place);
    g.entered = ok.has_value();
    return ok;
  }
  [[nodiscard]] engine::GuestPlan place(const Served& newcomer) const {
    std::vector<engine::Resident> residents;
    for (const auto& [name, g] : guests_) {
      if (!g->entered || g.get() == &newcomer) continue;
      residents.push_back({g->place.event_shard, g->place.command_shard, g->spec.vcpus});
    }
    engine::GuestPlacement asked;
    asked.name = newcomer.spec.name;
    for (const engine::DeviceSpec& d : newcomer.spec.devices) asked.devices.push_back(d.name);
    asked.vcpus = newcomer.spec.vcpus;
    return engine::place_beside(options_.topology, shards_, residents, asked);
  }
  Result<void> leave(Served& g) {
    if (!g.entered) return {};
    auto ok = engine_.remove_guest(g.spec.name);
    g.entered = !ok;
    return ok;
  }

  static void note_asids(engine::Journal& journal, typename KernelGuest::SinkType& sink) {
    const engine::CommandJournal command = journal.command();
    for (unsigned asid = 0; asid < 65536; ++asid) {
      if (!command.asid_seen(static_cast<std::uint16_t>(asid))) continue;
      for (std::size_t i = 0; i < journal.devices(); ++i) {
        sink.note_asid(i, static_cast<std::uint16_t>(asid));
      }
    }
  }

  EngineGuestsOptions options_;
  std::vector<engine::ShardPlan> shards_;
  std::map<std::string, std::unique_ptr<Served>> guests_;  ///< outlive the engine's
  EngineType engine_;
};

}  // namespace faultline::session
