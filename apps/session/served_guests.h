// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
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
#include "kernel/base/clock.h"

namespace faultline::session {

/// What a guest's request asks of the engine, but for its memory.
[[nodiscard]] engine::GuestSpec spec_of(const GuestRequest& request,
                                        const EngineGuestsOptions& options);

/// GuestHost over an engine of one kind of kernel.
///
/// KernelGuest  one guest's devices and memory on that kernel:
///                kBackend; kDeviceFds, kBackendFds: arrays of FileKind
///                objects(), keep(), where there are such
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

  [[nodiscard]] FdCounts fd_counts() const noexcept override {
    return {KernelGuest::kDeviceFds.size(), KernelGuest::kBackendFds.size()};
  }

  Result<int> add(GuestRequest request) override {
    auto served = std::make_unique<Served>(std::move(request));
    Served& g = *served;
    const std::string name = g.request->name;
    if (guests_.contains(name)) return fail(EEXIST, "guest " + name + " is there already");
    auto ok = check(g);
    if (ok) {
      auto journal = g.request->journal >= 0 ? engine::Journal::open(g.request->journal)
                                             : engine::create_journal(g.spec);
      if (!journal) return fail(std::move(journal.error()), "guest " + name);
      ok = open(g, std::move(*journal));
    }
    // One that stood still in an earlier life is not touched now.
    const bool park = g.request->paused && ok && g.journal->in_use();
    if (ok) ok = park ? check_parked(g) : enter(g);
    if (ok && g.request->paused && !park) ok = engine_.pause_guest(name);
    if (!ok) {
      (void)leave(g);
      return tl::unexpected(std::move(ok.error()));
    }
    g.asked = g.request->budget;
    g.paused = g.request->paused;
    note_parked(g);
    const int journal = served->journal->memfd();
    guests_.emplace(name, std::move(served));
    return journal;
  }

  Result<void> remove(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    if (auto ok = leave(**guest); !ok) return ok;
    (*guest)->paused = false;
    note_parked(**guest);
    guests_.erase(name);
    return {};
  }

  Result<KeptObjects> objects(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    if constexpr (kHasObjects) return (*guest)->kernel->objects();
    return KeptObjects{};
  }

  Result<int> replace(GuestRequest request) override;

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
    note_parked(g);
    return {};
  }

  Result<std::string> state(const std::string& name) override {
    auto guest = find_paused(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    auto registers = GuardedRegisters::of((*guest)->spec);
    if (!registers) return tl::unexpected(std::move(registers.error()));
    std::string state = state_of(*(*guest)->journal, registers->page, (*guest)->ids);
    if (registers->memory.poisoned()) return fail(EFAULT, "guest " + name + ": its memory is gone");
    return state;
  }

  Result<void> set_state(const std::string& name, const std::string& state) override {
    auto guest = find_paused(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    Served& g = **guest;
    auto registers = GuardedRegisters::of(g.spec);
    if (!registers) return tl::unexpected(std::move(registers.error()));
    if (auto ok = leave(g); !ok) return ok;
    note_parked(g);
    auto ok = take_state(*g.journal, registers->page, g.ids, state);
    if (!ok) return fail(std::move(ok.error()), "guest " + name);
    return ok;
  }

  Result<void> reset(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    Served& g = **guest;
    if (auto ok = leave(g); !ok) return ok;
    auto sources = g.kernel->sources(*g.journal);  // where they stand by the journal as it was
    if (!sources) return park(g, std::move(sources.error()));
    clear_journal(*g.journal);
    if (auto ok = enter(g, std::move(*sources)); !ok) return park(g, std::move(ok.error()));
    if (g.paused) {
      auto ok = engine_.pause_guest(name);
      if (!ok && leave(g)) return park(g, std::move(ok.error()));
      g.paused = ok.has_value();
      if (!ok) return ok;
    }
    note_parked(g);
    return {};
  }

  Result<void> set_budget(const std::string& name, const nlohmann::json& budget) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    auto wanted = read_budget(name, budget, options_.budget);
    if (!wanted) return tl::unexpected(std::move(wanted.error()));
    // What it did not ask for follows the operator's.
    (*guest)->asked = read_budget(name, budget, kAnyBudget).value();
    (*guest)->spec.budget = *wanted;  // also when it is taken on again
    return (*guest)->entered ? engine_.set_budget(name, *wanted) : Result<void>();
  }

  [[nodiscard]] engine::Budget most() const override { return options_.budget; }
  void set_most(const engine::Budget& most) override {
    options_.budget = most;
    for (auto& [name, guest] : guests_) {
      guest->spec.budget = guest->asked ? at_most(*guest->asked, most) : most;
      if (guest->entered) (void)engine_.set_budget(name, guest->spec.budget);
    }
  }

  Result<std::vector<GpaRange>> written(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    Served& g = **guest;
    return written_by(*g.journal, g.spec.registers, g.spec.memory);
  }
  Result<std::vector<StreamBinding>> bindings(const std::string& name) override {
    auto guest = find(name);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    return bindings_of(*(*guest)->journal);
  }

  [[nodiscard]] engine::EngineSnapshot snapshot() const override {
    engine::EngineSnapshot all = engine_.snapshot();
    const std::lock_guard lock(parked_mutex_);
    for (const auto& [name, guest] : parked_) all.guests.push_back(guest);
    return all;
  }
  [[nodiscard]] Nanos oldest_beat() const override { return engine_.oldest_beat(); }
  unsigned nudge_stalled(Nanos before) override { return engine_.nudge_stalled(before); }
  std::vector<std::string> take_blocked(bool all) override { return engine_.take_blocked(all); }
  Result<void> stop() override {
    auto ok = engine_.stop();
    if constexpr (kHasObjects) {
      for (auto& [name, guest] : guests_) guest->kernel->keep();
    }
    return ok;
  }

 private:
  /// Kernel objects that it made itself and that can outlive it: objects(), keep().
  static constexpr bool kHasObjects = requires(KernelGuest & guest) { guest.keep(); };

  struct Served {
    explicit Served(GuestRequest r) : request(std::move(r)) {}

    OwnedRequest request;  ///< descriptors: closed last
    std::unique_ptr<KernelGuest> kernel;
    std::optional<engine::Journal> journal;
    engine::GuestSpec spec;
    std::optional<engine::Budget> asked;  ///< by its VMM
    engine::GuestPlan place;
    viommu::Features offered;
    viommu::IdRegisters ids;  ///< that the guest is shown
    bool entered = false;     ///< the engine has it
    bool paused = false;
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

  Result<void> check(Served& g) {
    g.spec = spec_of(*g.request, options_);
    return check_descriptors(*g.request, KernelGuest::kDeviceFds, KernelGuest::kBackendFds);
  }

  Result<void> open(Served& g, engine::Journal journal) {
    g.journal.emplace(std::move(journal));
    auto kernel = KernelGuest::open(*g.request, *g.journal);
    if (!kernel) return fail(std::move(kernel.error()), "guest " + g.spec.name);
    g.kernel = std::move(*kernel);
    g.spec.memory = g.kernel->regions();
    g.offered = g.kernel->features();
    g.spec.features = &g.offered;
    if (auto f = viommu::negotiate(g.offered, g.kernel->sink().caps())) {
      g.ids = viommu::id_registers(*f);
    }
    return {};
  }

  Result<void> hand_over(Served& old, Served& g);

  /// What the engine would refuse of a guest that it is given later.
  Result<void> check_parked(Served& g) {
    if (auto ok = engine::check_guest(g.spec, g.spec.devices.size(), *g.journal); !ok) return ok;
    auto registers = GuardedRegisters::of(g.spec);
    if (!registers) return fail(std::move(registers.error()), "guest " + g.spec.name);
    return {};
  }

  /// It left the engine and cannot be had back there: resume() tries again.
  /// returns  the error, and what that means
  tl::unexpected<Error> park(Served& g, Error why) {
    g.paused = true;
    note_parked(g);
    why.what = "guest " + g.spec.name + " is paused now, it could not be served on: " + why.what;
    return tl::unexpected<Error>(std::move(why));
  }

  /// Guests that the engine does not have are shown all the same.
  void note_parked(const Served& g) {
    const std::lock_guard lock(parked_mutex_);
    if (g.entered || !g.paused) {
      parked_.erase(g.spec.name);
      return;
    }
    engine::GuestSnapshot shown;
    shown.name = g.spec.name;
    shown.policy = g.spec.policy;
    shown.mode = g.spec.mode;
    shown.paused = true;
    for (const engine::DeviceSpec& d : g.spec.devices) {
      shown.devices.push_back({d.name, d.vsid, {}});
    }
    parked_.insert_or_assign(g.spec.name, std::move(shown));
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
  mutable std::mutex parked_mutex_;
  std::map<std::string, engine::GuestSnapshot> parked_;  ///< paused, and not in the engine
  EngineType engine_;
};

}  // namespace faultline::session

#include "apps/session/served_reshape.h"
