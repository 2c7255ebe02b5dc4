// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/hardware.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace faultline::iommufd {
namespace {

constexpr std::uint32_t bits(std::uint32_t word, unsigned high, unsigned low) noexcept {
  return (word >> low) & (0xffffffffU >> (31 - (high - low)));
}

}  // namespace

std::string Hardware::describe() const {
  std::array<char, 200> text{};
  switch (kind) {
    case Kind::kSmmuV3:
      std::snprintf(text.data(), text.size(),
                    "SMMUv3 idr0=%08x idr1=%08x idr3=%08x idr5=%08x iidr=%08x aidr=%08x",
                    smmu.idr[0], smmu.idr[1], smmu.idr[3], smmu.idr[5], smmu.iidr, smmu.aidr);
      break;
    case Kind::kVtd:
      std::snprintf(text.data(), text.size(), "Intel VT-d cap=%016llx ecap=%016llx",
                    static_cast<unsigned long long>(vtd.cap_reg),
                    static_cast<unsigned long long>(vtd.ecap_reg));
      break;
    case Kind::kOther:
      std::snprintf(text.data(), text.size(), "an IOMMU of type %u, which is not spoken here",
                    type);
      break;
    case Kind::kNone:
      return "an IOMMU that does not tell what it is";
  }
  return text.data();
}

Offer offer_of(const Hardware& hardware) noexcept {
  Offer offer;
  if (hardware.kind != Hardware::Kind::kSmmuV3) return offer;
  const auto& idr = hardware.smmu.idr;
  const bool stage2 = bits(idr[0], 0, 0) != 0;
  const bool stage1 = bits(idr[0], 1, 1) != 0;
  offer.possible = stage1 && stage2;
  offer.coherent = bits(idr[0], 4, 4) != 0;
  offer.ats = bits(idr[0], 10, 10) != 0 &&
              (hardware.capabilities & uapi::kIommuHwCapPciAtsNotSupported) == 0;
  offer.two_level_contexts = bits(idr[0], 19, 19) != 0;
  offer.stalls = bits(idr[0], 25, 24) != 1;
  offer.sid_bits = std::min(bits(idr[1], 5, 0), 32U);
  offer.ssid_bits = std::min({bits(idr[1], 10, 6), std::uint32_t{hardware.max_pasid_log2}, 20U});
  offer.ranges = bits(idr[3], 10, 10) != 0;
  // 52 bits need 64 KiB pages and fields that the virtual SMMU does not have.
  constexpr std::array<unsigned, 6> kOas = {32, 36, 40, 42, 44, 48};
  const std::uint32_t oas = bits(idr[5], 2, 0);
  offer.oas_bits = kOas[std::min<std::size_t>(oas, kOas.size() - 1)];
  offer.granule_4k = bits(idr[5], 4, 4) != 0;
  offer.granule_16k = bits(idr[5], 5, 5) != 0;
  offer.granule_64k = bits(idr[5], 6, 6) != 0;
  return offer;
}

Offer common(const Offer& a, const Offer& b) noexcept {
  Offer c;
  c.possible = a.possible && b.possible;
  c.sid_bits = std::min(a.sid_bits, b.sid_bits);
  c.ssid_bits = std::min(a.ssid_bits, b.ssid_bits);
  c.oas_bits = std::min(a.oas_bits, b.oas_bits);
  c.granule_4k = a.granule_4k && b.granule_4k;
  c.granule_16k = a.granule_16k && b.granule_16k;
  c.granule_64k = a.granule_64k && b.granule_64k;
  c.ranges = a.ranges && b.ranges;
  // A device without ATS ignores what is said about its cache.
  c.ats = a.ats || b.ats;
  c.stalls = a.stalls && b.stalls;
  c.two_level_contexts = a.two_level_contexts && b.two_level_contexts;
  c.coherent = a.coherent && b.coherent;
  return c;
}

}  // namespace faultline::iommufd
