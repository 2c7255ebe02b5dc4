// SPDX-License-Identifier: BSD-3-Clause
// A small world around one model IOMMU: host memory, stage 2, one domain with streams, and tables
// that tests write by hand.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "kernel/model/fl_fault.h"
#include "kernel/model/fl_iommu.h"
#include "tests/support/reference_walker.h"

namespace faultline::test {

/// Bits of a page or block descriptor. A page is kLeaf | kPageOrTable.
enum : std::uint64_t {
  kValid = 1U << 0U,
  kPageOrTable = 1U << 1U,
  kUser = 1U << 6U,      // AP[1]
  kReadOnly = 1U << 7U,  // AP[2]
  kAf = 1U << 10U,
  kNonGlobal = 1U << 11U,
  kPxn = 1ULL << 53U,
  kUxn = 1ULL << 54U,
  kPage = kValid | kPageOrTable | kUser | kAf | kNonGlobal,
  kBlock = kValid | kUser | kAf | kNonGlobal,
  kTable = kValid | kPageOrTable,
};

/// What a context descriptor says beside its regime.
struct CdFields {
  Regime regime;
  std::uint16_t asid = 1;
  bool record = true, aset = false;
};

inline std::array<std::uint64_t, 8> encode_cd(const CdFields& f) {
  const auto at = [](std::uint64_t value, unsigned bit) { return value << bit; };
  const auto& r = f.regime;
  std::uint64_t w = at(1, 31) | at(1, 41) | at(1, 46);  // V, AA64, A
  for (unsigned i = 0; i < 2; ++i) {
    const auto& h = r.half.at(i);
    w |= at(h.txsz, 16 * i) | at(h.epd, 14 + 16 * i) | at(h.tbi, 38 + i);
    w |= at(i == 0 ? 0 : 2, 6 + 16 * i);  // 4 KiB, in the encoding of TG0 or TG1
  }
  constexpr std::array<unsigned, 6> kIps = {32, 36, 40, 42, 44, 48};
  for (unsigned i = 0; i < kIps.size(); ++i)
    if (kIps.at(i) == r.ips_bits) w |= at(i, 32);
  w |= at(!r.access_flag_faults, 35) | at(r.wxn, 36) | at(r.pan, 40) | at(f.record, 45);
  w |= at(f.aset, 47) | at(f.asid, 48);
  return {w,
          r.half[0].table | at(r.half[0].hpd, 1),
          r.half[1].table | at(r.half[1].hpd, 1),
          0xff,
          0,
          0,
          0,
          0};
}

class ModelWorld {
 public:
  static constexpr std::uint64_t kHost = 0x7f0000000000;  ///< handle of guest physical 0
  static constexpr std::uint64_t kRam = 1ULL << 32U;      ///< bytes of guest memory at 0
  static constexpr std::uint32_t kSid = 0x42;
  static constexpr std::uint16_t kVmid = 7;
  static constexpr std::uint64_t kCd = 0x1000;  ///< where the first context descriptor is

  /// sets   of each cache; 0: the IOMMU caches nothing
  explicit ModelWorld(std::uint32_t sets = 64, std::uint16_t vmid = kVmid)
      : tlb_(sets), walks_(sets), configs_(sets), maps_(64), doorbells_(8) {
    const fl_mem mem{.read64 = &ModelWorld::read64, .ctx = this};
    const fl_iommu_memory memory{.tlb_sets = tlb_.data(),
                                 .walk_sets = walks_.data(),
                                 .config_sets = configs_.data(),
                                 .nr_tlb_sets = sets,
                                 .nr_walk_sets = sets,
                                 .nr_config_sets = sets};
    EXPECT_EQ(0, fl_iommu_init(&iommu, &mem, &memory));
    domain.vmid = vmid;
    fl_stage2_init(&domain.s2, maps_.data(), 64, doorbells_.data(), 8);
    stream.sid = kSid;
    stream.domain = &domain;
  }
  ModelWorld(const ModelWorld&) = delete;
  ModelWorld& operator=(const ModelWorld&) = delete;

  /// Map all RAM at stage 2.
  void map_ram() {
    EXPECT_EQ(0, fl_stage2_map(&domain.s2, 0, kRam, kHost, FL_PROT_READ | FL_PROT_WRITE));
  }

  void write(std::uint64_t ipa, std::uint64_t value) { words[ipa + kHost] = value; }
  std::uint64_t read(std::uint64_t ipa) { return words[ipa + kHost]; }

  std::uint64_t alloc_page() { return next_page_ += 0x1000; }

  void write_cd(std::uint64_t ipa, const CdFields& f) {
    const auto raw = encode_cd(f);
    for (unsigned i = 0; i < raw.size(); ++i) write(ipa + 8 * i, raw.at(i));
  }

  /// Write `descriptor` where the level-`level` entry of `va` is, making tables on the way.
  ///
  /// returns  IPA of the entry
  std::uint64_t put(const Regime::Half& half, std::uint64_t va, unsigned level,
                    std::uint64_t descriptor) {
    const unsigned region = 64 - half.txsz;
    unsigned at = 3 - (region - 12 - 1) / 9;
    std::uint64_t table = half.table;
    for (;; ++at) {
      const unsigned shift = 39 - 9 * at;
      const std::uint64_t offset = va & ((1ULL << region) - 1);
      const std::uint64_t entry = table + 8 * ((offset >> shift) & 511U);
      if (at == level) {
        write(entry, descriptor);
        return entry;
      }
      std::uint64_t next = read(entry);
      if ((next & kTable) != kTable) write(entry, next = alloc_page() | kTable);
      table = next & 0xfffffffff000;
    }
  }

  /// Stream with one CD at kCd: low half with T0SZ 16 at a fresh page, high half disabled.
  CdFields simple_cd(std::uint16_t asid = 1) {
    CdFields f;
    f.asid = asid;
    f.regime.half[0].table = alloc_page();
    f.regime.half[1].epd = true;
    return f;
  }
  CdFields attach_simple(std::uint16_t asid = 1) {
    const CdFields f = simple_cd(asid);
    write_cd(kCd, f);
    attach({.base_ptr = kCd, .mode = FL_S1_TRANSLATE, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
    return f;
  }
  void attach(const fl_s1_config& s1) { EXPECT_EQ(0, fl_stream_set_s1(&iommu, &stream, &s1)); }

  fl_outcome go(std::uint64_t iova, std::uint8_t access = 0,
                std::optional<std::uint32_t> ssid = {}) {
    const fl_request req{
        .iova = iova, .ssid = ssid.value_or(0), .ssv = ssid.has_value(), .access = access};
    result = {};
    event = {};
    return fl_translate(&iommu, &stream, &req, &result, &event);
  }
  /// Guest physical address that a read of `iova` reaches; nullopt when it does not.
  std::optional<std::uint64_t> reach(std::uint64_t iova, std::optional<std::uint32_t> ssid = {}) {
    if (go(iova, FL_ACCESS_READ, ssid) != FL_TRANSLATED) return std::nullopt;
    return result.host - kHost;
  }

  fl_iommu iommu{};
  fl_domain domain{};
  fl_stream stream{};
  fl_result result{};
  fl_event event{};
  std::map<std::uint64_t, std::uint64_t> words;  ///< by host handle; absent ones read as 0
  std::set<std::uint64_t> broken;                ///< host pages whose reads abort
  std::uint64_t reads = 0;

 private:
  static int read64(void* ctx, std::uint64_t host, std::uint64_t* value) {
    auto* w = static_cast<ModelWorld*>(ctx);
    ++w->reads;
    EXPECT_EQ(0U, host % 8);
    if (w->broken.contains(host & ~0xfffULL)) return -FL_EFAULT;
    const auto it = w->words.find(host);
    *value = it == w->words.end() ? 0 : it->second;
    return 0;
  }

  std::vector<fl_tlb_set> tlb_;
  std::vector<fl_walk_set> walks_;
  std::vector<fl_config_set> configs_;
  std::vector<fl_s2_map> maps_, doorbells_;
  std::uint64_t next_page_ = 0x100000;
};

}  // namespace faultline::test
