// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/page_table.h"

namespace faultline::guest {
namespace {

constexpr std::uint64_t kTableOrPage = 3;
constexpr std::uint64_t kApUnprivileged = 1ULL << 6;
constexpr std::uint64_t kApReadOnly = 1ULL << 7;
constexpr std::uint64_t kInnerShareable = 3ULL << 8;
constexpr std::uint64_t kAccessFlag = 1ULL << 10;
constexpr std::uint64_t kNotGlobal = 1ULL << 11;
constexpr std::uint64_t kExecuteNever = 3ULL << 53;
constexpr std::uint64_t kAddress = 0x0000'ffff'ffff'f000ULL;
// Above every IPS that stream_table.h programs, below 2^48.
constexpr std::uint64_t kBeyondIps = 1ULL << 46;

std::uint64_t leaf_bits(Leaf leaf) {
  std::uint64_t bits =
      kTableOrPage | kApUnprivileged | kInnerShareable | kNotGlobal | kExecuteNever | kAccessFlag;
  if (leaf == Leaf::kReadOnly) bits |= kApReadOnly;
  if (leaf == Leaf::kNotAccessed) bits &= ~kAccessFlag;
  if (leaf == Leaf::kTooFar) bits |= kBeyondIps;
  return bits;
}

}  // namespace

PageTable::PageTable(GuestMemory& memory, unsigned input_bits)
    : memory_(memory), input_bits_(input_bits), root_(memory.allocate(kPage4K)) {}

std::uint64_t* PageTable::leaf_slot(Iova iova, bool create) {
  Gpa table = root_;
  for (unsigned shift = input_bits_ > 39 ? 39 : 30; shift > 12; shift -= 9) {
    std::uint64_t& entry = memory_.word(table + 8 * (iova.value >> shift & 0x1ff));
    if (entry == 0) {
      if (!create) return nullptr;
      // Zeroed before it is linked; pairs with the walker's acquire of the descriptor.
      store_release(entry, memory_.allocate(kPage4K).value | kTableOrPage);
    }
    table = Gpa{entry & kAddress};
  }
  return &memory_.word(table + 8 * (iova.value >> 12 & 0x1ff));
}

void PageTable::map(Iova iova, Gpa page, Leaf leaf) {
  store_release(*leaf_slot(iova, true), page.value | leaf_bits(leaf));
}

void PageTable::unmap(Iova iova) {
  if (std::uint64_t* slot = leaf_slot(iova, false)) store_release(*slot, std::uint64_t{0});
}

std::uint64_t PageTable::descriptor(Iova iova) const noexcept {
  const std::uint64_t* slot = const_cast<PageTable*>(this)->leaf_slot(iova, false);
  return slot == nullptr ? 0 : *slot;
}

}  // namespace faultline::guest
