// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/resource.h>

#include <array>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bench/support/guest.h"
#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_sys.h"
#include "kernel/vfio/container.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/fault_regions.h"
#include "tests/kernel/soft_guest.h"

namespace faultline::bench {

/// Devices of a soft kernel, opened as the engine opens them: one container each.
///
/// Sys      SoftSys, or what behaves as one
/// errors   throws std::runtime_error with the one line of the part that failed
template <class Sys = soft::SoftSys>
class SoftRig {
 public:
  /// clock   the soft kernel's; empty: CLOCK_MONOTONIC
  explicit SoftRig(unsigned devices, std::function<Nanos()> clock = {}) {
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
      files.rlim_cur = files.rlim_max;
      setrlimit(RLIMIT_NOFILE, &files);
    }
    soft::SoftKernelConfig config;
    config.clock = std::move(clock);
    config.ledger_entries = 256;
    for (unsigned i = 0; i < devices; ++i) {
      config.devices.push_back({"device-" + std::to_string(i), i + 1, i + 1, 0});
    }
    kernel_ = must(soft::SoftKernel::create(config));
    sys_ = std::make_unique<Sys>(*kernel_);
    for (unsigned i = 0; i < devices; ++i) {
      containers_.push_back(must(vfio::Container<Sys>::open(*sys_)));
      auto& container = containers_.back();
      check(container.attach_group("/dev/vfio/" + std::to_string(i + 1)));
      check(container.set_nesting());
      files_.push_back(must(vfio::Device<Sys>::open(*sys_, container, config.devices[i].name)));
    }
  }

  vfio::FaultRegions<Sys> regions(vfio::AbiChoice abi) {
    return must(vfio::FaultRegions<Sys>::open(*sys_, files_, abi));
  }

  /// Give the first `devices` a stage 1 in which every address below 2^39 is a translation fault.
  void make_fault(Guest& guest, unsigned devices = 1) {
    soft::GuestTables tables(static_cast<std::byte*>(guest.ram_) + (8U << 20U), 1U << 20U,
                             Guest::kBase + (8U << 20U));
    tables.write_cd(1);
    Stage1Config config;
    config.mode = Stage1Config::Mode::kTranslate;
    config.cd_table = tables.cd();
    for (unsigned i = 0; i < devices; ++i) {
      check(containers_[i].map_dma(Gpa{Guest::kBase}, Guest::kSize, guest.ram_));
      if (const int rc = containers_[i].bind_stage1(config); rc != 0) {
        throw std::runtime_error("binding stage 1: " + std::to_string(rc));
      }
    }
  }

  soft::SoftKernel& kernel() { return *kernel_; }

 private:
  template <class T>
  static T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().what);
    return std::move(*result);
  }
  static void check(const Result<void>& result) {
    if (!result) throw std::runtime_error(result.error().what);
  }

  std::unique_ptr<soft::SoftKernel> kernel_;
  std::unique_ptr<Sys> sys_;
  std::vector<vfio::Container<Sys>> containers_;
  std::vector<vfio::Device<Sys>> files_;
};

}  // namespace faultline::bench
