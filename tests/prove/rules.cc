// SPDX-License-Identifier: BSD-3-Clause
#include "tests/prove/rules.h"

#include <algorithm>
#include <array>

#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/merge.h"
#include "engine/merge/planted.h"
#include "tests/prove/mutants.h"

namespace faultline::prove {
namespace {

template <class P>
std::unique_ptr<PolicyBase> plain() {
  return std::make_unique<Wrapped<P>>();
}

struct Variant {
  double cap = 1.25;
  Nanos deadline = 1'000'000;
  merge::LingerMode linger = merge::LingerMode::kOn;
  bool sole_granule = true;
  bool nonglobal = false;
  SinkCaps caps{
      .max_batch = 63, .tlb_all = true, .config_caches = true, .atc = true, .range = true};
};

template <class P>
std::unique_ptr<PolicyBase> merging(const Variant& v) {
  merge::MergeSetup setup;
  setup.options.cap = v.cap;
  setup.options.deadline = v.deadline;
  setup.options.linger = v.linger;
  setup.options.assume_nonglobal = v.nonglobal;
  setup.sole_granule = v.sole_granule;
  setup.caps = v.caps;
  return std::make_unique<Wrapped<P>>(setup);
}

constexpr SinkCaps kNoRanges{
    .max_batch = 63, .tlb_all = true, .config_caches = true, .atc = true, .range = false};
constexpr SinkCaps kOneByOne{.max_batch = 1,
                             .tlb_all = true,
                             .config_caches = false,
                             .atc = true,
                             .range = false,
                             .max_pages = 512};

constexpr Setting kAllGranules{.sole_granule = false};
constexpr Setting kNonglobal{.globals = false};

}  // namespace

const std::vector<Rule>& policies() {
  using merge::Merge;
  constexpr SinkMistake kNone = SinkMistake::kNone;
  static const std::vector<Rule> all = {
      {"forward-each", kAllGranules, kNone, plain<merge::ForwardEach>},
      {"batch-until-sync", kAllGranules, kNone, plain<merge::BatchUntilSync>},
      {"merge", {}, kNone, [] { return merging<Merge>({}); }},
      {"merge, all granules", kAllGranules, kNone,
       [] { return merging<Merge>({.sole_granule = false}); }},
      {"merge, exact, no linger", kAllGranules, kNone,
       [] {
         return merging<Merge>(
             {.cap = 1, .linger = merge::LingerMode::kOff, .sole_granule = false});
       }},
      {"merge, cap 1000", {}, kNone, [] { return merging<Merge>({.cap = 1000}); }},
      {"merge, deadline 3 us", kAllGranules, kNone,
       [] { return merging<Merge>({.deadline = 3'000, .sole_granule = false}); }},
      {"merge, no ranges", {}, kNone, [] { return merging<Merge>({.caps = kNoRanges}); }},
      {"merge, one by one", {}, kNone, [] { return merging<Merge>({.caps = kOneByOne}); }},
      {"merge, nonglobal", kNonglobal, kNone,
       [] { return merging<Merge>({.cap = 1000, .deadline = 3'000, .nonglobal = true}); }},
  };
  return all;
}

const std::vector<Rule>& mutants() {
  using merge::Merge;
  using Batch = merge::BatchUntilSync;
  constexpr SinkMistake kNone = SinkMistake::kNone;
  static const std::vector<Rule> all = {
      {"a dropped operation", {}, kNone, plain<merge::DropTlbi<Batch>>},
      {"a dropped range", {}, kNone, [] { return merging<DropRange<Merge>>({}); }},
      {"ASID-wide over global entries", {}, kNone, [] { return merging<AsidWide<Merge>>({}); }},
      {"assume-nonglobal of a guest with global entries",
       {},
       kNone,
       [] { return merging<Merge>({.cap = 1000, .deadline = 3'000, .nonglobal = true}); }},
      {"LEAF kept too long", {}, kNone, [] { return merging<KeepLeaf<Merge>>({}); }},
      {"a level hint kept too long", {}, kNone, [] { return merging<KeepTtl<Merge>>({}); }},
      {"one ASID for all", {}, kNone, [] { return merging<FirstAsid<Merge>>({}); }},
      {"the granule of another", kAllGranules, kNone,
       [] { return merging<Merge>({.sole_granule = true}); }},
      {"kinds together across a SYNC", {}, kNone, plain<Across<false>>},
      {"kinds reordered across a SYNC", {}, kNone, plain<Across<true>>},
      {"a duplicate dropped over another kind", {}, kNone, plain<DropRepeated>},
      {"SYNC one command early", {}, kNone, [] { return merging<OneEarly<Merge>>({}); }},
      {"SYNC at once", {}, kNone, plain<merge::EarlySync<Batch>>},
      {"SYNC never", {}, kNone, plain<NeverStarts>},
      {"half of a submission", {}, kNone, [] { return merging<HalfDone<Merge>>({}); }},
      {"resume at the kernel's count",
       {},
       SinkMistake::kResumeAtCount,
       [] { return merging<Merge>({}); }},
      {"a reserved encoding", {}, SinkMistake::kReserved, [] { return merging<Merge>({}); }},
  };
  return all;
}

}  // namespace faultline::prove
