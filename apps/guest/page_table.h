// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "apps/guest/memory.h"
#include "kernel/base/units.h"

namespace faultline::guest {

/// What a stage-1 leaf allows, or why it faults.
enum class Leaf : std::uint8_t {
  kReadWrite,
  kReadOnly,     ///< a write is F_PERMISSION
  kNotAccessed,  ///< AF = 0: any access is F_ACCESS
  kTooFar,       ///< output address beyond IPS: any access is F_ADDR_SIZE
};

/// A stage-1 table for a 4 KiB granule as Linux builds it: nG, inner shareable, unprivileged, no
/// execution. Tables are allocated when first needed and never freed.
///
/// thread   the guest's; a walker may read at any time, so every descriptor is one release store
class PageTable {
 public:
  /// input_bits  size of the input addresses: 48 (four levels) or 39 (three)
  PageTable(GuestMemory& memory, unsigned input_bits);

  [[nodiscard]] Gpa root() const noexcept { return root_; }
  [[nodiscard]] unsigned input_bits() const noexcept { return input_bits_; }

  /// iova, page   page-aligned; whatever was mapped there is replaced
  void map(Iova iova, Gpa page, Leaf leaf);
  void unmap(Iova iova);

  /// The leaf descriptor as it stands, 0 when there is no table for it.
  [[nodiscard]] std::uint64_t descriptor(Iova iova) const noexcept;

 private:
  std::uint64_t* leaf_slot(Iova iova, bool create);

  GuestMemory& memory_;
  unsigned input_bits_;
  Gpa root_;
};

}  // namespace faultline::guest
