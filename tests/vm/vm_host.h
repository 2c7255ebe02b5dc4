// SPDX-License-Identifier: BSD-3-Clause
// What outlives an engine: guest memory, the host's iommufd objects, the devices, the guest's
// driver with its tables.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/guest/commands.h"
#include "apps/guest/memory.h"
#include "apps/guest/observation.h"
#include "apps/guest/page_table.h"
#include "apps/guest/registers.h"
#include "apps/guest/smmu_driver.h"
#include "apps/guest/stream_table.h"
#include "engine/guest_spec.h"
#include "engine/journal.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "kernel/iommufd/guest_iommu.h"
#include "kernel/iommufd/sink.h"
#include "kernel/sys.h"
#include "tests/vm/edu.h"

namespace faultline::vm {

inline constexpr std::size_t kDevices = 8;
inline constexpr Iova kIova{0x1234'5000};
/// What no DMA writes: the devices' buffers hold zeros.
inline constexpr std::uint32_t kUntouched = 0xa5a5'a5a5;

struct HostOptions {
  std::uint32_t event_depth = 4096;  ///< of the vEVENTQ
  unsigned evtq_log2 = 10;           ///< of the guest's event queue
};

/// One device as the guest's driver knows it.
struct GuestDevice {
  StreamId sid;
  std::uint16_t asid = 0;
  std::unique_ptr<guest::PageTable> table;
  Gpa context;
  Gpa page;   ///< where kIova leads at first
  Gpa other;  ///< another page
};

/// Sys   LinuxSys, or one that looks at the calls on their way
template <Syscalls Sys>
class Host {
 public:
  static constexpr std::uint64_t kRam = 0x4000'0000;
  static constexpr std::size_t kRamBytes = 32U << 20U;
  static constexpr std::uint64_t kRegisters = 0x1000'0000;
  static constexpr std::uint32_t kFirstSid = 0x120;

  explicit Host(const HostOptions& options = {}) : seen_(1U << 14U) {
    // Shared, so that engines in processes of their own work on the same guest.
    ram_fd_ = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ram_fd_ < 0 || ftruncate(ram_fd_, kRamBytes) != 0 ||
        fcntl(ram_fd_, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
      std::abort();
    }
    ram_ = map(kRamBytes, ram_fd_);
    registers_ = map(viommu::kRegisterBytes, -1);
    memory_.emplace(Gpa{kRam}, ram_, kRamBytes);
    spec.name = "vm";
    spec.registers = Gpa{kRegisters};
    spec.memory = {{Gpa{kRam}, kRamBytes, ram_, ram_fd_},
                   {Gpa{kRegisters}, viommu::kRegisterBytes, registers_, -1}};
    iommufd::Parts parts;
    for (std::size_t i = 0; i < kDevices; ++i) {
      const std::string name = pci_name(i);
      const StreamId sid{kFirstSid + static_cast<std::uint32_t>(i)};
      parts.devices.push_back({.name = name, .vsid = sid});
      spec.devices.push_back({name, sid});
    }
    const iommufd::GuestRange range{Gpa{kRam}, kRamBytes, nullptr, ram_fd_, 0};
    auto made = iommufd::GuestIommu<Sys>::make(sys, std::move(parts), std::span(&range, 1),
                                               {.event_depth = options.event_depth});
    if (!made) {
      error_ = made.error().message();
      return;
    }
    iommu = std::move(*made);
    for (std::size_t i = 0; i < kDevices; ++i) {
      auto edu = Edu::open(iommu->device(i).fd(), pci_name(i));
      if (!edu) {
        error_ = edu.error().message();
        return;
      }
      edus.push_back(std::move(*edu));
    }
    engine_memory.emplace(*viommu::GuestMemory::make(spec.memory));
    page = *viommu::RegisterPage::map(*engine_memory, spec.registers);
    const iommufd::Offer& offer = iommu->offer();
    viommu::Features wanted;
    wanted.sid_bits = 12;
    wanted.oas_bits = offer.oas_bits;
    wanted.ranges = offer.ranges;
    features = *viommu::negotiate(wanted, iommufd::Sink<Sys>(*iommu).caps());
    viommu::reset_registers(page, viommu::id_registers(features));
    journal.emplace(*engine::Journal::create("vm", kDevices, 1));
    guest::DriverOptions driver_options;
    driver_options.event_log2size = options.evtq_log2;
    // A hang is for whoever runs the machine to end: there is no time here to be asserted.
    driver_options.timeout_ns = 600'000'000'000;
    driver.emplace(*memory_, guest::Registers(registers_), seen_, driver_options);
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  ~Host() {
    edus.clear();
    iommu.reset();
    engine_memory.reset();
    munmap(ram_, kRamBytes);
    munmap(registers_, viommu::kRegisterBytes);
    close(ram_fd_);
  }

  /// Why it could not be made; empty: it was.
  [[nodiscard]] const std::string& error() const { return error_; }

  /// Tables of every device, kIova mapped in each. For after the driver's probe; the caller makes
  /// the stream table known.
  void make_tables() {
    for (std::size_t i = 0; i < kDevices; ++i) {
      GuestDevice d;
      d.sid = spec.devices[i].vsid;
      d.asid = static_cast<std::uint16_t>(0x11 + i);
      d.table = std::make_unique<guest::PageTable>(*memory_, 39);
      d.context = memory_->allocate(64, 64);
      d.page = memory_->allocate(kPage4K);
      d.other = memory_->allocate(kPage4K);
      d.table->map(kIova, d.page, guest::Leaf::kReadWrite);
      guest::write_context_descriptor(*memory_, d.context, *d.table, d.asid);
      driver->streams().translate(d.sid, d.context);
      devices.push_back(std::move(d));
    }
  }

  /// One DMA of every device that has a request, side by side.
  struct Dma {
    std::size_t device = 0;
    Iova iova = kIova;
    bool write = true;
    std::uint64_t bytes = 4;
  };
  /// idle   called while the devices work
  template <class Idle>
  void dma(const std::vector<Dma>& requests, Idle idle) {
    for (const Dma& r : requests) edus[r.device].start(r.iova.value, r.bytes, r.write);
    for (const Dma& r : requests) {
      while (edus[r.device].busy()) idle();
    }
  }

  /// Forget what DMA wrote to a page of the guest.
  void clean(Gpa at) { store_relaxed(memory_->at<std::uint32_t>(at), kUntouched); }
  [[nodiscard]] bool written(Gpa at) const {
    return load_acquire(memory_->at<std::uint32_t>(at)) != kUntouched;
  }

  /// Read the guest's event queue as its interrupt handler does.
  void read_events() {
    driver->events().handle(1U << 12U, [](const guest::Observation&) {});
    guest::Observation o;
    while (seen_.pop(o)) {
      if (o.kind == guest::Observation::Kind::kEvent) events.push_back(o);
      if (o.kind == guest::Observation::Kind::kOverflowSeen) ++overflows;
    }
  }

  [[nodiscard]] guest::GuestMemory& memory() { return *memory_; }
  static std::string pci_name(std::size_t i) {
    constexpr char kDigits[] = "0123456789abcdef";
    return std::string("0000:00:0") + kDigits[3 + i] + ".0";
  }

  Sys sys;
  std::unique_ptr<iommufd::GuestIommu<Sys>> iommu;
  std::vector<Edu> edus;
  engine::GuestSpec spec;
  std::optional<viommu::GuestMemory> engine_memory;
  viommu::RegisterPage page;
  viommu::Features features;
  std::optional<engine::Journal> journal;
  std::optional<guest::SmmuDriver> driver;
  std::vector<GuestDevice> devices;
  std::vector<guest::Observation> events;  ///< everything that the guest has read
  std::size_t overflows = 0;               ///< that the guest has seen

 private:
  static void* map(std::size_t bytes, int fd) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) std::abort();
    return at;
  }

  guest::ObservationQueue seen_;
  int ram_fd_ = -1;
  void* ram_ = nullptr;
  void* registers_ = nullptr;
  std::optional<guest::GuestMemory> memory_;
  std::string error_;
};

}  // namespace faultline::vm
