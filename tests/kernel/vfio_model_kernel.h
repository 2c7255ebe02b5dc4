// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>

#include "kernel/model/fl_region.h"
#include "tests/kernel/vfio_fake.h"

namespace faultline::testing {

/// FakeVfio with the fault regions of kernel/model in place of its own.
///
/// thread   produce() may run beside the consumer's calls: one lock, as in the kernel
class ModelKernel {
 public:
  static constexpr std::uint32_t kPage = 4096;

  ModelKernel(ScriptedSys& sys, FakeVfio& fake, std::uint32_t quirks)
      : sys_(sys), fake_(fake), memory_(new Memory) {
    std::memset(memory_.get(), 0, sizeof(Memory));
    const fl_region_memory memory{.prod = memory_->prod,
                                  .prod_size = (fake.max_abi == 1 ? 2U : 17U) * kPage,
                                  .cons = memory_->cons,
                                  .page_size = kPage};
    if (fl_region_init(&region_, &memory, fake.max_abi, quirks) != 0) std::abort();
    sys.on_pread = [this](int, void* out, std::size_t n, std::uint64_t at) {
      const std::scoped_lock lock(mutex_);
      const auto got = fl_region_read_prod(&region_, at - at_prod(), out, n);
      return static_cast<ssize_t>(got);
    };
    sys.on_pwrite = [this](int, const void* in, std::size_t n, std::uint64_t at) {
      const std::scoped_lock lock(mutex_);
      const auto put = fl_region_write_cons(&region_, at - at_cons(), in, n);
      fake_.abi = region_.abi;
      return static_cast<ssize_t>(put);
    };
    sys.on_mmap = [this](int, std::size_t, int, std::uint64_t at) {
      return reinterpret_cast<std::intptr_t>(at >= at_cons() ? memory_->cons + (at - at_cons())
                                                             : memory_->prod + (at - at_prod()));
    };
  }

  /// An event whose address is `tag`. False: it was dropped.
  bool produce(std::uint64_t tag) {
    const std::scoped_lock lock(mutex_);
    fl_event event{};
    event.w[0] = 0x10;                     // F_TRANSLATION, no SubstreamID
    event.w[1] = std::uint64_t{2} << 40U;  // CLASS IN
    event.w[2] = tag;
    switch (fl_region_produce(&region_, &event, ++time_)) {
      case FL_PRODUCED:
        if (signals) sys_.signal(fake_.irq_eventfd);
        return true;
      case FL_DROPPED_FULL:
        ++dropped_;
        return false;
      default:
        std::abort();
    }
  }

  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }
  bool signals = true;  ///< off where produce() runs beside the consumer: the eventfd has no lock

 private:
  struct alignas(kPage) Memory {
    unsigned char prod[17 * kPage];
    unsigned char cons[kPage];
  };
  static std::uint64_t at_prod() { return std::uint64_t{FakeVfio::kProdIndex} << 40U; }
  static std::uint64_t at_cons() { return std::uint64_t{FakeVfio::kConsIndex} << 40U; }

  ScriptedSys& sys_;
  FakeVfio& fake_;
  std::unique_ptr<Memory> memory_;
  fl_region region_{};
  std::mutex mutex_;
  std::uint64_t time_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace faultline::testing
