// SPDX-License-Identifier: BSD-3-Clause
// The policy merge and the oracle side by side, under any commands, options, times and failures.
#include "engine/merge/merge.h"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "engine/viommu/command.h"
#include "tests/fuzz/input.h"
#include "tests/support/invalidation_oracle.h"

namespace faultline::fuzz {
namespace {

using merge::Position;
using test::CachedEntry;
using test::CacheWorld;

constexpr std::uint64_t kBase = 0x40'0000'0000;
constexpr int kMostSteps = 200;

/// A page among a few that lie side by side.
std::uint64_t page(Input& in) {
  const unsigned b = in.byte();
  return kBase + ((b >> 6U) * (std::uint64_t{1} << 21U)) + (std::uint64_t{b & 31U} << 12U);
}

CacheWorld make_world(Input& in, bool sole_granule, bool globals) {
  std::vector<CachedEntry> entries;
  std::vector<std::uint16_t> asids;
  for (std::uint32_t sid = 0; sid < 2; ++sid) {
    CachedEntry e;
    e.where = CachedEntry::Where::kConfig;
    e.sid = sid;
    e.ssid = in.byte() & 1U;
    entries.push_back(e);
    asids.push_back(in.byte() & 1U);
  }
  for (int i = 0; i < 8; ++i) {
    const unsigned b = in.byte();
    CachedEntry e;
    e.asid = b & 1U;
    e.global = globals && (b & 2U) != 0;
    e.table = (b & 4U) != 0;
    e.level = static_cast<std::uint8_t>((b & 12U) == 0 ? 3 : 2);
    if (!sole_granule) e.granule_log2 = static_cast<std::uint8_t>(12 + 2 * ((b >> 4U) % 3));
    e.bytes = std::uint64_t{1} << (e.granule_log2 + (3U - e.level) * (e.granule_log2 - 3U));
    e.addr = page(in) & ~(e.bytes - 1);
    entries.push_back(e);
  }
  for (std::uint32_t i = 0; i < 3; ++i) {
    const unsigned b = in.byte();
    CachedEntry e;
    e.where = CachedEntry::Where::kAtc;
    e.sid = b & 1U;
    e.with_ssid = (b & 2U) != 0;
    e.ssid = e.with_ssid ? b >> 2U & 1U : 0;
    e.bytes = 0x1000;
    e.addr = page(in);
    entries.push_back(e);
  }
  return {std::move(entries), asids};
}

viommu::RawCommand command(Input& in) {
  constexpr std::uint8_t kOpcodes[] = {0x12, 0x12, 0x12, 0x12, 0x12, 0x13, 0x11, 0x10,
                                       0x05, 0x06, 0x40, 0x40, 0x46, 0x46, 0x46, 0x12};
  const unsigned what = in.byte();
  viommu::RawCommand c;
  c.word[0] = kOpcodes[what & 15U];
  if (c.word[0] >= 0x10 && c.word[0] <= 0x13) {
    c.word[0] |= std::uint64_t{what >> 4U & 1U} << 48U;
    c.word[1] = page(in) | (what >> 5U & 1U);
    if ((what & 0x40U) != 0) {
      const unsigned more = in.u16();
      c.word[0] |= std::uint64_t{more & 31U} << 12U | std::uint64_t{more >> 5U & 3U} << 20U;
      c.word[1] |= std::uint64_t{more >> 7U & 15U} << 8U;
    }
  } else if (c.word[0] != 0x46) {
    c.word[0] |= std::uint64_t{what >> 4U & 1U} << 32U | std::uint64_t{what >> 5U & 1U} << 12U;
    c.word[1] = what >> 6U & 1U;
    if ((c.word[0] & 0xff) == 0x40) {
      const unsigned size = in.byte() % 8;
      c.word[0] |= std::uint64_t{what >> 6U & 1U} << 11U | std::uint64_t{what >> 7U & 1U} << 9U;
      c.word[1] = (page(in) & ~((std::uint64_t{0x1000} << size) - 1)) | (size == 7 ? 52 : size);
    }
  }
  return c;
}

struct Side {
  explicit Side(const CacheWorld& world)
      : ordered(world), unordered(world), ideal(world), ideal_unordered(world) {}
  CacheWorld ordered, unordered, ideal, ideal_unordered;
  std::vector<viommu::Command> commands;
  std::vector<Operation> segment;
  Position told = 0;
  Position fenced = 0;

  void tell(Position to) {
    hold(to >= told, "what was covered is not any more");
    for (; told < to; ++told) {
      const viommu::Command& c = commands[told];
      if (c.is_sync()) {
        ideal_unordered.remove_unordered(segment);
        segment.clear();
        fenced = told + 1;
        continue;
      }
      const Operation op = viommu::to_operation(c);
      ideal.change(op, told);
      ideal.remove(op);
      ideal_unordered.change(op, told);
      segment.push_back(op);
    }
    hold(ordered.worse_than(ideal, told) < 0, "a SYNC was told before what it waits for was gone");
    hold(unordered.worse_than(ideal_unordered, fenced) < 0, "what a SYNC separated went together");
  }
};

merge::MergeSetup setup_of(Input& in) {
  const unsigned b = in.byte();
  const unsigned more = in.byte();
  merge::MergeSetup setup;
  setup.sole_granule = (b & 1U) != 0;
  setup.options.assume_nonglobal = (b & 2U) != 0;
  setup.options.linger = (b & 4U) != 0 ? merge::LingerMode::kOn : merge::LingerMode::kOff;
  constexpr double kCaps[] = {1, 1.25, 4, 1000};
  constexpr Nanos kDeadlines[] = {0, 1'000, 3'000, 1'000'000};
  setup.options.cap = kCaps[more & 3U];
  setup.options.deadline = kDeadlines[more >> 2U & 3U];
  setup.caps.range = true;
  return setup;
}

void run(Input in) {
  const merge::MergeSetup setup = setup_of(in);
  const auto policy = std::make_unique<merge::Merge>(setup);
  viommu::Features features;
  features.ats = true;
  features.ssid_bits = 1;
  Side side(make_world(in, setup.sole_granule, !setup.options.assume_nonglobal));
  Nanos now = 1;
  const auto submit = [&](unsigned how) {
    const std::span<const Operation> taken = policy->take(now);
    hold(!taken.empty() && taken.size() <= merge::kMaxSubmission, "the size of a submission");
    const bool fails = (how & 7U) == 7;
    const std::span<const Operation> done = fails ? taken.first(taken.size() / 2) : taken;
    for (const Operation& op : done) side.ordered.remove(op);
    side.unordered.remove_unordered({done.begin(), done.end()});
    now += 2'000;
    if (fails) {
      // Resync, as the duty does it.
      policy->clear();
      side.ordered.reset();
      side.unordered.reset();
    } else {
      policy->done(now);
    }
    const Position covered = policy->oldest(side.commands.size());
    if (covered > side.told) policy->released(1, now);
    side.tell(covered);
  };
  for (int step = 0; step < kMostSteps && !in.empty(); ++step) {
    const unsigned how = in.byte();
    now += how * 100;
    for (unsigned n = how >> 4U; n != 0 && policy->room() != 0 && !in.empty(); --n) {
      viommu::Command c;
      if (viommu::decode(command(in), features, c) != viommu::CommandError::kNone) continue;
      const Position at = side.commands.size();
      side.commands.push_back(c);
      if (c.is_sync()) {
        if (policy->oldest(~Position{0}) != ~Position{0}) policy->add_sync(at, now);
        continue;
      }
      const Operation op = viommu::to_operation(c);
      side.ordered.change(op, at);
      side.unordered.change(op, at);
      policy->add(op, at, now);
    }
    if (policy->due(now)) submit(how);
  }
  policy->flush();
  for (int i = 0; policy->oldest(~Position{0}) != ~Position{0}; ++i) {
    hold(i < 64 && policy->due(now), "flushed, and not due");
    submit(0);
  }
  side.tell(side.commands.size());
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
