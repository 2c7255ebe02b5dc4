// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/command_duty.h"
#include "tests/engine/command_duty_world.h"
#include "tests/prove/any_policy.h"
#include "tests/prove/script.h"

namespace faultline::prove {

/// Mistakes of what is below the policy.
enum class SinkMistake : std::uint8_t {
  kNone,
  kResumeAtCount,  ///< goes on behind as many operations as the kernel reported
  kReserved,       ///< one page with TG ≠ 0 and NUM = SCALE = TTL = 0: hardware ignores it
};

/// What was proved so far.
struct Tally {
  std::uint64_t commands = 0;
  std::uint64_t syncs = 0;
  std::uint64_t submissions = 0;
  std::uint64_t operations = 0;
  std::uint64_t failures = 0;
  std::uint64_t errors = 0;  ///< CMDQ errors told to the guest
};

/// A guest's command queue under the real CommandDuty with one policy, on a kernel that keeps two
/// cache worlds: one where what goes in one submission (and, for the ideal, between two SYNCs)
/// takes effect in its order, and one where it does so in the worst order. Beside each an ideal
/// world does what the guest wrote, command by command, at the moment when the guest is told.
///
/// coverage    whenever the guest is told (CMDQ_CONS, an MSI), nothing is staler than in the ideal
/// order       so, with all that a stale upper cache can bring back in between
/// completion  at rest every command was told done, or an error was told at it
class Proof {
 public:
  explicit Proof(std::unique_ptr<PolicyBase> policy, const Setting& setting,
                 SinkMistake mistake = SinkMistake::kNone);
  Proof(const Proof&) = delete;
  Proof& operator=(const Proof&) = delete;

  /// Play a script on caches of `world` until rest. returns  what is wrong; empty: nothing
  std::string play(const Script& script, const test::CacheWorld& world);

  [[nodiscard]] const Tally& tally() const noexcept { return tally_; }

 private:
  struct Issued {
    enum class Kind : std::uint8_t { kNothing, kOperation, kSync, kIllegal };
    Kind kind = Kind::kNothing;
    Operation op;
    std::uint64_t msi_at = 0;
    std::uint32_t msi_data = 0;
  };
  struct Sink {
    Proof* proof;
    SinkCaps caps() noexcept { return Proof::caps(); }
    SubmitResult submit(std::span<const Operation> ops) noexcept { return proof->submit(ops); }
    void note_asid(std::size_t, std::uint16_t) noexcept {}
    SubmitResult set_stage1(std::size_t, const Stage1Config&) noexcept { return {}; }
  };
  using Duty =
      engine::CommandDuty<Sink, AnyPolicy, engine::NoHook, engine::command_world::ManualClock>;
  static constexpr std::size_t kQueue = 256;  ///< entries, and as many positions are kept

  static SinkCaps caps() noexcept {
    return {.max_batch = 63, .tlb_all = true, .config_caches = true, .atc = true, .range = true};
  }

  bool start();
  void place(const viommu::RawCommand& raw);
  void round(const Event& event);
  SubmitResult submit(std::span<const Operation> ops) noexcept;
  void execute(std::span<const Operation> ops);
  bool serve_cold(bool refuse);
  void look();
  void tell(std::uint64_t told);
  void repair();
  void fail(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }
  Issued& at(std::uint64_t position) { return issued_[position % kQueue]; }

  engine::command_world::World world_;
  std::unique_ptr<PolicyBase> policy_;
  SinkMistake mistake_;
  Sink sink_{this};
  std::unique_ptr<Duty> duty_;
  bool proving_ = false;
  const Event* event_ = nullptr;
  std::array<bool, kDevices> translating_{};

  std::array<Issued, kQueue> issued_{};
  std::uint64_t placed_ = 0;
  std::uint64_t passed_ = 0;  ///< by CMDQ_CONS
  std::uint64_t told_ = 0;    ///< by it or by an MSI
  std::uint64_t fenced_ = 0;  ///< told commands up to the last SYNC of them
  std::vector<std::uint64_t> msis_;
  std::size_t next_msi_ = 0;
  test::CacheWorld ordered_{{}, {}};  ///< the kernel's
  test::CacheWorld unordered_{{}, {}};
  test::CacheWorld ideal_ordered_{{}, {}};
  test::CacheWorld ideal_unordered_{{}, {}};
  std::vector<Operation> segment_;
  std::vector<Operation> scratch_;
  std::string wrong_;
  Tally tally_;
};

}  // namespace faultline::prove
