// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/viommu/command.h"
#include "engine/viommu/feature_set.h"
#include "tests/support/invalidation_oracle.h"

namespace faultline::prove {

/// xorshift64*: fast, and the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed * 0x9e37'79b9'7f4a'7c15U | 1) {}
  std::uint64_t next() noexcept {
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    return state_ * 0x2545'f491'4f6c'dd1dU;
  }
  std::uint32_t below(std::uint32_t n) noexcept {
    return static_cast<std::uint32_t>((next() >> 32U) * n >> 32U);
  }
  bool one_in(std::uint32_t n) noexcept { return below(n) == 0; }

 private:
  std::uint64_t state_;
};

/// One thing that happens to a guest's queue.
struct Event {
  enum class Kind : std::uint8_t {
    kPlace,  ///< the guest writes a command; nothing when its queue is full
    kRing,   ///< it writes PROD
    kRound,  ///< the duty's round
  };
  Kind kind = Kind::kRound;
  bool fail = false;           ///< kRound: its submission fails
  bool refuse = false;         ///< kRound: a stage 1 cannot be bound
  std::uint8_t executed = 0;   ///< kRound, fail: operations that took effect all the same
  std::uint16_t reported = 0;  ///< kRound, fail: operations that the kernel says took effect
  std::uint32_t passes = 0;    ///< kRound: ns since the one before
  viommu::RawCommand raw;      ///< kPlace
};
using Script = std::vector<Event>;

/// What a guest and its hardware are like.
struct Setting {
  bool sole_granule = true;  ///< 4 KiB only
  bool globals = true;       ///< stage-1 mappings without nG
};

inline constexpr std::size_t kDevices = 2;
/// StreamID of a device, as tests/engine/command_duty_world.h has it.
constexpr std::uint32_t sid_of(std::size_t device) noexcept {
  return 8 + 3 * static_cast<std::uint32_t>(device);
}
viommu::Features features_of(const Setting& setting) noexcept;

/// Entries at random around the addresses that make_script() uses.
test::CacheWorld make_world(std::uint64_t seed, const Setting& setting);

/// About `commands` commands in bursts, with SYNCs, illegal commands, pauses and, with `failures`,
/// a kernel that fails now and then. It always comes to rest at the end.
///
/// cost  40 ns a command of CPU time
void make_script(std::uint64_t seed, const Setting& setting, std::size_t commands, bool failures,
                 Script& out);

/// A line for each event.
std::string to_text(const Event& event, const viommu::Features& features);

}  // namespace faultline::prove
