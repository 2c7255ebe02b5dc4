// SPDX-License-Identifier: BSD-3-Clause
// A fault queue's header and regions as a hostile kernel gives them: what is accepted is mapped and
// read, so all of it has to lie inside of what may be mapped.
#include "kernel/vfio/geometry.h"

#include "kernel/uapi/fault_abi2.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

using Wide = unsigned __int128;

std::uint64_t length(Input& in) {
  static constexpr std::uint64_t kUsual[] = {0,    8,      20,      48,      64,      85,
                                             1024, 0x1000, 0x2000,  0x11000, 0x10000, 128,
                                             256,  2,      1 << 20, 1 << 21, ~0ULL,   ~0ULL - 4095};
  const std::size_t i = in.byte() % 32;
  return i < std::size(kUsual) ? kUsual[i] : in.u64();
}

/// A region as parse_region_info() may give it: areas lie inside.
vfio::RegionInfo region(Input& in) {
  vfio::RegionInfo r;
  r.flags = in.byte() & 0xf;
  r.size = length(in);
  const std::uint8_t has = in.byte();
  if ((has & 1) != 0) r.max_fault_abi = in.byte() % 4;
  r.sparse = (has & 2) != 0;
  for (unsigned i = 0; r.sparse && i < (has >> 2 & 3); ++i) {
    const std::uint64_t offset = length(in);
    const std::uint64_t size = length(in);
    if (static_cast<Wide>(offset) + size <= r.size) r.areas.push_back({offset, size});
  }
  return r;
}

bool mappable(const vfio::RegionInfo& r, Wide from, Wide to) {
  if ((r.flags & 4) == 0) return false;
  if (!r.sparse) return to <= r.size;
  for (const auto& a : r.areas) {
    if (from >= a.offset && to <= static_cast<Wide>(a.offset) + a.size) return true;
  }
  return false;
}

void check_plan(std::uint32_t abi, const uapi::vfio_region_fault_prod& header,
                const vfio::RegionInfo& prod, const vfio::RegionInfo& cons,
                const vfio::MapPlan& plan) {
  const vfio::Geometry& g = plan.geometry;
  hold(g.abi == abi && g.entries == header.nb_entries && g.entry_size == header.entry_size &&
           g.offset == header.offset,
       "the geometry is not the header's");
  const std::uint32_t record = abi == 2 ? 64 : sizeof(uapi::iommu_fault);
  hold(g.entry_size >= record && g.entry_size % 8 == 0, "a slot does not hold a record");
  hold(g.entries >= 2, "no ring");
  hold(abi != 2 || (g.entries & (g.entries - 1)) == 0, "slots are found by a mask");
  const Wide end = static_cast<Wide>(g.offset) + static_cast<Wide>(g.entries) * g.entry_size;
  const Wide mapped_end = static_cast<Wide>(plan.producer.offset) + plan.producer.size;
  hold(g.offset >= plan.producer.offset && end <= mapped_end, "the ring leaves its mapping");
  hold(mapped_end <= prod.size, "the mapping leaves the region");
  hold(plan.producer.offset % 4096 == 0 && plan.producer.size % 4096 == 0, "no pages");
  hold((g.offset - plan.producer.offset) % 8 == 0, "the ring is not aligned");
  if (abi != 2) return;
  hold(plan.producer.offset == 0, "the header is not mapped");
  hold(plan.consumer.offset == 0 && plan.consumer.size == 4096 && cons.size >= 4096,
       "the consumer index is not mapped");
}

/// What must be accepted: the rules of geometry.h, said once more.
bool sound(std::uint32_t abi, const uapi::vfio_region_fault_prod& h, const vfio::RegionInfo& prod,
           const vfio::RegionInfo& cons) {
  const std::uint32_t record = abi == 2 ? 64 : sizeof(uapi::iommu_fault);
  const Wide end = static_cast<Wide>(h.offset) + static_cast<Wide>(h.nb_entries) * h.entry_size;
  if (h.entry_size < record || h.entry_size > 4096 || h.entry_size % 8 != 0) return false;
  if (h.nb_entries < 2 || h.nb_entries > 1U << 20) return false;
  if (h.offset < sizeof h || h.offset % (abi == 2 ? 4096 : 8) != 0) return false;
  if (!mappable(prod, abi == 2 ? 0 : h.offset, end)) return false;
  if (abi != 2) return true;
  return h.entry_size == 64 && (h.nb_entries & (h.nb_entries - 1)) == 0 && mappable(cons, 0, 4096);
}

void run(Input in) {
  const vfio::RegionInfo prod = region(in);
  const vfio::RegionInfo cons = region(in);
  const auto choice = static_cast<vfio::AbiChoice>(in.byte() % 3);
  const bool as_chosen = in.flag();
  uapi::vfio_region_fault_prod header{};
  header.nb_entries = static_cast<std::uint32_t>(length(in));
  header.entry_size = static_cast<std::uint32_t>(length(in));
  header.offset = static_cast<std::uint32_t>(length(in));

  const auto seeds = vfio::check_regions(prod, cons);
  if (!seeds) hold_one_line(seeds.error().message());
  hold(!seeds.has_value() || (prod.flags & 3) == 1, "a region of a later revision passes");
  const auto chosen = vfio::choose_abi(prod, choice);
  if (chosen) {
    hold(*chosen >= 1 && *chosen <= prod.max_fault_abi && *chosen <= 2, "an ABI nobody offers");
    hold(choice == vfio::AbiChoice::kAuto || *chosen == static_cast<std::uint32_t>(choice),
         "not the ABI that was asked for");
  } else {
    hold_one_line(chosen.error().message());
    hold(prod.max_fault_abi.value_or(0) < 1 ||
             static_cast<std::uint32_t>(choice) > *prod.max_fault_abi,
         "an ABI is refused without a reason");
  }

  const std::uint32_t abi = as_chosen ? chosen.value_or(1) : 1 + in.byte() % 2;
  const auto plan = vfio::check_geometry(abi, header, prod, cons);
  if (plan) {
    hold(sound(abi, header, prod, cons), "accepted against the rules");
    check_plan(abi, header, prod, cons, *plan);
  } else {
    hold_one_line(plan.error().message());
    // The one thing left out of sound(): areas that are made of pages.
    bool pages = prod.size % 4096 == 0 || prod.sparse;
    for (const auto& a : prod.areas) pages &= a.offset % 4096 == 0 && a.size % 4096 == 0;
    for (const auto& a : cons.areas) pages &= a.offset == 0;
    hold(!sound(abi, header, prod, cons) || !pages, "refused against the rules");
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
