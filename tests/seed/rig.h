// SPDX-License-Identifier: BSD-3-Clause
// What every test of the seed's interface needs: open files, guest memory, stage-1 tables, DMA.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "kernel/soft/dma_bar.h"
#include "kernel/uapi/fault_abi2.h"
#include "kernel/uapi/vfio_nested.h"
#include "tests/seed/kernel_under_test.h"

namespace faultline::seed {

/// A region as GET_REGION_INFO tells it, capability chain included.
struct Region {
  uapi::vfio_region_info info{};
  std::vector<unsigned char> bytes;  ///< the whole answer

  /// The capability with this id, or null.
  template <class Cap>
  [[nodiscard]] const Cap* find(std::uint16_t id) const {
    for (std::uint32_t at = info.cap_offset, hops = 0; at != 0 && hops < 16; ++hops) {
      if (at + sizeof(uapi::vfio_info_cap_header) > bytes.size()) return nullptr;
      const auto* header = reinterpret_cast<const uapi::vfio_info_cap_header*>(&bytes[at]);
      if (header->id == id) return reinterpret_cast<const Cap*>(header);
      at = header->next;
    }
    return nullptr;
  }
};

/// One word of guest memory, which devices read and write at the same time.
class Word {
 public:
  explicit Word(unsigned char* at) noexcept : at_(reinterpret_cast<std::uint64_t*>(at)) {}
  // NOLINTNEXTLINE(misc-unconventional-assign-operator): it assigns to the memory
  void operator=(std::uint64_t value) const noexcept { store_release(*at_, value); }
  // NOLINTNEXTLINE(google-explicit-constructor): it stands for the value
  operator std::uint64_t() const noexcept { return load_acquire(*at_); }

 private:
  std::uint64_t* at_;
};

/// One guest with one container over the kernel under test.
class Rig {
 public:
  static constexpr std::uint64_t kRamGpa = 0x4000'0000;
  static constexpr std::size_t kRamSize = 4U << 20U;
  static constexpr std::uint16_t kAsid = 5;

  explicit Rig(const KernelOptions& options = {}) : kernel_(options), sys_(kernel_.sys()) {
    memfd_ = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    EXPECT_EQ(ftruncate(memfd_, kRamSize), 0);
    const std::intptr_t at =
        sys_.mmap(nullptr, kRamSize, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_, 0);
    EXPECT_FALSE(mmap_failed(at));
    ram_ = reinterpret_cast<unsigned char*>(at);
    container_ = sys_.open("/dev/vfio/vfio", O_RDWR);
    EXPECT_GE(container_, 0);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  ~Rig() {
    for (int fd : {device_, group_, container_}) {
      if (fd >= 0) sys_.close(fd);
    }
    if (bar_ != nullptr) sys_.munmap(bar_, soft::kDmaBarSize);
    sys_.munmap(ram_, kRamSize);
    ::close(memfd_);
  }

  // ---- the steps of a session
  // --------------------------------------------------------------------

  void attach_group() {
    const std::string path = "/dev/vfio/" + std::to_string(KernelUnderTest::kGroup[0]);
    group_ = sys_.open(path.c_str(), O_RDWR);
    ASSERT_GE(group_, 0);
    ASSERT_EQ(sys_.ioctl(group_, uapi::kVfioGroupSetContainer, &container_), 0);
  }
  int set_iommu(unsigned type = uapi::kVfioType1NestingIommu) {
    return sys_.ioctl(container_, uapi::kVfioSetIommu, number(type));
  }
  void open_device() {
    device_ = sys_.ioctl(group_, uapi::kVfioGroupGetDeviceFd,
                         const_cast<char*>(KernelUnderTest::kDeviceName[0]));
    ASSERT_GE(device_, 0);
    const auto bar = region(0);
    ASSERT_TRUE(bar);
    const std::intptr_t at = sys_.mmap(nullptr, soft::kDmaBarSize, PROT_READ | PROT_WRITE,
                                       MAP_SHARED, device_, static_cast<off_t>(bar->info.offset));
    ASSERT_FALSE(mmap_failed(at));
    bar_ = reinterpret_cast<void*>(at);
    dma_.emplace(bar_);
  }
  int map_ram() {
    uapi::vfio_iommu_type1_dma_map map{
        .argsz = sizeof map,
        .flags = uapi::kVfioDmaMapFlagRead | uapi::kVfioDmaMapFlagWrite,
        .vaddr = reinterpret_cast<std::uint64_t>(ram_),
        .iova = kRamGpa,
        .size = kRamSize};
    return sys_.ioctl(container_, uapi::kVfioIommuMapDma, &map);
  }
  /// Everything up to stage 2 and an open device.
  void start() {
    attach_group();
    ASSERT_EQ(set_iommu(), 0);
    ASSERT_EQ(map_ram(), 0);
    open_device();
  }
  /// start(), and stage 1 bound to an (empty) address space of ASID kAsid.
  void start_nested() {
    start();
    build_stage1();
    ASSERT_EQ(bind(uapi::kIommuPasidConfigTranslate), 0);
  }
  /// start_nested(), and fault ABI `version` chosen.
  void start_with_faults(std::uint32_t version = 1) {
    start_nested();
    find_fault_regions();
    ASSERT_EQ(choose_abi(version), static_cast<ssize_t>(sizeof version));
  }

  // ---- stage 1
  // -------------------------------------------------------------------------------------

  uapi::vfio_iommu_type1_attach_pasid_table binding(std::uint8_t config) const {
    uapi::vfio_iommu_type1_attach_pasid_table bind{};
    bind.argsz = sizeof bind;
    bind.config.version = uapi::kPasidTableCfgVersion1;
    bind.config.format = uapi::kIommuPasidFormatSmmuv3;
    bind.config.base_ptr = kRamGpa + kCd;
    bind.config.config = config;
    bind.config.smmuv3.version = uapi::kPasidTableSmmuv3CfgVersion1;
    return bind;
  }
  int bind(std::uint8_t config) {
    auto argument = binding(config);
    return sys_.ioctl(container_, uapi::kVfioIommuBindPasidTable, &argument);
  }
  void build_stage1(std::uint16_t asid = kAsid) {
    next_table_ = kRoot + 4096;
    const std::uint64_t cd[8] = {16U | (1ULL << 30U) | (1ULL << 31U) | (5ULL << 32U) |
                                     (1ULL << 41U) | (1ULL << 45U) | (1ULL << 46U) | (1ULL << 47U) |
                                     (std::uint64_t{asid} << 48U),
                                 kRamGpa + kRoot,
                                 0,
                                 0,
                                 0,
                                 0,
                                 0,
                                 0};
    for (std::size_t i = 0; i < 8; ++i) word(kCd + i * 8) = cd[i];
  }
  static constexpr std::uint64_t kReadOnly = 1U << 7U;
  static constexpr std::uint64_t kGlobal = 1ULL << 62U;  ///< ours, not the architecture's
  /// Map one page of IOVAs to a page of RAM in the guest's tables; target 0 unmaps.
  void map_page(std::uint64_t iova, std::uint64_t gpa, std::uint64_t flags = 0) {
    std::uint64_t table = kRoot;
    for (unsigned level = 0; level < 3; ++level) {
      const Word entry = word(table + ((iova >> (39 - 9 * level)) & 511U) * 8);
      if (entry == 0) {
        entry = (kRamGpa + next_table_) | 3U;
        next_table_ += 4096;
      }
      table = (entry & 0x0000'ffff'ffff'f000U) - kRamGpa;
    }
    const bool global = (flags & kGlobal) != 0;
    const std::uint64_t leaf = gpa | (flags & ~kGlobal) | 3U | (1U << 6U) | (3U << 8U) |
                               (1U << 10U) | (global ? 0U : 1U << 11U);
    word(table + ((iova >> 12U) & 511U) * 8) = gpa == 0 ? std::uint64_t{0} : leaf;
  }

  // ---- invalidation
  // --------------------------------------------------------------------------------

  int invalidate(std::uint8_t cache, std::uint8_t granularity, std::uint64_t asid,
                 std::uint64_t addr = 0, std::uint64_t pages = 0, std::uint32_t flags = 0) {
    uapi::vfio_iommu_type1_cache_invalidate inv{};
    inv.argsz = sizeof inv;
    inv.info.version = uapi::kIommuCacheInvalidateInfoVersion1;
    inv.info.cache = cache;
    inv.info.granularity = granularity;
    if (granularity == uapi::kIommuInvGranuAddr) {
      // The devices of this suite use no substreams, so their own cache has none either.
      const bool tagged = cache != uapi::kIommuCacheInvTypeDevIotlb;
      inv.info.addr_info = {.flags = (tagged ? uapi::kIommuInvAddrFlagsPasid : 0U) | flags,
                            .archid = 0,
                            .pasid = asid,
                            .addr = addr,
                            .granule_size = 4096,
                            .nb_granules = pages};
    } else {
      inv.info.pasid = asid;
    }
    return sys_.ioctl(container_, uapi::kVfioIommuCacheInvalidate, &inv);
  }
  int invalidate_asid(std::uint16_t asid = kAsid) {
    return invalidate(uapi::kIommuCacheInvTypeIotlb, uapi::kIommuInvGranuPasid, asid);
  }

  // ---- DMA
  // -----------------------------------------------------------------------------------------

  void issue(const soft::DmaRequest& request) {
    ASSERT_TRUE(dma_->submit(request));
    dma_->ring();
  }
  soft::DmaCompletion completed() {
    soft::DmaCompletion done{};
    for (int tries = 0; tries < 100 && dma_->complete({&done, 1}) == 0; ++tries) {
      dma_->wait(100'000'000);
    }
    return done;
  }
  soft::DmaCompletion access(std::uint64_t iova, bool write = false, std::uint64_t value = 0) {
    soft::DmaRequest request;
    request.iova = iova;
    request.value = value;
    request.flags = write ? soft::DmaRequest::kWrite : std::uint8_t{0};
    issue(request);
    return completed();
  }
  soft::DmaStatus read_status(std::uint64_t iova) { return access(iova).status; }

  // ---- fault regions
  // ---------------------------------------------------------------------------------

  std::optional<Region> region(std::uint32_t index) {
    Region out;
    out.bytes.resize(sizeof out.info);
    for (int pass = 0; pass < 2; ++pass) {
      uapi::vfio_region_info ask{};
      ask.argsz = static_cast<std::uint32_t>(out.bytes.size());
      ask.index = index;
      std::memcpy(out.bytes.data(), &ask, sizeof ask);
      if (sys_.ioctl(device_, uapi::kVfioDeviceGetRegionInfo, out.bytes.data()) != 0) return {};
      std::memcpy(&out.info, out.bytes.data(), sizeof out.info);
      if (out.info.argsz <= out.bytes.size()) break;
      out.bytes.resize(out.info.argsz);
    }
    return out;
  }
  std::optional<Region> region(std::uint32_t type, std::uint32_t subtype) {
    uapi::vfio_device_info info{};
    info.argsz = sizeof info;
    if (sys_.ioctl(device_, uapi::kVfioDeviceGetInfo, &info) != 0) return {};
    for (std::uint32_t i = uapi::kVfioPciNumRegions; i < info.num_regions; ++i) {
      auto found = region(i);
      if (!found) continue;
      const auto* cap = found->find<uapi::vfio_region_info_cap_type>(uapi::kVfioRegionInfoCapType);
      if (cap != nullptr && cap->type == type && cap->subtype == subtype) return found;
    }
    return {};
  }
  void find_fault_regions() {
    prod_ = region(uapi::kVfioRegionTypeNested, uapi::kVfioRegionSubtypeNestedFaultProd);
    cons_ = region(uapi::kVfioRegionTypeNested, uapi::kVfioRegionSubtypeNestedFaultCons);
    ASSERT_TRUE(prod_);
    ASSERT_TRUE(cons_);
  }
  ssize_t choose_abi(std::uint32_t version) {
    return sys_.pwrite(device_, &version, sizeof version, at(*cons_, 0));
  }
  ssize_t write_cons(std::uint32_t cons) {
    return sys_.pwrite(device_, &cons, sizeof cons, at(*cons_, 4));
  }
  ssize_t read_header(uapi::vfio_region_fault_prod& header) {
    return sys_.pread(device_, &header, sizeof header, at(*prod_, 0));
  }
  uapi::vfio_region_fault_prod header() {
    uapi::vfio_region_fault_prod out{};
    EXPECT_EQ(read_header(out), static_cast<ssize_t>(sizeof out));
    return out;
  }
  /// Map part of the producer region read-only; null when refused.
  const unsigned char* map_producer(std::uint64_t offset, std::size_t size, int prot = PROT_READ) {
    const std::intptr_t mapped =
        sys_.mmap(nullptr, size, prot, MAP_SHARED, device_, at(*prod_, offset));
    return mmap_failed(mapped) ? nullptr : reinterpret_cast<const unsigned char*>(mapped);
  }
  /// Raise one fault: a read of an address that stage 1 does not map.
  void fault(std::uint64_t iova) { EXPECT_EQ(read_status(iova), soft::DmaStatus::kFaulted); }

  static off_t at(const Region& region, std::uint64_t offset) {
    return static_cast<off_t>(region.info.offset + offset);
  }
  static void* number(unsigned long value) { return reinterpret_cast<void*>(value); }

  Word word(std::uint64_t offset) { return Word(ram_ + offset); }
  /// GPA of data page i, and its first word.
  static std::uint64_t page_gpa(unsigned i) { return kRamGpa + kData + i * 4096ULL; }
  Word page(unsigned i) { return word(kData + i * 4096ULL); }

  KernelUnderTest kernel_;
  Sys& sys_;
  int memfd_ = -1;
  int container_ = -1;
  int group_ = -1;
  int device_ = -1;
  unsigned char* ram_ = nullptr;
  void* bar_ = nullptr;
  std::optional<soft::DmaClient> dma_;
  std::optional<Region> prod_;
  std::optional<Region> cons_;

 private:
  static constexpr std::uint64_t kCd = 0x1000;
  static constexpr std::uint64_t kRoot = 0x2000;
  static constexpr std::uint64_t kData = 2U << 20U;
  std::uint64_t next_table_ = 0;
};

}  // namespace faultline::seed
