// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/base/result.h"
#include "kernel/base/units.h"
#include "kernel/iommufd/refusal.h"

namespace faultline::iommufd {

/// Where doorbells for MSIs are in mainline: the kernel maps them at stage 2 by itself, in a window
/// that the guest has to map one to one at stage 1 (its firmware says so: an RMR node). There is
/// nothing to bind; what the seed's BIND_MSI says is checked against the window and recorded.
///
/// source  IOMMU_RESV_SW_MSI of drivers/iommu/arm/arm-smmu-v3; iommufd_sw_msi()
class MsiWindow {
 public:
  static constexpr std::uint64_t kBase = 0x800'0000;
  static constexpr std::uint64_t kBytes = 0x10'0000;
  /// Doorbell pages that one iommufd can map.
  static constexpr std::size_t kMostPages = 64;

  struct Binding {
    Iova iova;
    Gpa gpa;
    std::uint64_t size = 0;
  };

  /// Guest memory must stay out of it.
  [[nodiscard]] static bool overlaps(Gpa gpa, std::uint64_t size) noexcept {
    return gpa.value < kBase + kBytes && gpa.value + size > kBase;
  }

  /// iova, gpa  rounded down to size, as the seed does; size a power of two
  /// errors     outside the window, not one to one, or too many; one bound before is fine
  Result<void> bind(Iova iova, Gpa gpa, std::uint64_t size) {
    if (size == 0 || (size & (size - 1)) != 0) {
      return fail(0, what(iova, size) + " has a size that is no power of two");
    }
    iova.value &= ~(size - 1);
    gpa.value &= ~(size - 1);
    if (iova.value < kBase || size > kBytes || iova.value > kBase + kBytes - size) {
      return fail(0, what(iova, size) + " is outside the window at " + hex(kBase) + " of " +
                         std::to_string(kBytes) + " bytes where this kernel maps them");
    }
    if (iova.value != gpa.value) {
      return fail(0, what(iova, size) + " leads to " + hex(gpa.value) +
                         ": the guest must map the window one to one");
    }
    for (const Binding& b : bindings_) {
      if (b.iova == iova) return {};
    }
    if (bindings_.size() == kMostPages) {
      return fail(
          0, what(iova, size) + " is one too many: the kernel maps " + std::to_string(kMostPages));
    }
    bindings_.push_back({iova, gpa, size});
    return {};
  }

  Result<void> unbind(Iova iova) {
    for (auto b = bindings_.begin(); b != bindings_.end(); ++b) {
      if (iova.value - b->iova.value < b->size) {
        bindings_.erase(b);
        return {};
      }
    }
    return fail(0, "no MSI doorbell is bound at " + hex(iova.value));
  }

  [[nodiscard]] const std::vector<Binding>& bindings() const noexcept { return bindings_; }

 private:
  static std::string what(Iova iova, std::uint64_t size) {
    return "the MSI doorbell of " + std::to_string(size) + " bytes at " + hex(iova.value);
  }

  std::vector<Binding> bindings_;
};

}  // namespace faultline::iommufd
