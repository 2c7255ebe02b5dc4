// SPDX-License-Identifier: BSD-3-Clause
// The only place of this suite that knows which kernel it runs against: another kernel needs
// another version of this file, and the tests stay as they are.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_sys.h"

namespace faultline::seed {

using Sys = soft::SoftSys;

struct KernelOptions {
  std::uint32_t max_fault_abi = 1;  ///< 1: the seed; 2: also version 2
  bool quirks_v7 = false;
  std::uint32_t atc_entries = 0;
  std::function<void(std::size_t)> access_hook = {};
};

/// A kernel with two devices: kDeviceName[i] in group kGroup[i], StreamID kStreamId[i].
class KernelUnderTest {
 public:
  static constexpr const char* kDeviceName[2] = {"0000:00:01.0", "0000:00:02.0"};
  static constexpr unsigned kGroup[2] = {7, 8};
  static constexpr std::uint32_t kStreamId[2] = {0x18, 0x20};

  /// FAULTLINE_MUTATION in the environment names a deliberate mistake for the kernel to make.
  /// FAULTLINE_NO_QUIRKS keeps it from answering as v7's code did.
  explicit KernelUnderTest(const KernelOptions& options = {}) {
    soft::SoftKernelConfig config;
    for (std::size_t i = 0; i < 2; ++i) {
      config.devices.push_back({.name = kDeviceName[i],
                                .group = kGroup[i],
                                .stream_id = kStreamId[i],
                                .atc_entries = options.atc_entries});
    }
    config.max_fault_abi = options.max_fault_abi;
    config.quirks_v7 = options.quirks_v7 && std::getenv("FAULTLINE_NO_QUIRKS") == nullptr;
    config.access_hook = options.access_hook;
    if (const char* name = std::getenv("FAULTLINE_MUTATION")) {
      config.mutation = soft::mutation_named(name);
      if (config.mutation == soft::Mutation::kNone) {
        ADD_FAILURE() << "no mutation is called " << name;
      }
    }
    auto made = soft::SoftKernel::create(config);
    if (!made) {
      ADD_FAILURE() << made.error().message();
      std::abort();
    }
    kernel_ = std::move(*made);
    kernel_->start();
    sys_ = std::make_unique<Sys>(*kernel_);
  }

  Sys& sys() noexcept { return *sys_; }
  /// MSI messages of device i that reached the physical doorbell; there is no other way to see one.
  [[nodiscard]] std::uint64_t msi_count(std::size_t i) const noexcept {
    return kernel_->msi(i).count;
  }

 private:
  std::unique_ptr<soft::SoftKernel> kernel_;
  std::unique_ptr<Sys> sys_;
};

}  // namespace faultline::seed
