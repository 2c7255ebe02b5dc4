// SPDX-License-Identifier: BSD-3-Clause
// Calls of another process on the soft kernel's files: any request, any argument, any order. The
// kernel survives, answers as a kernel does, and its own answers pass our own checks.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <vector>

#include "kernel/soft/remote_call.h"
#include "kernel/soft/soft_kernel.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/capability_chain.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

using soft::FilePtr;

constexpr unsigned long kRequests[] = {
    uapi::kVfioGetApiVersion,
    uapi::kVfioCheckExtension,
    uapi::kVfioSetIommu,
    uapi::kVfioGroupGetStatus,
    uapi::kVfioGroupSetContainer,
    uapi::kVfioGroupUnsetContainer,
    uapi::kVfioGroupGetDeviceFd,
    uapi::kVfioDeviceGetInfo,
    uapi::kVfioDeviceGetRegionInfo,
    uapi::kVfioDeviceGetIrqInfo,
    uapi::kVfioDeviceSetIrqs,
    uapi::kVfioDeviceReset,
    uapi::kVfioIommuGetInfo,
    uapi::kVfioIommuMapDma,
    uapi::kVfioIommuUnmapDma,
    uapi::kVfioIommuAttachPasidTable,
    uapi::kVfioIommuDetachPasidTable,
    uapi::kVfioIommuCacheInvalidate,
    uapi::kVfioIommuBindMsi,
    uapi::kVfioIommuUnbindMsi,
};
constexpr std::uint64_t kIova = 0x4000'0000;
constexpr std::size_t kMemory = 0x4000;

class Run {
 public:
  explicit Run(Input& in) : in_(in) {
    soft::SoftKernelConfig config;
    config.devices = {{"0000:00:01.0", 1, 0x10, in.flag() ? 8U : 0U}};
    config.max_fault_abi = in.flag() ? 2 : 1;
    const std::uint8_t how = in.byte();
    config.quirks_v7 = (how & 1) != 0;
    config.fail_invalidation_every = how >> 6;
    config.ledger_entries = 16;
    config.tlb_sets = config.walk_sets = config.config_sets = 2;
    config.clock = [] { return Nanos{1}; };
    kernel_ = std::move(*soft::SoftKernel::create(config));
    memfd_ = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    eventfd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ftruncate(memfd_, kMemory) != 0) std::abort();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    files_.clear();
    close(memfd_);
    close(eventfd_);
  }

  void run() {
    if (in_.flag()) set_up();
    for (int steps = 0; steps < 40 && !in_.empty(); ++steps) step();
  }

 private:
  /// A device with its group in a nesting container and memory behind it.
  void set_up() {
    open("/dev/vfio/vfio");
    open("/dev/vfio/1");
    const std::int32_t fd = 0;
    call(1, uapi::kVfioGroupSetContainer, 0, &fd, sizeof fd, 0);
    call(0, uapi::kVfioSetIommu, uapi::kVfioType1NestingIommu, nullptr, 0);
    const char name[] = "0000:00:01.0";
    call(1, uapi::kVfioGroupGetDeviceFd, 0, name, sizeof name);
    const uapi::vfio_iommu_type1_dma_map map{sizeof map, 3, 0x1000, kIova, kMemory};
    call(0, uapi::kVfioIommuMapDma, 0, &map, sizeof map);
    hold(files_.size() == 3, "the usual way does not work");
  }

  void open(const char* path) {
    FilePtr file;
    if (kernel_->open(path, file) == 0) files_.push_back(file);
  }

  /// One ioctl as the kernel process takes it. `other`: which open file goes along as a descriptor.
  int call(std::size_t file, unsigned long request, std::uint64_t value, const void* argument,
           std::size_t size, std::size_t other = 0) {
    soft::MessageHeader header;
    header.kind = soft::MessageKind::kIoctl;
    header.number = request;
    header.value = value;
    header.size = std::max<std::size_t>(size, in_.u16() % 512);
    std::vector<std::byte> payload(size);
    if (size != 0) std::memcpy(payload.data(), argument, size);
    soft::Descriptors fds;
    const int with = request == uapi::kVfioIommuMapDma ? 1 : in_.byte() % 4;
    if (with == 1) fds.add(dup(memfd_));
    if (with == 2) fds.add(dup(eventfd_));
    if (request == uapi::kVfioGroupSetContainer) fds.add(dup(eventfd_));
    FilePtr installed;
    soft::RemoteCall remote(
        header, std::move(payload), fds,
        [&](int) { return other < files_.size() ? files_[other] : nullptr; },
        [&](const FilePtr& f) {
          installed = f;
          return dup(eventfd_);
        });
    const int result = kernel_->ioctl(files_[file], request, remote);
    hold(result > -4096, "a result that no call has");
    hold(remote.changed().size() <= std::max<std::size_t>(header.size, size),
         "more is written than fits");
    if (installed != nullptr && result >= 0) files_.push_back(installed);
    if (result == 0 && request == uapi::kVfioDeviceGetRegionInfo) check_region(remote.changed());
    return result;
  }

  static void check_region(std::span<const std::byte> answer) {
    uapi::vfio_region_info info;
    hold(answer.size() >= sizeof info, "an answer shorter than its struct");
    std::memcpy(&info, answer.data(), sizeof info);
    // Where it did not fit, argsz says how much it would take, and no chain may be pointed to.
    const auto* bytes = reinterpret_cast<const unsigned char*>(answer.data());
    if (info.argsz > answer.size()) return;
    const auto region = vfio::parse_region_info({bytes, info.argsz});
    hold(region.has_value(), "our kernel's answer is refused by our own checks");
  }

  void fuzzed_ioctl() {
    const std::size_t file = in_.below(files_.size());
    const std::uint8_t which = in_.byte();
    const unsigned long request = which < 4 ? in_.u64() : kRequests[which % std::size(kRequests)];
    std::array<unsigned char, 96> argument{};
    const std::size_t size = in_.flag() ? argument.size() : in_.byte() % argument.size();
    in_.fill(argument.data(), size);
    if (size >= 4 && in_.flag()) {
      const auto argsz = static_cast<std::uint32_t>(size);
      std::memcpy(argument.data(), &argsz, sizeof argsz);
    }
    call(file, request, in_.byte(), argument.data(), size, in_.below(files_.size() + 1));
  }

  /// What a fuzzer would need long to find: requests whose fixed words are right.
  void shaped_ioctl() {
    if (files_.size() < 3) return;
    const std::uint8_t kind = in_.byte() % 4;
    if (kind == 0) {
      uapi::vfio_iommu_type1_cache_invalidate c{};
      c.argsz = sizeof c;
      c.info.version = 1;
      c.info.cache = in_.byte() % 8;
      c.info.granularity = in_.byte() % 4;
      c.info.addr_info = {in_.byte() % 8U, in_.byte(), in_.byte(), 0, 4096, 1};
      if (in_.flag()) c.info.addr_info.granule_size = std::uint64_t{1} << in_.byte() % 64;
      if (in_.flag()) c.info.addr_info.nb_granules = in_.u64();
      if (in_.flag()) c.info.addr_info.addr = in_.u64();
      call(0, uapi::kVfioIommuCacheInvalidate, 0, &c, sizeof c);
    } else if (kind == 1) {
      uapi::vfio_iommu_type1_attach_pasid_table t{};
      t.argsz = sizeof t;
      t.config.version = t.config.format = t.config.smmuv3.version = 1;
      t.config.config = in_.byte() % 4;
      t.config.base_ptr = in_.flag() ? kIova : in_.u64();
      t.config.pasid_bits = in_.flag() ? in_.byte() : 0;
      t.config.smmuv3.s1fmt = in_.byte() % 4;
      t.config.smmuv3.s1dss = in_.byte() % 4;
      call(0, uapi::kVfioIommuAttachPasidTable, 0, &t, sizeof t);
    } else if (kind == 2) {
      uapi::vfio_region_info r{};
      r.argsz = 256;
      r.index = in_.byte() % 12;
      std::array<unsigned char, 256> bytes{};
      std::memcpy(bytes.data(), &r, sizeof r);
      call(2, uapi::kVfioDeviceGetRegionInfo, 0, bytes.data(), bytes.size());
    } else {
      struct {
        uapi::vfio_irq_set set;
        std::int32_t fd;
      } s{{sizeof s, in_.byte(), in_.byte() % 8U == 7 ? 0U : 5U, 0, in_.byte() % 3U}, 0};
      s.fd = static_cast<std::int32_t>(in_.byte() % 4) - 2;
      call(2, uapi::kVfioDeviceSetIrqs, 0, &s, sizeof s);
    }
  }

  void read_write_map() {
    const FilePtr& file = files_[in_.below(files_.size())];
    const off_t at =
        in_.flag() ? static_cast<off_t>(in_.u64()) : (off_t{in_.byte()} % 12 << 40) + in_.u16();
    std::array<unsigned char, 300> bytes{};
    const std::size_t size = in_.u16() % (bytes.size() + 1);
    switch (in_.byte() % 3) {
      case 0: {
        const ssize_t got = kernel_->pread(file, bytes.data(), size, at);
        hold(got > -4096 && got <= static_cast<ssize_t>(size), "more is read than was asked for");
        break;
      }
      case 1: {
        in_.fill(bytes.data(), std::min<std::size_t>(size, 16));
        const ssize_t put = kernel_->pwrite(file, bytes.data(), size, at);
        hold(put > -4096 && put <= static_cast<ssize_t>(size), "more is written than was given");
        break;
      }
      default: {
        soft::RegionMapping mapping;
        const std::size_t length = in_.flag() ? in_.u64() : 4096 * (in_.byte() % 20U);
        if (kernel_->mmap(file, length, in_.byte() % 4, MAP_SHARED, at, mapping) != 0) break;
        struct stat status {};
        hold(fstat(mapping.fd, &status) == 0 && mapping.at >= 0, "a mapping of nothing");
        const auto pages = (length + 4095) / 4096 * 4096;
        hold(pages >= length && pages <= static_cast<std::size_t>(status.st_size) &&
                 static_cast<std::size_t>(mapping.at) <= status.st_size - pages,
             "a mapping leaves its memory");
        break;
      }
    }
  }

  void step() {
    if (files_.empty()) open("/dev/vfio/vfio");
    switch (in_.byte() % 8) {
      case 0:
        open(in_.flag() ? "/dev/vfio/1" : "/dev/vfio/vfio");
        break;
      case 1:
        if (files_.size() > 1)
          files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(in_.below(files_.size())));
        break;
      case 2: {
        soft::DmaRequest request{};
        in_.fill(&request, std::min<std::size_t>(sizeof request, 40));
        if (in_.flag()) request.iova = kIova + in_.u16();
        (void)kernel_->dma(0, request);
        break;
      }
      case 3:
      case 4:
        read_write_map();
        break;
      case 5:
        shaped_ioctl();
        break;
      default:
        fuzzed_ioctl();
        break;
    }
  }

  Input& in_;
  std::unique_ptr<soft::SoftKernel> kernel_;
  std::vector<FilePtr> files_;
  int memfd_ = -1;
  int eventfd_ = -1;
};

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::Input in(data, size);
  faultline::fuzz::Run(in).run();
  return 0;
}
