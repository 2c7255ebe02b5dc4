// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/stage1.h"

#include <array>
#include <cstdio>

namespace faultline::vfio {
namespace {

std::uint8_t mode_of(Stage1Config::Mode mode) noexcept {
  switch (mode) {
    case Stage1Config::Mode::kTranslate:
      return uapi::kIommuPasidConfigTranslate;
    case Stage1Config::Mode::kBypass:
      return uapi::kIommuPasidConfigBypass;
    case Stage1Config::Mode::kAbort:
      break;
  }
  return uapi::kIommuPasidConfigAbort;
}

}  // namespace

uapi::vfio_iommu_type1_attach_pasid_table pasid_table(const Stage1Config& config) noexcept {
  uapi::vfio_iommu_type1_attach_pasid_table attach{};
  attach.argsz = sizeof attach;
  attach.config.version = uapi::kPasidTableCfgVersion1;
  attach.config.format = uapi::kIommuPasidFormatSmmuv3;
  attach.config.config = mode_of(config.mode);
  attach.config.smmuv3.version = uapi::kPasidTableSmmuv3CfgVersion1;
  if (config.mode == Stage1Config::Mode::kTranslate) {
    attach.config.base_ptr = config.cd_table;
    attach.config.pasid_bits = config.s1cdmax;
    attach.config.smmuv3.s1fmt = config.s1fmt;
    attach.config.smmuv3.s1dss = config.s1dss;
  }
  return attach;
}

std::string hex(std::uint64_t value) {
  std::array<char, 19> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

}  // namespace faultline::vfio
