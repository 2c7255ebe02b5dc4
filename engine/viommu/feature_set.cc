// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/feature_set.h"

#include <string>

namespace faultline::viommu {

namespace {

// Linux refuses a command queue with 64 entries or less: its bitmap of owners needs more
// (arm_smmu_device_hw_probe(), "command queue size <= %d entries not supported").
constexpr unsigned kMinQueueLog2 = 7;

/// IDR5.OAS, or -1.
int encode_oas(unsigned bits) noexcept {
  switch (bits) {
    case 32:
      return 0;
    case 36:
      return 1;
    case 40:
      return 2;
    case 42:
      return 3;
    case 44:
      return 4;
    case 48:
      return 5;
    default:
      return -1;
  }
}

constexpr std::uint32_t flag(bool set, unsigned bit) noexcept {
  return static_cast<std::uint32_t>(set) << bit;
}

Result<void> check_queue(const char* name, unsigned log2) {
  if (log2 >= kMinQueueLog2 && log2 <= queue::kMaxLog2Size) return {};
  return fail(0, std::string(name) + " of 2^" + std::to_string(log2) +
                     " entries: choose a log2 size from " + std::to_string(kMinQueueLog2) + " to " +
                     std::to_string(queue::kMaxLog2Size));
}

}  // namespace

Result<Features> negotiate(const Features& wanted, const SinkCaps& caps) {
  if (auto ok = check_queue("a command queue", wanted.cmdq_log2); !ok) {
    return tl::unexpected(ok.error());
  }
  if (auto ok = check_queue("an event queue", wanted.evtq_log2); !ok) {
    return tl::unexpected(ok.error());
  }
  if (wanted.sid_bits > 32) return fail(0, "StreamIDs have at most 32 bits");
  if (wanted.ssid_bits > 20) return fail(0, "SubstreamIDs have at most 20 bits");
  if (encode_oas(wanted.oas_bits) < 0) {
    return fail(0, "output address size of " + std::to_string(wanted.oas_bits) +
                       " bits: choose 32, 36, 40, 42, 44 or 48");
  }
  if (!wanted.granule_4k && !wanted.granule_16k && !wanted.granule_64k) {
    return fail(0, "no translation granule: offer at least one of 4K, 16K, 64K");
  }
  Features features = wanted;
  features.ats = wanted.ats && caps.atc;
  features.pri = wanted.pri && features.ats;
  return features;
}

IdRegisters id_registers(const Features& f) noexcept {
  IdRegisters ids;
  constexpr std::uint32_t kS1p = 1U << 1;
  constexpr std::uint32_t kTtfAarch64 = 2U << 2;
  constexpr std::uint32_t kAsid16 = 1U << 12;
  constexpr std::uint32_t kLittleEndian = 2U << 21;
  constexpr std::uint32_t kNoStall = 1U << 24;
  constexpr std::uint32_t kTermModel = 1U << 26;
  ids.idr[0] = kS1p | kTtfAarch64 | flag(f.coherent, 4) | flag(f.ats, 10) | kAsid16 |
               flag(f.msi, 13) | flag(f.pri, 16) |
               flag(f.ssid_bits != 0 && f.two_level_contexts, 19) | kLittleEndian |
               (f.stalls ? 0 : kNoStall) | kTermModel | flag(f.two_level_streams, 27);
  ids.idr[1] = f.sid_bits | f.ssid_bits << 6 | f.evtq_log2 << 16 | f.cmdq_log2 << 21 |
               (f.pri ? f.evtq_log2 << 11 : 0);
  constexpr std::uint32_t kHad = 1U << 2;
  ids.idr[3] = kHad | flag(f.ranges, 10);
  ids.idr[5] = static_cast<std::uint32_t>(encode_oas(f.oas_bits)) | flag(f.granule_4k, 4) |
               flag(f.granule_16k, 5) | flag(f.granule_64k, 6);
  // AIDR: SMMUv3.0 to 3.2 are 0, 1, 2. RIL came with 3.2. IIDR 0: no implementer claims it, so no
  // driver applies the errata of one.
  ids.aidr = f.ranges ? 2 : 0;
  return ids;
}

void reset_registers(const RegisterPage& page, const IdRegisters& ids) noexcept {
  auto* words = reinterpret_cast<std::uint32_t*>(&page.at(Reg32::kIdr0));
  for (std::size_t i = 0; i < kRegisterBytes / sizeof(std::uint32_t); ++i) {
    store_relaxed(words[i], std::uint32_t{0});
  }
  for (std::size_t i = 0; i < 6; ++i) store_relaxed(words[i], ids.idr[i]);
  page.store(Reg32::kIidr, ids.iidr);
  page.release(Reg32::kAidr, ids.aidr);
}

}  // namespace faultline::viommu
