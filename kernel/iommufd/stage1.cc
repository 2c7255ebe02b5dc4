// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/stage1.h"

#include <cstdint>

namespace faultline::iommufd {
namespace {

constexpr std::uint64_t kValid = 1;
constexpr unsigned kConfigShift = 1;
constexpr std::uint64_t kConfigAbort = 0;
constexpr std::uint64_t kConfigBypass = 4;
constexpr std::uint64_t kConfigStage1 = 5;
constexpr unsigned kS1FmtShift = 4;
constexpr std::uint64_t kS1ContextPtr = 0x000f'ffff'ffff'ffc0;
constexpr unsigned kS1CdMaxShift = 59;
constexpr std::uint64_t kS1Dss = 0x3;
constexpr std::uint64_t kAttributes = 0xfc;  ///< S1CIR, S1COR, S1CSH
constexpr std::uint64_t kS1Stalld = std::uint64_t{1} << 27;
constexpr unsigned kEatsShift = 28;
constexpr std::uint64_t kEatsTranslate = 1;

}  // namespace

uapi::iommu_hwpt_arm_smmuv3 nested_table(const Stage1Config& config, bool ats) noexcept {
  uapi::iommu_hwpt_arm_smmuv3 table{};
  std::uint64_t& w0 = table.ste[0];
  std::uint64_t& w1 = table.ste[1];
  switch (config.mode) {
    case Stage1Config::Mode::kAbort:
      w0 = kValid | kConfigAbort << kConfigShift;
      break;
    case Stage1Config::Mode::kBypass:
      w0 = kValid | kConfigBypass << kConfigShift;
      break;
    case Stage1Config::Mode::kTranslate:
      w0 = kValid | kConfigStage1 << kConfigShift | (config.cd_table & kS1ContextPtr);
      w1 = config.ste[1] & (kAttributes | kS1Stalld);
      if (config.s1cdmax != 0) {
        w0 |= std::uint64_t{config.s1fmt & 3U} << kS1FmtShift | std::uint64_t{config.s1cdmax & 31U}
                                                                    << kS1CdMaxShift;
        w1 |= config.s1dss & kS1Dss;
      }
      if (ats && ((config.ste[1] >> kEatsShift) & 3) == kEatsTranslate) {
        w1 |= kEatsTranslate << kEatsShift;
      }
      break;
  }
  return table;
}

}  // namespace faultline::iommufd
