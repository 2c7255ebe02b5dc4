// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/guest_budget.h"
#include "apps/session/guest_host.h"
#include "apps/session/request_fds.h"
#include "engine/journal.h"

namespace faultline::session::testing {

/// A host without an engine: holds what it is given as a real one would, and says what was asked.
class FakeHost final : public GuestHost {
 public:
  struct Held {
    explicit Held(GuestRequest r, engine::Journal j)
        : request(std::move(r)), journal(std::move(j)) {}
    OwnedRequest request;
    engine::Journal journal;
    bool paused = false;
  };

  /// The next call fails with this line.
  void fail_next(std::string line, int code = 0) { failure_ = {code, std::move(line)}; }

  [[nodiscard]] Backend backend() const noexcept override { return Backend::kSoft; }
  [[nodiscard]] FdCounts fd_counts() const noexcept override { return {3, 1}; }

  Result<int> add(GuestRequest guest) override {
    OwnedRequest owned(std::move(guest));
    if (auto ok = call("add " + owned->name); !ok) return tl::unexpected(ok.error());
    const std::string name = owned->name;
    if (guests.contains(name)) return fail(EEXIST, "the host has it already");
    auto journal = owned->journal >= 0 ? engine::Journal::open(owned->journal)
                                       : engine::Journal::create(name, 1, 7);
    if (!journal) return tl::unexpected(journal.error());
    const auto at = guests.emplace(name, Held(std::move(*owned), std::move(*journal))).first;
    *owned = GuestRequest{};
    at->second.paused = at->second.request->paused;
    return at->second.journal.memfd();
  }
  Result<int> replace(GuestRequest guest) override {
    OwnedRequest owned(std::move(guest));
    const std::string name = owned->name;
    if (auto ok = call("replace " + name); !ok) return tl::unexpected(ok.error());
    auto journal = std::move(guests.at(name).journal);
    if (reshaping) reshaping(journal);
    guests.erase(name);
    const auto at = guests.emplace(name, Held(std::move(*owned), std::move(journal))).first;
    *owned = GuestRequest{};
    at->second.paused = at->second.request->paused;
    return at->second.journal.memfd();
  }
  Result<KeptObjects> objects(const std::string& /*name*/) override { return kept_objects; }
  KeptObjects kept_objects;
  Result<void> remove(const std::string& name) override {
    if (auto ok = call("remove " + name); !ok) return ok;
    guests.erase(name);
    return {};
  }
  Result<void> pause(const std::string& name) override {
    if (auto ok = call("pause " + name); !ok) return ok;
    guests.at(name).paused = true;
    return {};
  }
  Result<void> resume(const std::string& name) override {
    if (auto ok = call("resume " + name); !ok) return ok;
    guests.at(name).paused = false;
    return {};
  }
  Result<std::string> state(const std::string& name) override {
    if (auto ok = call("state " + name); !ok) return tl::unexpected(ok.error());
    return "state of " + name;
  }
  Result<void> set_state(const std::string& name, const std::string& state) override {
    return call("set_state " + name + " " + state);
  }
  Result<void> reset(const std::string& name) override { return call("reset " + name); }
  Result<void> set_budget(const std::string& name, const nlohmann::json& budget) override {
    return call("set_budget " + name + " " + budget.dump());
  }
  Result<std::vector<GpaRange>> written(const std::string& name) override {
    if (auto ok = call("written " + name); !ok) return tl::unexpected(ok.error());
    return std::vector<GpaRange>{{Gpa{0x40000000}, 0x20000}};
  }
  Result<std::vector<StreamBinding>> bindings(const std::string& name) override {
    if (auto ok = call("bindings " + name); !ok) return tl::unexpected(ok.error());
    return std::vector<StreamBinding>(guests.at(name).request->devices.size(),
                                      StreamBinding::kStage1);
  }
  unsigned nudge_stalled(Nanos /*before*/) override { return 0; }
  [[nodiscard]] engine::Budget most() const override { return budget; }
  void set_most(const engine::Budget& most) override { budget = most; }
  std::vector<std::string> take_blocked(bool all) override {
    return std::exchange(all ? blocked : blocked_gone, {});
  }
  [[nodiscard]] engine::EngineSnapshot snapshot() const override {
    engine::EngineSnapshot out;
    for (const auto& [name, held] : guests) {
      out.guests.emplace_back();
      out.guests.back().name = name;
      out.guests.back().evtq_size = 64;
      out.guests.back().paused = held.paused;
    }
    return out;
  }
  [[nodiscard]] Nanos oldest_beat() const override { return beat; }
  Result<void> stop() override { return {}; }

  std::map<std::string, Held> guests;
  std::vector<std::string> calls;
  engine::Budget budget = kAnyBudget;  ///< the operator's
  /// Called when a guest gets another shape; may give it another journal.
  std::function<void(engine::Journal&)> reshaping;
  std::vector<std::string> blocked;       ///< what take_blocked() says next of those served
  std::vector<std::string> blocked_gone;  ///< and of those that are not any more
  Nanos beat = 1;

 private:
  Result<void> call(std::string what) {
    calls.push_back(std::move(what));
    if (failure_.what.empty()) return {};
    return tl::unexpected<Error>(std::exchange(failure_, {}));
  }

  Error failure_;
};

}  // namespace faultline::session::testing
