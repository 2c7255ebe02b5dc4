// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/mutation.h"

#include <array>

namespace faultline::soft {
namespace {

struct Named {
  Mutation mutation;
  std::string_view name;
};

#define FL_MUTATION(name) \
  { Mutation::k##name, #name }
constexpr Named kTable[] = {
    FL_MUTATION(ProdReadableBeforeAbi), FL_MUTATION(AbiCanChange),
    FL_MUTATION(AbiZeroAccepted),       FL_MUTATION(AbiAboveMaxAccepted),
    FL_MUTATION(ConsAtSizeAccepted),    FL_MUTATION(BadConsTaken),
    FL_MUTATION(NoEmptySlot),           FL_MUTATION(ProdNotMasked),
    FL_MUTATION(OverwriteWhenFull),     FL_MUTATION(NoEventfd),
    FL_MUTATION(EventfdOnce),           FL_MUTATION(NoFaultCapability),
    FL_MUTATION(NoSparseCapability),    FL_MUTATION(WrongSubtype),
    FL_MUTATION(HeaderMappable),        FL_MUTATION(InvalidateNothing),
    FL_MUTATION(InvalidateNoWait),      FL_MUTATION(InvalidateAsidIsAll),
    FL_MUTATION(InvalidateOnePage),     FL_MUTATION(DetachKeepsTranslation),
    FL_MUTATION(DetachIsBypass),        FL_MUTATION(AbortIsBypass),
    FL_MUTATION(BypassIsAbort),         FL_MUTATION(MsiBindingIgnored),
    FL_MUTATION(MsiUnbindIgnored),      FL_MUTATION(MsiNotRounded),
    FL_MUTATION(ArgszUnchecked),        FL_MUTATION(FlagsUnchecked),
    FL_MUTATION(VersionUnchecked),      FL_MUTATION(NestingNotOffered),
    FL_MUTATION(Stage2FaultPropagates), FL_MUTATION(UnmapLeavesTlb),
    FL_MUTATION(UnmapIgnored),          FL_MUTATION(BindIgnored),
    FL_MUTATION(BindWithoutIommu),      FL_MUTATION(NoLiveReplace),
    FL_MUTATION(FaultsNotReported),     FL_MUTATION(RecordShifted),
    FL_MUTATION(ProducerWritable),      FL_MUTATION(GeometryZero),
    FL_MUTATION(ProdVersionFilled),     FL_MUTATION(AbiRefused),
    FL_MUTATION(ConsumerIgnored),       FL_MUTATION(GranularityUnchecked),
    FL_MUTATION(UnboundDoorbell),
};
#undef FL_MUTATION

constexpr auto kAll = [] {
  std::array<Mutation, std::size(kTable)> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = kTable[i].mutation;
  return all;
}();

}  // namespace

std::string_view name_of(Mutation mutation) {
  for (const Named& n : kTable) {
    if (n.mutation == mutation) return n.name;
  }
  return "None";
}

Mutation mutation_named(std::string_view name) {
  for (const Named& n : kTable) {
    if (n.name == name) return n.mutation;
  }
  return Mutation::kNone;
}

std::span<const Mutation> all_mutations() {
  return kAll;
}

}  // namespace faultline::soft
